#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An image is copied into the memory plugin, and another server serves its disk
# through the nbd plugin.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin memory
requires_plugin nbd
make_images
image=$tmp/images/mix.qcow2
start_nbdkit -P memory memory "$(stat -c %s "$image")"
nbdcopy "$image" "$uri"
start_nbdkit --filter="$filter" nbd socket="$tmp/memory.sock"
check_disk "$uri" mix
stop_nbdkit
