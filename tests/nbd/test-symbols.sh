#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdkit loads filters into one name space: only the needed symbols are
# exported.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_program nm
check_filter
nm -D --defined-only "$filter" | awk '{ print $3 }' | sort >"$tmp/symbols"
grep -q -x filter_init "$tmp/symbols" || fail "no filter_init"
if grep -v -x -E 'filter_init|qcow2_debug_[a-z0-9_]+' "$tmp/symbols"; then
    fail "more is visible than should be"
fi
