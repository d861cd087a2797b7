#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# "make distcheck" of the source archive: built in a folder of its own from
# sources that cannot be written, installed, uninstalled, and cleaned without
# leaving anything.  Of the tests there, one of each kind runs: the others run
# in "make check".

# shellcheck source=tests/packaging/lib.sh
. "$(dirname "$0")/lib.sh"
requires autoreconf automake make tar xz gcc pkg-config nbdkit

some="unit/meta/test-superblock crash/test-fsck models/test-models.sh"
some+=" nbd/test-extents.sh nbd/test-compress.sh tools/test-ctl-chain.sh"
some+=" scripts/test-install.sh style/test-headers.sh"

"$top_srcdir/scripts/package" tar --output "$tmp/out" > "$tmp/said" 2>&1 ||
    { cat "$tmp/said"; fail "scripts/package tar"; }
tar -C "$tmp" -xf "$tmp"/out/*.tar.xz
cd "$tmp"/nbdkit-qcow2-filter-*/
./configure -q > "$tmp/said" 2>&1 || { cat "$tmp/said"; fail "configure"; }
make -s -j"$(nproc)" distcheck TESTS="$some" > "$tmp/said" 2>&1 ||
    { tail -n 60 "$tmp/said"; fail "make distcheck"; }
grep -E '^# (TOTAL|PASS|SKIP|FAIL)' "$tmp/said"
grep -q '^# PASS: *[1-9]' "$tmp/said" || fail "no test has passed"
