#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Every header can be included first, and twice; the public one also in C++.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires gcc
set_cflags

# check_header DIR FILE: a file of only this header compiles.
check_header ()
{
    printf '#include "%s"\n#include "%s"\n' "$2" "$2" > "$tmp/alone.c"
    gcc "${cflags[@]}" "-I$1/core" "-I$1/filter" "-I$1" -Wall -Wextra -Werror \
        -Wno-unused-function -Wno-unused-parameter -Wno-unused-variable \
        -fsyntax-only "$tmp/alone.c"
}

check_cxx ()
{
    printf '#include "qcow2.h"\nint main () { return 0; }\n' > "$tmp/alone.cc"
    g++ "-I$1/core" -Wall -Wextra -Werror -fsyntax-only "$tmp/alone.cc"
}

for h in $(compilable h); do
    check_header "$top_srcdir" "$h" || fail "$h does not compile alone"
done
echo "ok: all headers compile alone"
requires g++
clean check_cxx "$top_srcdir"

mkdir -p "$tmp/tree/core/base"
echo 'static inline size_t f (void) { return 0; }' > "$tmp/tree/core/base/x.h"
planted "a header that needs another" "size_t" \
        check_header "$tmp/tree" core/base/x.h
echo 'int f (int class);' > "$tmp/tree/core/qcow2.h"
planted "a keyword of C++" "class" check_cxx "$tmp/tree"
