#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The number of requests to the plugin, which matters most over a network.
# shellcheck source=requests.sh source-path=SCRIPTDIR
source "$(dirname "$0")/requests.sh"

requires_qemu
requires_libnbd
requires_plugin file
M=$((1024 * 1024))
make_noise "$tmp/disk.raw" $((40 * M))

# The number of pieces of 2 MiB and of 32 MiB: qemu-img puts each L2 table, one
# per 32 KiB or 2 MiB, before the data that it maps.
for case in 512:64:1024 4k:1:16 64k:1:1 2M:1:1; do
    IFS=: read -r cluster_size of_2m of_32m <<<"$case"
    echo "clusters of $cluster_size, one after the other"
    make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -o cluster_size="$cluster_size"
    start_logged "$tmp/disk.qcow2"
    read_range 0 1
    at_most 6 Read "to open, and to find one byte"
    read_range $((4 * M)) $((2 * M))        # Maps what follows.
    forget
    read_range $((4 * M)) $((2 * M))
    expect "$of_2m" Read "2 MiB"
    forget
    read_range $((4 * M + 1234)) 4096
    expect 1 Read "4 KiB"
    logged | grep -q 'count=0x1000 ' || fail "4 KiB, not more"
    forget
    read_range $((4 * M + 4095)) 2
    expect 1 Read "2 bytes in two clusters"
    read_range 0 $((32 * M))                # Maps it.
    forget
    read_range 0 $((32 * M))
    at_most $((of_32m + 1)) Read "32 MiB"
    stop_nbdkit
done

echo "an L2 table is read once, in a few pieces"
make_image "$tmp/disk.qcow2" "$tmp/disk.raw"
start_logged "$tmp/disk.qcow2"
nbdtool compare "$uri" "$tmp/disk.raw" --connections 1 --reads 0
forget
nbdtool compare "$uri" "$tmp/disk.raw" --connections 4 --reads 100
expect $((40 / 4 + 100)) Read "everything is mapped"
stop_nbdkit

for type in zlib zstd; do
    echo "compressed clusters, adjacent in the file: $type"
    "$PYTHON" -c "import build; print(build.text_block(0, 8 << 20).decode(), end='')" \
        >"$tmp/disk.raw"
    make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -c -o compression_type=$type
    start_logged "$tmp/disk.qcow2"
    read_range 0 $M
    forget
    read_range 0 $M
    at_most 16 Read "1 MiB in 16 compressed clusters"
    forget
    read_range 70000 100
    expect 1 Read "100 bytes in a compressed cluster"
    stop_nbdkit
done

echo "what is not there costs nothing"
qemu-img create -q -f qcow2 "$tmp/empty.qcow2" 1T
qemu-io -f qcow2 "$tmp/empty.qcow2" -c 'write -q -z 0 4M' -c 'write -q 8M 64k'
start_logged "$tmp/empty.qcow2"
nbdtool read "$uri" 0 1 >/dev/null
forget
nbdtool read "$uri" 0 $((4 * M)) | cmp -n $((4 * M)) - /dev/zero
nbdtool read "$uri" $((16 * M)) $((16 * M)) | cmp -n $((16 * M)) - /dev/zero
nbdtool read "$uri" $((512 * 1024 * M)) $M | cmp -n $M - /dev/zero
expect 0 Read "zeros and unallocated clusters"
