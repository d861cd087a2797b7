#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Nothing to report from clang's static analyser, which stops looking at a
# function after so many steps; test-clang-analyzer-long.sh lets it take all it
# would, which is several times as long.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires clang
set_cflags
copy_for_analysis "$tmp/tree"

check_clang_analyzer ()
{
    local report

    report=$(for_each_file clang --analyze --analyzer-output text \
                 -Xclang -analyzer-config \
                 -Xclang "max-nodes=${ANALYZER_NODES:-20000}" \
                 "${cflags[@]}" -o /dev/null 2>&1 |
                 { grep -E ': (warning|error): ' || :; } |
                 (cd "$tree" && without_cleanup_leaks))
    [ -z "$report" ] || { echo "$report"; return 1; }
}

clean check_clang_analyzer < <(compilable c)

echo 'int f (int *p) { if (!p) return *p; return 0; }' > "$tmp/bad.c"
planted "a null pointer" "null pointer" check_clang_analyzer <<< "$tmp/bad.c"

cat > "$tmp/bad.c" <<'END'
#include <stdlib.h>
void f (void) { char *p = malloc (1); p[0] = 0; }
END
planted "a leak" "leak of memory" check_clang_analyzer <<< "$tmp/bad.c"
