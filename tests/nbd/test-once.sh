#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdkit loads the filter's file only once: using the filter twice in a chain
# is refused, with a message that says what to do instead.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_plugin null
if run_nbdkit --filter="$filter" --filter="$filter" null \
        --run true >"$tmp/log" 2>&1; then
    fail "the filter was loaded twice"
fi
cat "$tmp/log"
grep -q "only once" "$tmp/log" || fail "no message"
