#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Images that QEMU and this server use in turns, with the bitmaps of both, as
# libvirt has QEMU make and read them for its checkpoints and backups (and so
# oVirt, and virtnbdbackup): QMP commands to qemu-storage-daemon.  No libvirt
# is needed.  docs/BACKUP.md says what is tested here.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
requires_program qemu-storage-daemon
skip_if_instrumented "it is about what QEMU reads"

image=$tmp/vm.qcow2
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl
qemu-img create -q -f qcow2 "$image" 64M

# in_qemu: QEMU opens the image; the Python code of the input, with q() for
# commands and dirty (NAME) for the map of an export of a merged bitmap.
in_qemu ()
{
    cat >"$tmp/steps.py"
    "$PYTHON" - "$image" "$tmp" <<'END' || fail "$1"
import os
import subprocess
import sys
import time
import nbd
from qmp_client import QMP
image, tmp = sys.argv[1:]
path = tmp + "/qsd"
for name in (path, tmp + "/exported"):
    if os.path.exists(name):
        os.unlink(name)
daemon = subprocess.Popen(
    ["qemu-storage-daemon",
     "--blockdev", f"file,node-name=file,filename={image}",
     "--blockdev", "qcow2,node-name=disk,file=file",
     "--nbd-server", f"addr.type=unix,addr.path={tmp}/exported",
     "--chardev", f"socket,id=c,path={path},server=on,wait=off",
     "--monitor", "chardev=c"])
for _ in range(600):
    if os.path.exists(path) or daemon.poll() is not None:
        break
    time.sleep(0.05)
qmp = QMP(path)
q = qmp.ok

def act(*actions):
    q("transaction", actions=[{"type": t, "data": d} for t, d in actions])

def bitmaps():
    node = [n for n in q("query-named-block-nodes")
            if n["node-name"] == "disk"][0]
    return {b["name"]: b for b in node.get("dirty-bitmaps", [])}

def export(name, writable=False):
    q("block-export-add", id="e", type="nbd", writable=writable,
      **{"node-name": "disk", "name": "x",
         "bitmaps": [name] if name else []})

def dirty(*names):
    """What libvirt exports for a backup in pull mode: a bitmap that is not
    persistent, with all of these merged into it."""
    q("block-dirty-bitmap-add", node="disk", name="merged", disabled=True)
    q("block-dirty-bitmap-merge", node="disk", target="merged",
      bitmaps=list(names))
    export("merged")
    h = nbd.NBD()
    h.add_meta_context("qemu:dirty-bitmap:merged")
    h.set_export_name("x")
    h.connect_unix(tmp + "/exported")
    found, at = [], 0
    def extent(_context, offset, entries, _error):
        nonlocal at
        at = offset
        for length, flags in zip(entries[::2], entries[1::2]):
            if flags:
                found.append((at >> 10, length >> 10))
            at += length
    while at < h.get_size():
        h.block_status(h.get_size() - at, at, extent)
    h.shutdown()
    end_export()
    q("block-dirty-bitmap-remove", node="disk", name="merged")
    return found

def end_export():
    q("block-export-del", id="e", mode="hard")
    while q("query-block-exports"):
        time.sleep(0.01)

def write(at, byte):
    """At so many KiB, 64 KiB, as a guest."""
    export(None, True)
    h = nbd.NBD()
    h.set_export_name("x")
    h.connect_unix(tmp + "/exported")
    h.pwrite(bytes([byte]) * 65536, at << 10)
    h.shutdown()
    end_export()

try:
    exec(compile(open(tmp + "/steps.py").read(), "steps", "exec"))
    q("quit")
    assert daemon.wait() == 0
finally:
    if daemon.poll() is None:
        daemon.kill()
END
}

# here FUNCTION: in turn, this server has the image.
here ()
{
    start_nbdkit --filter="$filter" file "$image" qcow2-control="$control"
    "$1"
    stop_nbdkit
    qemu-img check -q "$image" || fail "qemu-img check: $?"
}

# ctl COMMAND ARGUMENT...: a command of qcow2ctl, to the server.
ctl ()
{
    "$ctl" -S "$control" "$@" || fail "qcow2ctl $*: $?"
}

# write_here MIB BYTE: 64 KiB.
write_here ()
{
    qemu-io -f raw -c "write -q -P $2 $1M 64k" "$uri"
}

echo "checkpoint 1, as libvirt makes one"
in_qemu "checkpoint 1" <<'END'
act(("block-dirty-bitmap-add", {"node": "disk", "name": "cp1",
                                "persistent": True, "granularity": 65536}))
write(1024, 1)
END

echo "we write, and begin a bitmap of ours"
begin_ours ()
{
    ctl bitmap add -g 64k "" ours
    write_here 2 2
}
here begin_ours

echo "QEMU goes on: checkpoint 2 ends the first bitmap, and both count"
in_qemu "checkpoint 2" <<'END'
assert set(bitmaps()) == {"cp1", "ours"}, bitmaps()
assert not any(b.get("inconsistent") for b in bitmaps().values()), bitmaps()
assert dirty("cp1") == [(1024, 64), (2048, 64)], dirty("cp1")
write(3072, 3)
act(("block-dirty-bitmap-add", {"node": "disk", "name": "cp2",
                                "persistent": True, "granularity": 65536}),
    ("block-dirty-bitmap-disable", {"node": "disk", "name": "cp1"}))
write(4096, 4)
END

echo "a checkpoint of ours, from our bitmap, with what QEMU has written"
checkpoint_of_ours ()
{
    ctl checkpoint --snapshot s1 --disable ours --add ours2 ""
    write_here 5 5
    nbdinfo --map "nbd+unix:///bitmap%2Fours@s1?socket=$sock" >"$tmp/map"
    ctl snapshot delete "" s1
}
here checkpoint_of_ours
awk '$3 == 0 { printf "%d+%d ", $1 / 1024, $2 / 1024 }' "$tmp/map" >"$tmp/said"
[ "$(cat "$tmp/said")" = "2048+64 3072+64 4096+64 " ] ||
    fail "ours: $(cat "$tmp/map")"

echo "a backup of QEMU's, since checkpoint 1 and since checkpoint 2"
in_qemu "a backup" <<'END'
assert set(bitmaps()) == {"cp1", "cp2", "ours", "ours2"}, bitmaps()
assert dirty("cp1") == [(1024, 64), (2048, 64), (3072, 64)], dirty("cp1")
assert dirty("cp2") == [(4096, 64), (5120, 64)], dirty("cp2")
assert dirty("cp1", "cp2") == [(k << 10, 64) for k in range(1, 6)]
assert dirty("ours2") == [(5120, 64)], dirty("ours2")
# As a checkpoint is deleted.
act(("block-dirty-bitmap-merge", {"node": "disk", "target": "cp2",
                                  "bitmaps": ["cp1"]}),
    ("block-dirty-bitmap-remove", {"node": "disk", "name": "cp1"}))
END

echo "and we have what it has made of them"
list_bitmaps ()
{
    ctl bitmap list "" >"$tmp/list"
}
here list_bitmaps
! grep -q cp1 "$tmp/list" || fail "$(cat "$tmp/list")"
grep -q 'cp2 .*enabled' "$tmp/list" || fail "$(cat "$tmp/list")"
[ "$(grep -c '^ours' "$tmp/list")" -eq 2 ] || fail "$(cat "$tmp/list")"

echo "we do not open it while QEMU has it, nor QEMU while we do"
start_nbdkit --filter="$filter" file "$image" qcow2-check-at-start=off
"$PYTHON" - "$uri" "$image" <<'END' || fail "locks"
import subprocess
import sys
import nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
said = subprocess.run(["qemu-img", "bitmap", "--remove", sys.argv[2], "cp2"],
                      stderr=subprocess.PIPE, text=True, check=False)
assert said.returncode == 1 and "lock" in said.stderr, said
h.shutdown()
END
in_qemu "locks" <<END
h = nbd.NBD()
try:
    h.connect_uri("$uri")
    raise SystemExit("it does")
except nbd.Error:
    pass
END
stop_nbdkit

echo "QEMU is killed: all are lost, whosever they were, disabled ones as well"
in_qemu "kill" <<'END' 2>/dev/null || true
write(6144, 6)
daemon.kill()
daemon.wait()
sys.exit(0)
END
qemu-img info "$image" >"$tmp/info"
[ "$(grep -c in-use "$tmp/info")" -eq 3 ] || fail "$(cat "$tmp/info")"
