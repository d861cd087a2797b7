#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Opening a remote image and reading its first sector take one request if all
# is at the head of the file, as qemu-img makes it, and else two; the second
# connection takes none.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

make_noise "$tmp/disk.raw" $((8 * M))

# check MOST WHAT [qemu-img's options...]
check ()
{
    local most=$1 what=$2

    shift 2
    rm -f "$tmp/disk.qcow2"
    make_image "$tmp/disk.qcow2" "$tmp/disk.raw" "$@"
    if [ "$what" = snapshots ]; then
        qemu-img snapshot -c one "$tmp/disk.qcow2"
        qemu-img bitmap --add "$tmp/disk.qcow2" bitmap
        qemu-io -f qcow2 -c 'write -q -P 1 4M 64k' "$tmp/disk.qcow2"
        qemu-img snapshot -c two "$tmp/disk.qcow2"
        qemu-img convert -f qcow2 -O raw "$tmp/disk.qcow2" "$tmp/disk.raw"
    fi
    start_remote 5ms "$tmp/disk.qcow2"
    read_range 0 512
    echo "$what: $(requests Read) to open and read a sector"
    at_most "$most" Read "$what"
    forget
    read_range 0 512
    nbdtool size "$uri" >/dev/null
    expect 0 Read "$what: the next connection, the same sector"
    stop_nbdkit
}

for cluster_size in 512 1k 4k 16k 128k 256k 1M 2M; do
    check 2 "clusters of $cluster_size" -o cluster_size=$cluster_size
done
check 1 "clusters of 64k"
check 1 "version 2" -o compat=0.10
check 1 "extended L2" -o extended_l2=on
check 1 "compressed" -c
check 1 "compressed with zstd" -c -o compression_type=zstd
check 1 "preallocated" -o preallocation=falloc
# The L1 table is copied to the end of the file.
check 2 snapshots

echo "several first connections at once open the image once"
start_remote 20ms "$tmp/disk.qcow2"
nbdtool compare "$uri" "$tmp/disk.raw" --connections 8 --reads 0
opened=$(opens)
[ "$opened" -eq 1 ] || fail "$opened times"

echo "a client that probes, leaves, and comes back for the map"
make_image "$tmp/disk.qcow2" "$tmp/disk.raw"
qemu-img resize -q -f qcow2 "$tmp/disk.qcow2" 400G
stop_nbdkit
start_remote 5ms "$tmp/disk.qcow2"
nbdinfo --size "$uri" >/dev/null
forget
nbdinfo --map --totals "$uri" >/dev/null
expect 0 Read "the map of a disk with one L2 table, after a probe"
