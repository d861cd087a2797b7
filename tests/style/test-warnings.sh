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

# Those that ask for one of the libraries, or include a header that does; for
# the others the compiler sees the same, whichever there are.
affected ()
{
    local macros='HAVE_(ZLIB|LIBDEFLATE|ZSTD|NETTLE)\b' before='' words

    words=$macros
    while [ "$words" != "$before" ]; do
        before=$words
        words=$macros$(cd "$top_srcdir" && compilable h |
            xargs grep -lE "$words" | sed -E 's,^(core|filter)/(.*),|"\2",; s,^host/.*,|"&",' |
            sort | tr -d '\n')
    done
    compilable c | (cd "$top_srcdir" && xargs grep -lE "$words")
}

# check_all CC DIR-OF-CONFIG.H FILES: a command that lists them.
# The parameters of nbdkit's callbacks are fixed.
check_all ()
{
    $3 | { grep ^core/ || :; } | check_warnings "$1" "$2" &&
        $3 | { grep -E '^(host|filter)/' || :; } |
            check_warnings "$1" "$2" -Wno-unused-parameter
}

all ()
{
    compilable c
}

[ "$(affected | grep -c ^core/codec/)" -gt 3 ] ||
    fail "these files do not ask for libraries: $(affected)"
for cc in "${compilers[@]}"; do
    clean check_all "$cc" "$top_builddir" all
    clean check_all "$cc" "$tmp/none" affected

    echo 'static int unused; int f (void) { int x; return x; }' \
         > "$tmp/bad.c"
    planted "a bad file" "uninitialized" check_warnings "$cc" "$tmp/none" \
            <<< "$tmp/bad.c"
done
[ ${#compilers[@]} -eq 2 ] || skip "needs gcc and clang"
