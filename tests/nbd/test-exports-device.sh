#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An image on a block device that is overwritten while no client is connected:
# the device cannot tell, so nothing of it may be cached.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
[ "$(id -u)" -eq 0 ] || skip "needs to be root, to make a loop device"
for i in 1 2; do
    make_disk "$tmp/$i.raw" 4194304 65536 "$i"
    make_image "$tmp/$i.qcow2" "$tmp/$i.raw"
    truncate -s 8M "$tmp/$i.qcow2"
done
truncate -s 8M "$tmp/device"
loop=$(losetup --find --show "$tmp/device") ||
    skip "the kernel has no loop devices to spare"
cleanup_fn losetup --detach "$loop"

dd if="$tmp/1.qcow2" of="$loop" bs=1M conv=fsync status=none
start_nbdkit --filter="$filter" file "$loop"
nbdtool compare "$uri" "$tmp/1.raw" --reads 20
dd if="$tmp/2.qcow2" of="$loop" bs=1M conv=fsync status=none
nbdtool compare "$uri" "$tmp/2.raw" --reads 20
stop_nbdkit
