#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# No line of the C sources is longer than 79 columns.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"
requires awk

# shellcheck disable=SC2016         # awk's variables, not ours.
check_columns ()
{
    local found

    found=$(cd "$1" && { c_files c "$1"; c_files h "$1"; } |
                xargs awk 'length ($0) > 79 { print FILENAME ":" FNR ": " $0 }')
    [ -z "$found" ] || {
        echo "$found"
        return 1
    }
}

clean check_columns "$top_srcdir"
mkdir "$tmp/tree"
cp -R "$top_srcdir/core" "$top_srcdir/host" "$top_srcdir/filter" "$tmp/tree/"
chmod -R u+w "$tmp/tree"
printf '/* %080d */\n' 0 >> "$tmp/tree/filter/share/state.c"
planted "a long line" 'filter/share/state.c' check_columns "$tmp/tree"
