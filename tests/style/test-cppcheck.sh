#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Nothing to report from cppcheck.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires cppcheck
set_cflags

# Without the system's headers it checks our code only, and guesses the rest;
# it must not complain about that, nor (since 2.13) say of each large file that
# it does not follow all branches, nor (since 2.18) that a condition has no
# attributes.
check_cppcheck ()
{
    local report

    # Not all of the top: config.h must not be found there.
    mkdir -p "$tmp/include"
    ln -sfn "$(cd "$1/host" && pwd)" "$tmp/include/host"
    report=$(cd "$1" && find core host filter tools -name '*.c' | sort |
        cppcheck --quiet --file-list=- --std=c11 --language=c \
            --enable=warning,performance,portability --inline-suppr \
            --suppress=missingIncludeSystem \
            --suppress=invalidFunctionArg:*/base/buffer.h \
            --suppress=memleak:*/base/buffer.h --suppress=missingInclude \
            --suppress=invalidFunctionArg:*/base/secret.h \
            --suppress=invalidFunctionArg:*secrets.c \
            --suppress=invalidFunctionArg:*bounce.c \
            --suppress=readdirCalled:*/holders.c \
            --suppress=normalCheckLevelMaxBranches \
            --library=posix -D__GNUC__ -DHAVE_ZLIB -DHAVE_LIBDEFLATE \
            -D'pthread_cond_init(cond, attributes)=0' \
            -DHAVE_ZSTD -DHAVE_NETTLE -DPACKAGE_VERSION='""' \
            -I"$tmp/include" -Icore -Ifilter -Itools/qcow2ctl \
            -j "$(nproc)" \
            --template='{file}:{line}: {severity}: {message}' 2>&1 |
        without_cleanup_leaks)
    [ -z "$report" ] || { echo "$report"; return 1; }
}

clean check_cppcheck "$top_srcdir"

mkdir -p "$tmp/tree/core/base" "$tmp/tree/filter" "$tmp/tree/host" \
      "$tmp/tree/tools"
echo 'int f (void) { int a[2] = { 0, 1 }; return a[2]; }' \
     > "$tmp/tree/core/base/bad.c"
planted "an index out of bounds" "out of bounds" check_cppcheck "$tmp/tree"
