#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Flipped bits in the metadata of small images; see damage_check.py.  Another
# range of seeds: SEED=FIRST COUNT=NUMBER.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
mkdir "$tmp/images"
start_nbdkit --filter="$filter" file dir="$tmp/images"
timeout $((patience * 30)) \
    "$PYTHON" "$nbddir/damage_check.py" bitflip "$sock" "$tmp/images" \
    "${SEED:-1}" "${COUNT:-600}"
