#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Other filters between ours and the plugin.
# shellcheck source=filters.sh source-path=SCRIPTDIR
source "$(dirname "$0")/filters.sh"

requires_qemu
requires_libnbd
requires_plugin file
for name in cow cache readahead partition offset delay retry error; do
    requires_filter "$name"
done
make_disk "$tmp/disk.raw" $((4 * 1024 * 1024))
make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -c

echo "cow, cache, readahead, all three, delay"
for filters in cow cache readahead "cow cache readahead"; do
    # shellcheck disable=SC2086,SC2046     # Several arguments.
    start_nbdkit --filter="$filter" $(printf -- '--filter=%s ' $filters) \
        file "$tmp/disk.qcow2"
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 50
    stop_nbdkit
done
start_nbdkit --filter="$filter" --filter=delay file "$tmp/disk.qcow2" \
    delay-read=2ms delay-open=10ms
nbdtool compare "$uri" "$tmp/disk.raw" --reads 50
stop_nbdkit

echo "partition and offset: the image is a part of something"
"$PYTHON" - "$tmp" <<'END'
import struct
import sys
tmp = sys.argv[1]
image = open(f"{tmp}/disk.qcow2", "rb").read()
start, length = 2048, -(-len(image) // 512)
mbr = bytearray(512)
mbr[446:462] = struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3,
                           start, length)
mbr[510:] = b"\x55\xaa"
with open(f"{tmp}/whole", "wb") as file:
    file.write(mbr)
    file.seek(start * 512)
    file.write(image)
    file.truncate((start + length) * 512 + 12345)
END
start_nbdkit --filter="$filter" --filter=partition file "$tmp/whole" \
    partition=1
nbdtool compare "$uri" "$tmp/disk.raw"
stop_nbdkit
start_nbdkit --filter="$filter" --filter=offset file "$tmp/whole" \
    offset=1M
nbdtool compare "$uri" "$tmp/disk.raw"
stop_nbdkit

echo "retry: failures that nobody notices"
start_nbdkit -v --filter="$filter" --filter=retry --filter=error \
    file "$tmp/disk.qcow2" retry-delay=1 retry-exponential=no \
    error-pread=EIO error-pread-rate=100% error-pread-file="$tmp/trigger"
touch "$tmp/trigger"
nbdtool compare "$uri" "$tmp/disk.raw" --reads 50 --connections 2 &
client=$!
wait_for grep -q 'retry 1' "$log"
rm "$tmp/trigger"
wait "$client"

echo "every filter, or some of them"
every_filter below

if [ -z "$instrumented" ]; then
    echo "what does not work"
    requires_filter tar
    requires_filter log
    what_fails
fi
