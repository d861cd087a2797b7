#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The engine, the programs and the unit tests build without nbdkit, and the
# unit tests pass with none of the optional libraries.  make check runs these
# tests in full, and with the libraries: here each of them runs, but does not
# do as often what it does again and again; and it is a debug build.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires autoreconf make gcc

# Not the flags and jobs of the make that runs this test.
unset MAKEFLAGS MFLAGS MAKELEVEL
copy_source "$tmp/src"
[ -x "$tmp/src/configure" ] || (cd "$tmp/src" && autoreconf -i)

# Unit tests are the C files that are tests.  Not those that take longest, and
# have one thread only.
mapfile -t units < <(cd "$tmp/src/tests" && compgen -G 'unit/*/test-*.c' |
                         sed 's/\.c$//' |
                         grep -vE '/test-(create|bitmaps|refusals)$')
[ ${#units[@]} -gt 0 ] || fail "there are no unit tests"

# The locks of the engine are checked as it runs.
options=(--without-nbdkit --without-zlib --without-libdeflate --without-zstd
         --without-nettle --without-libnbd --enable-debug-assertions)
mkdir "$tmp/build"
cd "$tmp/build"
{
    "$tmp/src/configure" --quiet --enable-werror CFLAGS="-g -O1" \
        "${options[@]}" &&
        make -s -j"$(nproc)" &&
        UNIT_SCALE=10 make -s -j"$(nproc)" -C tests check TESTS="${units[*]}" \
            check_PROGRAMS="${units[*]}"
} > log 2>&1 || {
    tail -n 60 log
    fail "configure ${options[*]}"
}
[ ! -e filter/.libs ] || fail "the filter was built without nbdkit"
[ "$(grep -lx ':test-result: PASS' tests/unit/*/*.trs | wc -l)" -gt 0 ] ||
    fail "no unit test passed"
