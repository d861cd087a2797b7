#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An image that turns out to be corrupt while it is served: who is connected to
# the control socket is told once, who asks later is told, too, and nothing is
# written to it any more.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl

# damage COMPAT: the first cluster of $tmp/disk lies where a refcount block is.
damage ()
{
    rm -f "$tmp/disk"
    qemu-img create -q -f qcow2 -o compat="$1" "$tmp/disk" 16M
    qemu-io -f qcow2 -c 'write -q -P 7 0 1M' "$tmp/disk"
    "$PYTHON" - "$tmp/disk" <<'EOT'
import struct
import sys

with open(sys.argv[1], "r+b") as disk:
    def number(at):
        disk.seek(at)
        return struct.unpack(">Q", disk.read(8))[0]

    block = number(number(48))
    l2_table = number(number(40)) & ~(1 << 63)
    disk.seek(l2_table)
    disk.write(struct.pack(">Q", 1 << 63 | block))
EOT
}

for compat in 1.1 0.10; do
    echo "compat=$compat"
    damage "$compat"
    start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control"
    PYTHONPATH=$nbddir "$PYTHON" - "$sock" "$control" "$ctl" \
        >"$tmp/said" 2>&1 <<'EOT' || fail "$(cat "$tmp/said")"
import subprocess
import sys

import nbd
from qmp_client import QMP


def corrupt(qmp):
    (image,) = qmp.ok("x-q2-query-images")
    return image["corrupt"], image.get("why-corrupt")


def refused(function):
    try:
        function()
    except nbd.Error:
        return True
    return False


watcher = QMP(sys.argv[2], timeout=20)
other = QMP(sys.argv[2], negotiate=False)
h = nbd.NBD()
h.connect_unix(sys.argv[1])
h.pwrite(b"a" * 4096, 65536)
h.flush()
assert corrupt(watcher) == (False, None), corrupt(watcher)
assert not watcher.events, watcher.events

assert refused(lambda: h.pwrite(b"b" * 4096, 0))
event = watcher.read_event()
assert event["event"] == "X_Q2_CORRUPT", event
reason = event["data"].pop("reason")
assert "refcount" in reason, reason
assert event["data"] == {"device": ""}, event

# Once, however often clients try.
for at in 0, 65536, 0:
    assert refused(lambda at=at: h.pwrite(b"c" * 4096, at))
assert h.pread(4096, 65536) == b"a" * 4096
late = QMP(sys.argv[2])
assert corrupt(watcher) == corrupt(late) == (True, reason), corrupt(late)
assert not watcher.events + late.events, (watcher.events, late.events)
said = subprocess.run([sys.argv[3], "-S", sys.argv[2], "info", ""],
                      check=True, stdout=subprocess.PIPE, text=True).stdout
assert f"corrupt: {reason}" in said, said
# Nothing is told to who has not negotiated.
other.ok("qmp_capabilities")
assert not other.events, other.events
assert refused(lambda: h.pwrite(b"d" * 4096, 0))
assert corrupt(other)[0] and not other.events, other.events
EOT
    stop_nbdkit
done

echo "an image that is marked already"
damage 1.1
qemu-io -f qcow2 -c 'write -q 0 4k' "$tmp/disk" >"$tmp/said" 2>&1 || :
start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control"
"$PYTHON" "$nbddir/qmp_client.py" "$control" x-q2-query-images,device= \
    >"$tmp/said"
has '"corrupt": true' "it is not said to be corrupt"
stop_nbdkit
