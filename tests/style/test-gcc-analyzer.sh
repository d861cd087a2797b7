#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Nothing to report from gcc's static analyser.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires gcc
set_cflags
echo 'int main (void) { return 0; }' > "$tmp/empty.c"
gcc -fanalyzer -c -o /dev/null "$tmp/empty.c" 2>/dev/null ||
    skip "needs a gcc with -fanalyzer"

copy_for_analysis "$tmp/tree"

check_gcc_analyzer ()
{
    for_each_file gcc -fanalyzer -Werror "${cflags[@]}" -O1 -c -o /dev/null
}

clean check_gcc_analyzer < <(compilable c)

cat > "$tmp/bad.c" <<'END'
#include <stdlib.h>
void f (char *p) { free (p); free (p); }
END
planted "a double free" "double-" check_gcc_analyzer <<< "$tmp/bad.c"
