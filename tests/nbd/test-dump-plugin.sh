#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdkit --dump-plugin lists the optional features that were built in.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_nbdkit 1 36
run_nbdkit --dump-plugin --filter="$filter" null >"$tmp/dump"
for key in version zlib libdeflate zstd luks control; do
    grep -q "^qcow2_$key=" "$tmp/dump" || fail "no qcow2_$key"
done
grep -E -q '^qcow2_version=[0-9]+\.[0-9]+\.[0-9]+' "$tmp/dump" ||
    fail "the version"
if grep -E '^qcow2_(zlib|libdeflate|zstd|luks|control)=' "$tmp/dump" |
        grep -v -E '=(yes|no)$'; then
    fail "neither yes nor no"
fi
