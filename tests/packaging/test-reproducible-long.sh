#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Packages that are built twice, from copies of the sources in folders of other
# names, at another time of another zone, by a user with another umask, have the
# same bytes.

# shellcheck source=tests/packaging/lib.sh
. "$(dirname "$0")/lib.sh"
requires autoreconf automake make tar xz dpkg-query dpkg-buildpackage cmp

"$top_srcdir/scripts/package" tar --output "$tmp/archive" > "$tmp/said" 2>&1 ||
    { cat "$tmp/said"; fail "scripts/package tar"; }

# copy FOLDER: the sources, as they were at the start.
copy ()
{
    mkdir -p "$1"
    tar -C "$1" --strip-components=1 -xf "$tmp"/archive/*.tar.xz
    tree=$1
}

copy "$tmp/one"
if ! "$tree/scripts/package" deb --no-install --output "$tmp/first" \
        > "$tmp/said" 2>&1; then
    if grep 'packages are missing' "$tmp/said"; then
        skip "packages for building are missing"
    fi
    tail -n 40 "$tmp/said"
    fail "scripts/package deb"
fi
sleep 2
copy "$tmp/another, longer folder"
(
    umask 027
    export TZ=Pacific/Kiritimati LC_ALL=C.UTF-8
    "$tree/scripts/package" deb --no-install --output "$tmp/second" \
        > "$tmp/said" 2>&1 ||
        { tail -n 40 "$tmp/said"; fail "scripts/package deb"; }
)

nr=0
for f in "$tmp"/first/*.deb "$tmp"/first/*.tar.xz; do
    cmp "$f" "$tmp/second/${f##*/}" || fail "${f##*/} differs"
    echo "the same: ${f##*/}"
    nr=$((nr + 1))
done
[ "$nr" -ge 3 ] || fail "only $nr files were compared"
