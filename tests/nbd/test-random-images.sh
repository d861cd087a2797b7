#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Random legal images; see random_check.py.  Another range of seeds: SEED=FIRST
# COUNT=NUMBER.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_libnbd
requires_plugin file
mkdir "$tmp/images"
start_nbdkit -r --filter="$filter" file dir="$tmp/images"
timeout $((patience * 30)) \
    "$PYTHON" "$nbddir/random_check.py" "$sock" "$tmp/images" \
    "${SEED:-1}" "${COUNT:-150}"
