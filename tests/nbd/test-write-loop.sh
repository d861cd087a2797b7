#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Images on real block devices, with sectors of 512 and of 4096 bytes: if a
# device refuses to zero an unaligned range, zeros are written instead.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

[ "$(id -u)" -eq 0 ] || skip "needs to be root, to make a loop device"
requires_program losetup blockdev

loop=''
detach ()
{
    [ -z "$loop" ] || losetup --detach "$loop"
    loop=''
}
cleanup_fn detach

# new_device SECTOR SIZE [FILE]: set $loop to a device with these sectors, on a
# new file that begins with the bytes of FILE.
new_device ()
{
    detach
    rm -f "$tmp/device"
    [ $# -lt 3 ] || cp --sparse=never "$3" "$tmp/device"
    truncate -s "$2" "$tmp/device"
    loop=$(losetup --find --show --sector-size "$1" "$tmp/device" \
        2>"$tmp/losetup.log") ||
        skip "the kernel has no loop devices to spare with sectors of $1" \
            "bytes: $(cat "$tmp/losetup.log")"
    # An old kernel may ignore the sector size.
    [ "$(blockdev --getss "$loop")" -eq "$1" ] ||
        skip "the kernel makes no loop devices with sectors of $1 bytes"
}

# Garbage, so that unwritten bytes are not zeros by chance.
dirty_device ()
{
    tr '\0' '\252' </dev/zero | dd of="$loop" bs=1M iflag=fullblock \
        oflag=seek_bytes seek="$1" conv=fsync status=none 2>"$tmp/dd.log" ||
        grep -q 'No space left' "$tmp/dd.log" || fail "$(cat "$tmp/dd.log")"
}

# min_block: the plugin's minimum block size, if any.
min_block ()
{
    local min

    start_nbdkit -P plain file "$loop"
    min=$("$PYTHON" -c '
import nbd, sys
handle = nbd.NBD()
handle.connect_uri(sys.argv[1])
print(handle.get_block_size(nbd.SIZE_MINIMUM))' "$uri")
    stop_nbdkit plain
    echo "$min"
}

# smaller_than_sectors: an image with clusters of 512 bytes on sectors of 4096.
# Later versions of the plugin ask for whole sectors.
smaller_than_sectors ()
{
    if [ "$(min_block)" -le 512 ]; then
        on_device 4096 cluster_size=512
        return
    fi
    echo "clusters that are smaller than a sector"
    new_image 60M -o cluster_size=512
    new_device 4096 80M "$tmp/disk.qcow2"
    start_nbdkit --filter="$filter" file "$loop"
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 50
    stop_nbdkit
    has_logged 'is served read-only: the minimum block size'
}

# on_device SECTOR OPTIONS: write to an image, mostly unaligned.
on_device ()
{
    echo "sectors of $1 bytes, $2"
    new_image 60M -o "$2"
    new_device "$1" 80M "$tmp/disk.qcow2"
    dirty_device "$(stat -c %s "$tmp/disk.qcow2")"
    start_nbdkit --filter="$filter" file "$loop"
    writetool "$uri" --raw "$tmp/disk.raw" \
        w:512:512:1 w:6M:512:2 w:8389000:700:3 f \
        w:12M:3M:4 w:19922945:1:5 Z:20M:100k z:13M:1000 Z:12583000:70000 \
        t:12M:2M fua:w:31457000:1200:6 fast:Z:40M:8M w:44M:512:7 \
        w:62914559:1:8
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 50
    stop_nbdkit
    check_image_of "$loop"
}

# data_on_device SECTOR OPTIONS: the same for a data file, which another server
# serves from the device.
data_on_device ()
{
    echo "sectors of $1 bytes, data file, $2"
    rm -f "$tmp/disk.qcow2" "$tmp/disk.raw" "$tmp/data"
    qemu-img create -q -f qcow2 -o "data_file=$tmp/data,$2" \
        "$tmp/disk.qcow2" 60M
    truncate -s 60M "$tmp/disk.raw"
    new_device "$1" 60M
    start_nbdkit -P lower file "$loop"
    start_nbdkit --filter="$filter" file "$tmp/disk.qcow2" \
        qcow2-data-file="$uri"
    writetool "$uri" --raw "$tmp/disk.raw" \
        w:512:512:1 w:1M:3M:2 Z:1500001:1000000 z:2500003:300001 f \
        w:8389000:700:3 Z:1048570:70000 t:2M:2M w:62914559:1:8
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 50
    stop_nbdkit
    stop_nbdkit lower
    if [[ "$2" = *data_file_raw=on* ]]; then
        cmp "$loop" "$tmp/disk.raw" || fail "the device is not the disk"
    fi
}

for sector in 512 4096; do
    on_device "$sector" cluster_size=2M
    on_device "$sector" cluster_size=512k,extended_l2=on,lazy_refcounts=on
    if [ "$sector" -eq 512 ]; then
        on_device "$sector" cluster_size=512
    else
        smaller_than_sectors
    fi
    data_on_device "$sector" cluster_size=2M
    data_on_device "$sector" cluster_size=64k,data_file_raw=on
done
