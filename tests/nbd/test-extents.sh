#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Maps of huge and sparse disks, and odd ranges: the answers, and the number of
# requests to the plugin.
# shellcheck source=requests.sh source-path=SCRIPTDIR
source "$(dirname "$0")/requests.sh"

requires_qemu
requires_libnbd
requires_plugin file
T=$((1 << 40))

echo "1 TiB, sparse, through nbdinfo as through qemu-nbd"
qemu-img create -q -f qcow2 "$tmp/1T.qcow2" 1T
"$PYTHON" - >"$tmp/commands" <<'END'
import random
rng = random.Random(1)
for i in range(400):
    print(f"write -q -P {i % 255 + 1} {rng.randrange(1 << 24) << 16} "
          f"{rng.choice((512, 65536, 131072))}")
for i in range(100):
    print(f"write -q -z {rng.randrange(1 << 24) << 16} 128k")
END
qemu-io -f qcow2 "$tmp/1T.qcow2" <"$tmp/commands" >/dev/null
nbdinfo --map -- [ qemu-nbd -r -f qcow2 "$tmp/1T.qcow2" ] >"$tmp/qemu.map"
start_logged "$tmp/1T.qcow2"
nbdinfo --map "$uri" >"$tmp/our.map"
diff "$tmp/qemu.map" "$tmp/our.map" || fail "1 TiB: the maps differ"
[ "$(grep -c data "$tmp/our.map")" -gt 300 ] || fail "too few extents"
# Header and L1 table, and at most one piece per L2 table that exists.
at_most 600 Read "the map of 1 TiB"
forget
nbdinfo --map "$uri" >"$tmp/our.map"
expect 0 Read "the same again"

echo "questions of all kinds"
"$PYTHON" - "$uri" "$tmp/1T.qcow2" <<'END'
import random
import sys
import nbd
import oracle
from nbdtool import block_status, connect, merge

handle, image = connect(sys.argv[1]), oracle.Image(sys.argv[2])
size, rng = image.size, random.Random(2)
whole = image.extents()
starts, at = [], 0
for length, _ in whole:
    starts.append(at)
    at += length


def wanted(offset, count):
    """The oracle's answer for a range."""
    found = []
    for start, (length, flags) in zip(starts, whole):
        low, high = max(start, offset), min(start + length, offset + count)
        if low < high:
            found.append((high - low, flags))
    return found


def check(offset, count):
    answer = block_status(handle, count, offset)
    total = sum(length for length, _ in answer)
    assert 0 < total <= count, (offset, count, answer)
    assert merge(answer) == answer, "neighbours of the same type"
    assert answer == merge(wanted(offset, total)), (offset, count, answer)
    one = block_status(handle, count, offset, nbd.CMD_FLAG_REQ_ONE)
    assert len(one) == 1, one
    assert one[0][1] == answer[0][1] and 0 < one[0][0] <= count
    # Newer servers cut only the longer answer down to whole clusters.
    assert one[0][0] >= answer[0][0], (offset, count, one, answer)
    assert one == merge(wanted(offset, one[0][0])), (offset, count, one)


for _ in range(300):
    edge = rng.choice(starts + [rng.randrange(size)])
    offset = max(0, min(size - 1, edge + rng.randint(-3, 3)))
    count = rng.choice((1, 2, 511, 65536, 1 << 20, 1 << 30, (1 << 32) - 1,
                        rng.randrange(1, 1 << 32)))
    check(offset, min(count, size - offset))
check(size - 1, 1)
for offset, count in ((size, 1), (size - 1, 2), (0, 0)):
    try:
        answer = block_status(handle, count, offset)
    except nbd.Error:
        continue
    raise AssertionError(f"answered {answer} for {count} at {offset}")
handle.shutdown()
END
stop_nbdkit

echo "64 TiB, empty"
qemu-img create -q -f qcow2 "$tmp/64T.qcow2" 64T
start_logged "$tmp/64T.qcow2"
nbdinfo --map "$uri" >"$tmp/our.map"
[ "$(awk '{ print $1, $2, $3 }' "$tmp/our.map")" = "0 $((64 * T)) 3" ] ||
    fail "64 TiB: $(cat "$tmp/our.map")"
at_most 8 Read "the map of 64 TiB"
# The L1 table of 1 MiB is read where it is not a hole.
expect 1 Extents "the map of 64 TiB"
stop_nbdkit

echo "preallocated: the holes of the file are found, with few questions"
qemu-img create -q -f qcow2 -o preallocation=metadata "$tmp/pre.qcow2" 4G
qemu-io -f qcow2 "$tmp/pre.qcow2" -c 'write -q -P 1 1G 1M' \
    -c 'write -q -P 2 3G 64k'
start_logged "$tmp/pre.qcow2"
nbdtool map "$uri" >"$tmp/our.map"
stop_nbdkit
"$PYTHON" - "$tmp/our.map" "$tmp/pre.qcow2" <<'END'
import sys
G, M = 1 << 30, 1 << 20
data = [tuple(map(int, line.split())) for line in open(sys.argv[1])]
assert {flags for _, _, flags in data} == {0, 2}, data
inside = [(offset, length) for offset, length, flags in data if flags == 0]
# The file system's blocks, and runs too short to ask about, round it.
assert 0 < sum(length for _, length in inside) < 64 * M, inside
for start, end in ((G, G + M), (3 * G, 3 * G + 65536)):
    assert any(offset <= start and offset + length >= end
               for offset, length in inside), inside
END
at_most 40 Extents "the map of a preallocated disk"
