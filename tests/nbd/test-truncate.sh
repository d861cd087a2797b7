#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Small images cut at every 512 bytes; see damage_check.py.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
mkdir "$tmp/images"
start_nbdkit --filter="$filter" file dir="$tmp/images"
timeout $((patience * 20)) \
    "$PYTHON" "$nbddir/damage_check.py" truncate "$sock" "$tmp/images"
