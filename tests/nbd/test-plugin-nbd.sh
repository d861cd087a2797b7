#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over the nbd plugin: the image is served as bytes by qemu-nbd.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin nbd
make_images
for name in mix mix-extl2; do
    start_qemu_nbd "qemu-$name" "$tmp/images/$name.qcow2" raw
    start_nbdkit --filter="$filter" nbd socket="$tmp/qemu-$name.sock"
    check_disk "$uri" "$name"
    stop_nbdkit
done
