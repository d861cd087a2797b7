#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# No warnings from gcc or clang, with all of the optional libraries and with
# none of them.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
set_cflags

compilers=()
for cc in gcc clang; do
    if command -v "$cc" > /dev/null; then
        compilers+=("$cc")
    fi
done
[ ${#compilers[@]} -gt 0 ] || skip "needs gcc or clang"

mkdir "$tmp/none"
grep -vE '^#define HAVE_(ZLIB|LIBDEFLATE|ZSTD|NETTLE) ' "$top_builddir/config.h" \
     > "$tmp/none/config.h"

# check_warnings CC DIR-OF-CONFIG.H [OPTION...] < FILES With optimisation,
# since some warnings come from the optimiser.
check_warnings ()
{
    for_each_file "$1" "-I$2" "${cflags[@]}" -O2 -Wall -Wextra -Werror \
                  -Wshadow -Wstrict-prototypes "${@:3}" -c -o /dev/null
}

# The parameters of nbdkit's callbacks are fixed.
check_all ()
{
    compilable c | grep ^core/ | check_warnings "$1" "$2" &&
        compilable c | { grep ^filter/ || :; } |
            check_warnings "$1" "$2" -Wno-unused-parameter
}

for cc in "${compilers[@]}"; do
    clean check_all "$cc" "$top_builddir"
    clean check_all "$cc" "$tmp/none"

    echo 'static int unused; int f (void) { int x; return x; }' \
         > "$tmp/bad.c"
    planted "a bad file" "uninitialized" check_warnings "$cc" "$tmp/none" \
            <<< "$tmp/bad.c"
done
[ ${#compilers[@]} -eq 2 ] || skip "needs gcc and clang"
