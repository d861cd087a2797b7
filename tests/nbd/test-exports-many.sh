#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# 1,000 snapshots: listed with a handful of requests to a slow host, which the
# next client need not repeat, and each of them served.  The list is bounded
# for any image.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

cat >"$tmp/many.py" <<'END'
import sys
from qsnap import Snapshots


def many(count: int) -> Snapshots:
    image = Snapshots(1 << 20)
    for number in range(count):
        image.write(number * 7 % 256, f"snapshot {number}\n".encode() * 9)
        image.snapshot(f"snap {number}".encode(), str(number + 1).encode(),
                       date=1700000000 + number)
    return image


if __name__ == "__main__":
    many(int(sys.argv[1])).save(sys.argv[2])
END
export PYTHONPATH=$PYTHONPATH:$tmp
"$PYTHON" "$tmp/many.py" 1000 "$tmp/many.qcow2"
qemu-img check -q "$tmp/many.qcow2" || broken "a wrong image"
qemu-img convert -f qcow2 -O raw -l "snap 500" "$tmp/many.qcow2" \
    "$tmp/snap500.raw"

echo "requests"
start_remote 20ms "$tmp/many.qcow2"
list
counts 1001
echo "$(requests Read) to list 1,000 snapshots"
at_most 4 Read "the list"
forget
nbdtool size "$uri" >/dev/null
expect 0 Read "a connection after the list"
nbdtool size "$(export_uri snapshot/snap%20500)" >/dev/null
echo "$(requests Read) to open one of them"
at_most 3 Read "opening a snapshot"
forget
nbdtool size "$(export_uri snapshot/snap%20500)" >/dev/null
expect 0 Read "a snapshot that was open"
nbdtool compare "$(export_uri snapshot/snap%20500)" "$tmp/snap500.raw" \
    --reads 0
list
counts 1001
[ "$(opens)" = 1 ] || fail "the image was opened $(opens) times"
stop_nbdkit

echo "each of them"
start_nbdkit -r -v -D nbdkit.backend.datapath=0 --filter="$filter" \
    file "$tmp/many.qcow2"
"$PYTHON" - "$sock" <<'END'
import sys
from exports_client import content, listing
from many import many
from nbdtool import connect

image = many(1000)
names = [name for name, _ in listing(sys.argv[1]) if name]
assert names == [f"snapshot/snap {number}" for number in range(1000)]
open_ones = []
for number, name in enumerate(names):
    handle = connect(sys.argv[1], name)
    assert content(handle) == image.content(number), name
    # Some stay for a while, more than are kept without clients.
    open_ones.append((handle, number))
    if len(open_ones) > 10:
        for index in (0, 4, 7):
            handle, at = open_ones.pop(index)
            assert handle.pread(1 << 20, 0) == image.content(at)
            handle.shutdown()
for handle, _ in open_ones:
    handle.shutdown()
END
[ "$(opens)" = 1 ] || fail "the image was opened $(opens) times"
stop_nbdkit
resident=$(grep -c 'snapshot/.*: opened:' "$log")
[ "$resident" -eq 1000 ] || fail "$resident snapshots were opened"

echo "more than a list can have"
"$PYTHON" "$tmp/many.py" 9500 "$tmp/toomany.qcow2"
mkdir "$tmp/images"
ln -s "$tmp/toomany.qcow2" "$tmp/images/1"
ln -s "$tmp/many.qcow2" "$tmp/images/2"
ln -s "$tmp/many.qcow2" "$tmp/images/3"
start_nbdkit -r --filter="$filter" file "$tmp/toomany.qcow2"
list
counts 9000
# Exports that are not listed exist.
nbdtool size "$(export_uri snapshot/snap%209499)" >/dev/null
stop_nbdkit
start_nbdkit -r --filter="$filter" file dir="$tmp/images"
list
counts 9000
for i in 1 2 3; do
    has_export $i
done
stop_nbdkit

echo "a table that is all the format allows, of snapshots that say nothing"
"$PYTHON" - "$tmp/hostile.qcow2" <<'END'
import sys
from qsnap import Snapshots

image = Snapshots(1 << 20, 16)
for number in range(65536):
    image.snapshot(b"same", b"same" if number else b"first")
image.save(sys.argv[1])
END
start_nbdkit -r --filter="$filter" file "$tmp/hostile.qcow2"
SECONDS=0
list
counts 3
has_export snapshot/same
has_export snapshot-id/same
[ $SECONDS -lt "$patience" ] || fail "the list took $SECONDS seconds"
stop_nbdkit
