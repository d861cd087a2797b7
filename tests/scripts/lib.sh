# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# lib.sh - sourced by the tests of this folder, over that of tests/style.

script=$(realpath "$0")
# shellcheck disable=SC2034         # Tests use it.
python=${PYTHON:-/usr/bin/python3}
# shellcheck source=tests/style/lib.sh
. "$(dirname "$script")/../style/lib.sh"

# Makes 'tree', with the scripts/ of the sources and the filter of the build.
# The build is complete: scripts/setup has its own tests.
make_tree ()
{
    local so=$top_builddir/filter/.libs/nbdkit-qcow2-filter.so

    [ -f "$so" ] || skip "needs nbdkit to have built the filter for"
    tree=$tmp/tree
    mkdir -p "$tree/filter/.libs"
    cp -R "$top_srcdir/scripts" "$tree/"
    cp "$top_srcdir/README.md" "$top_srcdir/LICENSE" "$tree/"
    mkdir "$tree/docs"
    cp "$top_srcdir"/docs/*.md "$tree/docs/"
    ln -s "$so" "$tree/filter/.libs/"
    chmod -R u+w "$tree"
    printf '#!/bin/bash\necho "setup: ready"\n' > "$tree/scripts/setup"
}
