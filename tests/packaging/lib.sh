# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# lib.sh - sourced by the tests of this folder, over that of tests/style.

script=$(realpath "$0")
# shellcheck source=tests/style/lib.sh
. "$(dirname "$script")/../style/lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL
# Folders that a user's PATH may lack.
PATH=$PATH:/usr/sbin:/sbin

# The newest version of packaging/debian/changelog in the tree $1, without the
# revision of Debian's package.
debian_version ()
{
    sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' "$1/packaging/debian/changelog"
}

# readme_block SECTION KIND NUMBER: that block of a section of
# packaging/README.md, "console" for lines that people type, of which the
# prompts are left out, "sh" and "ini" for files.
readme_block ()
{
    awk -v section="## $1" -v kind="$2" -v number="$3" '
        /^## / { on = ($0 == section) }
        /^```$/ { take = 0 }
        take { sub (/^[#$] /, ""); print }
        on && $0 == "```" kind && ++found == number { take = 1 }' \
        "$top_srcdir/packaging/README.md"
}
