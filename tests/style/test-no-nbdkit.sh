#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The engine and its unit tests build and pass without nbdkit, with none of
# the optional libraries too.  make check runs these tests in full: here each
# of them runs, but does not do as often what it does again and again.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires autoreconf make gcc

# Not the flags and jobs of the make that runs this test.
unset MAKEFLAGS MFLAGS MAKELEVEL
copy_source "$tmp/src"
[ -x "$tmp/src/configure" ] || (cd "$tmp/src" && autoreconf -i)

# Unit tests are the C files that are tests.
mapfile -t units < <(cd "$tmp/src/tests" && compgen -G 'unit/*/test-*.c' |
                         sed 's/\.c$//')
[ ${#units[@]} -gt 0 ] || fail "there are no unit tests"

try ()
{
    local dir=$tmp/build$1

    shift
    mkdir "$dir"
    cd "$dir"
    {
        "$tmp/src/configure" --quiet --without-nbdkit --enable-werror \
            CFLAGS="-g -O1" "$@" &&
            make -s -j"$(nproc)" &&
            UNIT_SCALE=10 make -s -j"$(nproc)" -C tests check \
                TESTS="${units[*]}" check_PROGRAMS="${units[*]}"
    } > log 2>&1 || {
        tail -n 60 log
        fail "configure --without-nbdkit $*"
    }
    [ ! -e filter/.libs ] || fail "the filter was built without nbdkit"
    [ "$(grep -lx ':test-result: PASS' tests/unit/*/*.trs | wc -l)" -gt 0 ] ||
        fail "no unit test passed"
    echo "ok: configure --without-nbdkit $*"
}

try 1
try 2 --without-zlib --without-libdeflate --without-zstd \
    --without-nettle --without-libnbd
