#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Nothing to report from clang-tidy's checks for likely mistakes.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires clang-tidy
set_cflags

# Left out: parameters in an order that can be confused, macros whose arguments
# are types, narrowing and widening (gcc's -Wconversion checks core/), "_" in
# names; and of newer versions: assignments in conditions, which is how errors
# are passed on here, pointers to pointers as void *, which is what free () and
# qsort () take, and switches on numbers without a default.
checks='-*,bugprone-*,-bugprone-easily-swappable-parameters'
checks+=',-bugprone-macro-parentheses,-bugprone-narrowing-conversions'
checks+=',-bugprone-implicit-widening-of-multiplication-result'
checks+=',-bugprone-reserved-identifier'
checks+=',-bugprone-assignment-in-if-condition'
checks+=',-bugprone-multi-level-implicit-pointer-conversion'
checks+=',-bugprone-switch-missing-default-case'
checks+=',misc-redundant-expression,misc-unused-parameters'
checks+=',cert-err34-c,cert-flp30-c,readability-misleading-indentation'

check_clang_tidy ()
{
    # Options of the compiler come last.
    # shellcheck disable=SC2016
    for_each_file bash -c 'f=${*: -1}; set -- "${@:1:$#-1}"
        clang-tidy --quiet --warnings-as-errors="*" --checks="$0" "$f" \
            -- "$@" 2>/dev/null' "$1" "${cflags[@]}"
}

check_all ()
{
    compilable c | grep ^core/ | check_clang_tidy "$checks" &&
        compilable c | { grep -E '^(host|filter)/' || :; } |
            check_clang_tidy "$checks,-misc-unused-parameters"
}

clean check_all

echo 'int f (int x) { return x == x; }' > "$tmp/bad.c"
planted "a comparison of a thing with itself" "redundant" \
        check_clang_tidy "$checks" <<< "$tmp/bad.c"
