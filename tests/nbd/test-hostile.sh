#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Hostile images: refused with a message, or served with errors only in the
# damaged parts; see tests/lib/hostile_images.py.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
mkdir "$tmp/images"
make_standard_image
cp "$tmp/disk.qcow2" "$tmp/images/sound"
start_nbdkit --filter="$filter" file dir="$tmp/images"
timeout $((patience * 10)) \
    "$PYTHON" "$nbddir/hostile_check.py" "$sock" "$log" "$tmp/images"
# The server is still well.
nbdtool compare "$(export_uri sound)" "$tmp/disk.raw"
