#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# "make install" installs the right files (the completion of bash, too), "make
# uninstall" removes all of them, the filter prints its version, and
# nbd-apply-extents names what it needs if Python or libnbd's module is missing.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/../style/lib.sh"
requires make nbdkit
[ -f "$top_builddir/filter/.libs/nbdkit-qcow2-filter.so" ] ||
    skip "needs nbdkit to have built the filter for"
unset MAKEFLAGS MFLAGS MAKELEVEL

run_make ()
{
    make -s -C "$top_builddir" "$@" > "$tmp/log" 2>&1 || {
        tail -n 30 "$tmp/log"
        fail "make $*"
    }
}

# The filter, its man page and the tools with their own, and no more; units of
# systemd and a profile of AppArmor if configure was told to, as in distcheck.
expected='nbdkit-qcow2-filter\.(so|1|bash)|nbdkit-qcow2-migrating\.1'
expected+='|nbd-apply-extents(\.1)?|qcow2ctl(\.1)?'
expected+='|system/nbdkit-qcow2@\.(service|socket)'
expected+='|(sysusers|tmpfiles)\.d/nbdkit-qcow2\.conf'
expected+='|apparmor\.d/nbdkit-qcow2'

check_installed ()
{
    local name status=0

    (cd "$tmp/inst" && find . ! -type d) > "$tmp/files"
    for name in nbdkit-qcow2-filter.so nbd-apply-extents qcow2ctl; do
        grep -q "/$name\$" "$tmp/files" ||
            { echo "$name is not installed"; status=1; }
    done
    ! grep -vE "/($expected)\$" "$tmp/files" || status=1
    return "$status"
}

check_version ()
{
    local version
    version=$(sed -n 's/^#define PACKAGE_VERSION "\(.*\)"$/\1/p' \
                  "$top_builddir/config.h")

    [ -n "$version" ] || fail "no version in config.h"
    nbdkit --help --filter="$1" null | grep -F "qcow2 filter $version"
}

check_bug_reports ()
{
    "$1/configure" --help | grep -A 2 '^Report bugs to' > "$tmp/bugs" || :
    cat "$tmp/bugs"
    grep -q 'SECURITY\.md' "$tmp/bugs"
}

run_make install DESTDIR="$tmp/inst"
clean check_installed
so=$(find "$tmp/inst" -name nbdkit-qcow2-filter.so)
clean check_version "$so"
if [ -x "$top_srcdir/configure" ]; then
    clean check_bug_reports "$top_srcdir"
fi

tool=$(find "$tmp/inst" -name nbd-apply-extents)
: > "$tool-1.la"
planted "one more file" "nbd-apply-extents-1.la" check_installed
rm "$tool-1.la"

# Folders that stand for a machine without Python, and one without the module:
# only the programs in them are found.
mkdir "$tmp/bin" "$tmp/none"
printf '#!/bin/sh\nexit 1\n' > "$tmp/bin/python3"
chmod +x "$tmp/bin/python3"

apply_without ()
{
    local path=$1 text=$2 status=0

    # The first line names the interpreter, then comes the system's Python, for
    # which the copy has another path.
    sed "s|/usr/bin/python3|$tmp/none/python3|" "$tool" > "$tmp/apply"
    chmod +x "$tmp/apply"
    PATH=$path "$tmp/apply" nbd://x y > "$tmp/said" 2>&1 || status=$?
    cat "$tmp/said"
    [ "$status" -eq 1 ] && grep -q "^nbd-apply-extents: .*$text" "$tmp/said"
}

clean apply_without "$tmp/none" "Python 3.*python3-libnbd"
clean apply_without "$tmp/bin" "module.*python3-libnbd"
if "${PYTHON:-/usr/bin/python3}" -c 'import nbd' 2>/dev/null; then
    "$tool" --help | grep -q 'usage: nbd-apply-extents' ||
        fail "the tool does not run by itself"
    # Its arguments reach Python as they are.
    "$tool" 'nbd://a b' '*' > "$tmp/said" 2>&1 &&
        fail "it copied from nowhere"
    grep -qF 'nbd://a b' "$tmp/said" || fail "$(cat "$tmp/said")"
    echo "ok: the tool runs"
fi

run_make uninstall DESTDIR="$tmp/inst"
left=$(find "$tmp/inst" ! -type d)
[ -z "$left" ] || fail "make uninstall leaves $left"
echo "ok: make uninstall"
