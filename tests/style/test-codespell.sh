#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# No well-known misspellings in code, comments and documentation.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires codespell

check_spelling ()
{
    (cd "$1" && { find .github CONTRIBUTING.md README.md NEWS \
                       SECURITY.md core host filter docs packaging \
                       scripts tests tools configure.ac Makefile.am -type f \
                       2>/dev/null || :; } |
         grep -E '(\.([ch]|sh|py|md|pod|am|ac|mk)|/[a-zA-Z-]+|^[A-Z]+)$' |
         grep -vE '/(\.libs|\.deps|corpus|__pycache__)/|/Makefile$' |
         while IFS= read -r f; do
             if grep -qI . "$f"; then echo "$f"; fi
         done | xargs codespell)
}

clean check_spelling "$top_srcdir"

mkdir -p "$tmp/tree/core"
printf '/* It will %s. */\n' 'occu''red' > "$tmp/tree/core/bad.c"
planted "a misspelling" "occurred" check_spelling "$tmp/tree"
