#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Reading ahead saves requests, can be turned off, turns itself off for random
# access, and never fetches zero or unallocated clusters.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

# sequential SIZE LENGTH: reads in sequence.
sequential ()
{
    "$PYTHON" - "$uri" "$tmp/disk.raw" "$@" <<'END'
import sys
from nbdtool import Raw, connect
handle, raw = connect(sys.argv[1]), Raw(sys.argv[2])
size, length = map(int, sys.argv[3:])
for offset in range(0, size, length):
    raw.check(offset, bytes(handle.pread(length, offset)))
handle.shutdown()
END
}

# at_random NUMBER LENGTH
at_random ()
{
    "$PYTHON" - "$uri" "$tmp/disk.raw" "$@" <<'END'
import random
import sys
from nbdtool import Raw, connect, read_many
handle, raw = connect(sys.argv[1]), Raw(sys.argv[2])
number, length = map(int, sys.argv[3:])
rng = random.Random(3)
read_many([handle], [(rng.randrange(raw.size // length) * length, length)
                     for _ in range(number)], raw.check)
handle.shutdown()
END
}

HEAD=$((512 * 1024))

echo "a plain image"
make_real "$tmp/disk.raw" $((64 * M))
make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -S 0
start_remote 5ms "$tmp/disk.qcow2"
sequential $((16 * M)) 65536
echo "256 reads of 64 KiB: $(requests Read) requests"
at_most 40 Read "256 sequential reads, read ahead"
# Bytes read ahead of the last read: 16 MiB at most.
bytes_at_most $((16 * M + 17 * M)) "16 MiB, read ahead"
stop_nbdkit
[ "$(stat_of 'read ahead' requests)" -gt 0 ] || fail "nothing was read ahead"

start_remote 5ms "$tmp/disk.qcow2" qcow2-readahead=0
sequential $((16 * M)) 65536
at_most 260 Read "256 sequential reads, not read ahead"
bytes_at_most $((16 * M + HEAD + 65536)) "16 MiB, not read ahead"
stop_nbdkit
[ "$(stat_of 'read ahead' requests)" -eq 0 ] ||
    fail "with qcow2-readahead=0 something was read ahead"

start_remote 2ms "$tmp/disk.qcow2"
at_random 500 4096
bytes_at_most $((500 * 4096 + HEAD + 3 * M)) "500 random reads of 4 KiB"
stop_nbdkit

echo "a compressed image"
make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -c -m 4
size=$(stat -c %s "$tmp/disk.qcow2")
start_remote 2ms "$tmp/disk.qcow2" qcow2-readahead=0
sequential $((64 * M)) 65536
bytes_at_most $((size + size / 10 + HEAD)) "a compressed disk, not read ahead"
stop_nbdkit
[ "$(stat_of 'read ahead' requests)" -eq 0 ] ||
    fail "with qcow2-readahead=0 something was read ahead"

start_remote 1ms "$tmp/disk.qcow2"
at_random 600 65536
# The filter needs some tens of MiB to find out that this does not pay.
bytes_at_most $((600 * 65536 + HEAD + 64 * M)) "random compressed clusters"
stop_nbdkit

echo "what is not there, or zero, is not fetched"
qemu-img create -q -f qcow2 "$tmp/holes.qcow2" 256M
# Of each 16 MiB: 1 MiB of data, 4 MiB of zeros in clusters of the file.
for ((i = 0; i < 16; i++)); do
    echo "write -q -P $((i + 1)) $((i * 16))M 1M"
    echo "write -q -P 99 $((i * 16 + 4))M 4M"
    echo "write -q -z $((i * 16 + 4))M 4M"
done | qemu-io -f qcow2 "$tmp/holes.qcow2" >/dev/null
qemu-img convert -f qcow2 -O raw "$tmp/holes.qcow2" "$tmp/disk.raw"
start_remote 2ms "$tmp/holes.qcow2"
sequential $((256 * M)) $((256 * 1024))
bytes_at_most $((16 * M + 2 * M)) "16 MiB of data among 240 of nothing"
