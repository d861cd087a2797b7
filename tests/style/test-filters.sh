#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The tables of docs/FILTERS.md are those that tests/nbd/filters_table.py makes
# of what the tests of other filters expect.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"

python=${PYTHON:-/usr/bin/python3}
"$python" -c 'import nbd' 2> /dev/null || skip "no Python module nbd"
page=$top_srcdir/docs/FILTERS.md
export PYTHONPATH=$top_srcdir/tests/nbd:$top_srcdir/tests/lib
export PYTHONDONTWRITEBYTECODE=1

check_filters ()
{
    "$python" "$top_srcdir/tests/nbd/filters_table.py" check "$1"
}

clean check_filters "$page"
sed '/^| cow |/d' "$page" > "$tmp/page.md"
planted "a filter that is left out" "does not have: | cow |" \
        check_filters "$tmp/page.md"
sed '/^| retry |/s/only read/write, too/' "$page" > "$tmp/page.md"
planted "another result" "page.md has: | retry | clients can write" \
        check_filters "$tmp/page.md"
sed '/^| .--filter=qcow2 --filter=tar/s/ENOSPC/EIO/' "$page" > "$tmp/page.md"
planted "another error" "fail with EIO" check_filters "$tmp/page.md"
