#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test-filters-above.sh and -below.sh with every filter that is installed, and
# docs/FILTERS.md says what has been found.
# shellcheck source=filters.sh source-path=SCRIPTDIR
source "$(dirname "$0")/filters.sh"

for side in above below; do
    EVERY=1 "$nbddir/test-filters-$side.sh" | tee "$tmp/$side"
done
page=$top_srcdir/docs/FILTERS.md
filters_table found "$page" "$NBDKIT" "$tmp/above" "$tmp/below"

echo "it bites"
sed 's/^below cow: .*/below cow: works/' "$tmp/below" >"$tmp/other"
! filters_table found "$page" "$NBDKIT" "$tmp/above" "$tmp/other" \
    >"$tmp/said" || fail "another result is not noticed"
grep -q "cow below: works; the page says" "$tmp/said"
grep -v '^above log:' "$tmp/above" >"$tmp/other"
! filters_table found "$page" "$NBDKIT" "$tmp/other" "$tmp/below" \
    >"$tmp/said" || fail "a filter that was not tried"
grep -q "log above: not tried" "$tmp/said"
