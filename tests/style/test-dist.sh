#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# make distcheck passes, and the tarball holds every file that git knows.
# Long: distcheck runs all of make check again.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires git autoreconf make tar xz
git -C "$top_srcdir" rev-parse --is-inside-work-tree > /dev/null 2>&1 ||
    skip "not a git checkout, and only files that git knows are looked for"

unset MAKEFLAGS MFLAGS MAKELEVEL
copy_source "$tmp/src"
cd "$tmp/src"
{ autoreconf -i && ./configure --quiet; } > "$tmp/log" 2>&1 || {
    tail -n 60 "$tmp/log"
    fail "configure"
}

# Files for working on the sources with git are not for a release.
git -C "$top_srcdir" ls-files |
    grep -vE '(^|/)\.gitignore$|^\.ci/' | sort > "$tmp/known"

check_tarball ()
{
    make -s dist >> "$tmp/log" 2>&1 || { tail -n 60 "$tmp/log"; return 1; }
    tar -tf nbdkit-qcow2-filter-*.tar.xz | sed 's|^[^/]*/||' |
        sort > "$tmp/packed"
    comm -23 "$tmp/known" "$tmp/packed" > "$tmp/lost"
    sed 's/^/not in the tarball: /' "$tmp/lost"
    [ ! -s "$tmp/lost" ]
}

clean check_tarball
echo "scripts/new" >> "$tmp/known"
sort -o "$tmp/known" "$tmp/known"
planted "a file that is not packed" "scripts/new" check_tarball

make -s distcheck >> "$tmp/log" 2>&1 || {
    tail -n 100 "$tmp/log"
    fail "make distcheck"
}
echo "ok: make distcheck"
