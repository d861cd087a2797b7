#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2-cache-clean-interval: the memory of tables that nobody reads any more
# goes back to the system, while clients stay connected.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_libnbd

# 64M of L2 tables, of which as much is read as the cache can hold.
image=$tmp/disk.qcow2
"$top_builddir/tools/qcow2ctl/qcow2ctl" -q create \
    -o preallocation=metadata "$image" 512G

cat >"$tmp/client.py" <<'EOF'
import sys
import time
import nbd

uri, pid, interval, patience = sys.argv[1], *map(int, sys.argv[2:])


def resident():
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * 4096


h = nbd.NBD()
h.connect_uri(uri)
before = resident()
for at in range(0, h.get_size(), 64 << 20):
    assert h.pread(512, at) == bytes(512)
full = resident()
print(f"{(full - before) >> 20} MiB of tables")
assert full - before > 20 << 20, full - before
until = time.monotonic() + (patience if interval else 3)
while resident() > full - (16 << 20) and time.monotonic() < until:
    time.sleep(0.2)
now = resident()
print(f"{(now - before) >> 20} MiB are left")
assert (now < full - (16 << 20)) == (interval != 0), (full, now)
for at in range(0, h.get_size(), 64 << 20):
    assert h.pread(512, at) == bytes(512)
if not h.is_read_only():
    h.pwrite(b"x" * 512, (1 << 30) + 4096)
    h.flush()
    assert h.pread(512, (1 << 30) + 4096) == b"x" * 512
EOF

# Long enough to read all tables before the second sweep, on a busy machine, too.
for interval in 6 0; do
    for readonly in "" -r; do
        echo "interval $interval $readonly"
        # shellcheck disable=SC2086     # no word, or one
        start_nbdkit $readonly --filter="$filter" file "$image" \
            "qcow2-cache-clean-interval=$interval"
        "$PYTHON" "$tmp/client.py" "$uri" "$pid" "$interval" \
            "$patience"
        stop_nbdkit
    done
done
qemu-img check -q "$image"
