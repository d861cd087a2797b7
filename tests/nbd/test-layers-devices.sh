#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2-follow in a folder of block devices, as /dev/VG of LVM is: links to
# nodes elsewhere, which only root can make.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

[ "$(id -u)" -eq 0 ] || skip "needs to be root, to make loop devices"
requires_program losetup

ctl=$top_builddir/tools/qcow2ctl/qcow2ctl
devices=/dev/qcow2-test-$$
mkdir "$devices"
cleanup_fn rm -rf "$devices"

# device NAME: what is in $images/NAME, as a device with some room to spare.
device ()
{
    local loop

    truncate -s 16M "$images/$1"
    loop=$(losetup --show -f "$images/$1") ||
        skip "the kernel has no loop devices to spare"
    cleanup_fn losetup -d "$loop"
    ln -s "$loop" "$devices/$1"
}

cd "$images"
make_base raw 16777216
overlay mid raw raw 16M
overlay top mid qcow2 16M
overlay named mid qcow2 16M
truth top
set_names named --backing "$devices/mid"
qemu-img create -q -f qcow2 -o data_file=data tables 16M
for name in raw data mid top named tables; do
    device "$name"
done
name=

echo "one image"
serves file "$devices/top" qcow2-follow="$devices"
serves -r file "$devices/named" qcow2-follow="$devices"
"$ctl" --output json info --chain --follow "$devices" "$devices/top" |
    jq -r '.[].filename' | cmp - <(printf "$devices/%s\n" top mid raw) ||
    fail "qcow2ctl sees another chain"

echo "a folder of images"
start_nbdkit --filter="$filter" file dir="$devices" qcow2-follow="$devices"
for export in top named; do
    nbdtool compare "$(export_uri $export)" "$tmp/truth.raw"
done
cp "$tmp/truth.raw" "$tmp/disk.raw"
writetool "$(export_uri top)" --raw "$tmp/disk.raw" w:3M:64k:9 f
nbdtool compare "$(export_uri top)" "$tmp/disk.raw"
nbdtool compare "$(export_uri named)" "$tmp/truth.raw"
stop_nbdkit
qemu-img check -q -f qcow2 "$devices/top" || fail "qemu-img check: $?"

echo "no data file"
says "$devices/data, which the image names, is a device" \
    file "$devices/tables" qcow2-follow="$devices"
"$ctl" commit --follow "$devices" "$devices/top" >"$tmp/said" 2>&1 &&
    fail "a device that an image names was written to"
grep -q "$devices/mid, which the image names, is a device" "$tmp/said" ||
    fail "no reason: $(cat "$tmp/said")"

echo "no name that leads elsewhere"
set_names named --backing "../$(basename "$(readlink "$devices/mid")")"
says "leads out of the folder" file "$devices/named" qcow2-follow="$devices"
set_names named --backing null
ln -s /dev/null "$devices/null"
says "leads out of the folder" file "$devices/named" qcow2-follow="$devices"

echo "not by what is on the devices"
if [ -d /dev/disk ]; then
    cleanup_fn rm -rf "/dev/disk/qcow2-test-$$"
    cp -a "$devices" "/dev/disk/qcow2-test-$$"
    says "leads out of the folder" file "/dev/disk/qcow2-test-$$/top" \
        qcow2-follow="/dev/disk/qcow2-test-$$"
fi

echo "not where others can make names, and nowhere but in /dev"
chmod 1777 "$devices"
says "leads out of the folder" file "$devices/top" qcow2-follow="$devices"
chmod 755 "$devices"
chown 1 "$devices"
says "leads out of the folder" file "$devices/top" qcow2-follow="$devices"
chown 0 "$devices"
cp -a "$devices" "$tmp/elsewhere"
says "leads out of the folder" file "$tmp/elsewhere/top" \
    qcow2-follow="$tmp/elsewhere"
cp "$tmp/disk.raw" "$tmp/truth.raw"
serves file "$devices/top" qcow2-follow="$devices"
