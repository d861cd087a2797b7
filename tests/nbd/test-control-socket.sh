#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The control socket: who may use it, what is left behind and replaced, peers
# that do not behave, and the commands that only look.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
requires_filter noparallel

image=$tmp/disk.qcow2
qemu-img create -q -f qcow2 "$image" 8M
qemu-io -f qcow2 -c 'write -q -P 1 0 3M' "$image"
qemu-img snapshot -c one "$image"
qemu-io -f qcow2 -c 'write -q -P 2 1M 1M' "$image"
qemu-img bitmap --add "$image" bits

echo "off by default"
start_nbdkit --filter="$filter" file "$image"
[ -z "$(find "$tmp" -name '*ctl*')" ] || fail "there is a socket"
stop_nbdkit

# not_running PID
not_running ()
{
    ! kill -0 "$1" 2>/dev/null
}

echo "parameters"
refused 'qcow2-control.*108|path of a socket' --filter="$filter" file \
    "$image" qcow2-control="$tmp/$(printf 'x%.0s' {1..120})"
refused 'given only once' --filter="$filter" file "$image" \
    qcow2-control="$control" qcow2-control="$control"
refused_late 'cannot be opened' --filter="$filter" file "$image" \
    qcow2-control="$tmp/none/ctl"

echo "what is there is left alone, but for a dead socket of ours"
echo precious >"$tmp/file"
refused_late 'exists, and is no socket' --filter="$filter" file "$image" \
    qcow2-control="$tmp/file"
[ "$(cat "$tmp/file")" = precious ] || fail "a file was replaced"
ln -s "$tmp/elsewhere" "$tmp/link"
refused_late 'exists, and is no socket' --filter="$filter" file "$image" \
    qcow2-control="$tmp/link"
start_nbdkit --filter="$filter" file "$image" qcow2-control="$control"
[ "$(stat -c '%a %F' "$control")" = "600 socket" ] ||
    fail "$(stat -c '%a %F' "$control")"
refused_late 'another process listens' --filter="$filter" file "$image" \
    qcow2-control="$control"
qmp query-version >/dev/null
stop_nbdkit
[ ! -e "$control" ] || fail "the socket is left behind"
dead_socket "$control"
start_nbdkit --filter="$filter" file "$image" qcow2-control="$control"
qmp query-version >/dev/null
# Ours has been replaced by somebody else's, which stays.
rm "$control"
echo other >"$control"
stop_nbdkit
[ "$(cat "$control")" = other ] || fail "a file of somebody else was removed"
rm "$control"
cd "$tmp"
start_nbdkit --filter="$filter" file "$image" qcow2-control=ctl
cd - >/dev/null
qmp query-version
has '"return"' "a path that is not absolute"
stop_nbdkit

echo "whoever has started a server can connect at once"
set_nbdkit_command
for _ in {1..5}; do
    "${nbdkit_command[@]}" -P "$tmp/daemon.pid" -U "$tmp/daemon.sock" --filter="$filter" \
        file "$image" qcow2-control="$control"
    "$PYTHON" "$nbddir/qmp_client.py" "$control" query-version >"$tmp/said" ||
        fail "there is no socket yet"
    daemon=$(cat "$tmp/daemon.pid")
    kill "$daemon"
    wait_for not_running "$daemon"
    rm "$tmp/daemon.sock"
done
"${nbdkit_command[@]}" -U "$tmp/daemon.sock" --filter="$filter" file "$image" \
    qcow2-control="$tmp/file" 2>"$tmp/said" && fail "it is started"
has 'exists, and is no socket' "an error at start"

echo "other users"
if [ "$(id -u)" -eq 0 ] && setpriv --reuid=65534 --regid=65534 \
        --clear-groups true 2>/dev/null; then
    start_nbdkit --filter="$filter" file "$image" qcow2-control="$control"
    chmod 755 "$tmp"
    as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    # The mode keeps them out, and if that is changed, the server does.
    if "${as_nobody[@]}" "$PYTHON" "$nbddir/qmp_client.py" "$control" \
            >"$tmp/said" 2>&1; then
        fail "another user was let in: $(cat "$tmp/said")"
    fi
    has 'PermissionError' "the mode of the socket"
    chmod 666 "$control"
    for _ in {1..25}; do
        if "${as_nobody[@]}" "$PYTHON" "$nbddir/qmp_client.py" "$control" \
                >"$tmp/said" 2>&1; then
            fail "another user was let in: $(cat "$tmp/said")"
        fi
    done
    grep -q 'control socket: user 65534 was refused' "$log" || fail "the log"
    [ "$(grep -c 'user 65534 was refused' "$log")" -lt 25 ] ||
        fail "the log has a line for each"
    qmp query-version >/dev/null
    stop_nbdkit
    if [ -d /proc/self/fd ]; then
        # Root may talk to anybody.
        chmod 777 "$tmp"
        mkdir "$tmp/nobody"
        chown 65534 "$tmp/nobody"
        start_nbdkit -u nobody --filter="$filter" memory 1M \
            qcow2-control="$tmp/nobody/ctl"
        [ "$(stat -c '%a %u' "$tmp/nobody/ctl")" = "600 65534" ] ||
            fail "$(stat -c '%a %u' "$tmp/nobody/ctl")"
        control=$tmp/nobody/ctl qmp query-version >/dev/null
        stop_nbdkit
    fi
fi

echo "queries"
start_nbdkit --filter="$filter" file "$image" qcow2-control="$control"
qmp x-q2-query-images
has '"return": \[\]' "nobody has it open"
qmp x-q2-query-images,device=
has '"snapshots": 1, "bitmaps": 1' "the only image"
qmp x-q2-query-snapshots,device=
has '"id": "1", "name": "one", "vm-state-size": 0' "snapshots"
qmp x-q2-query-bitmaps,device=
has '"flags": \["auto"\], "name": "bits", "granularity": 65536' "bitmaps"
qmp x-q2-query-images,device=snapshot/one
has 'is a part of an image' "a view"
"$PYTHON" - "$uri" "$control" <<'END' || fail "with a client"
import sys
import nbd
from qmp_client import QMP
h = nbd.NBD()
h.connect_uri(sys.argv[1])
q = QMP(sys.argv[2])
h.pread(65536, 0)
image, = q.ok("x-q2-query-images")
assert image["writable"] and image["users"] == 1, image
assert image["virtual-size"] == h.get_size() == 8 << 20, image
stats, = q.ok("x-q2-query-stats")
assert stats["io"]["header"]["bytes-read"] > 0, stats
before = stats["commits"]
h.pwrite(b"x" * 65536, 7 << 20)
q.ok("x-q2-flush", device="")
after, = q.ok("x-q2-query-stats", device="")
assert after["commits"] > before, (before, after)
names = {c["name"] for c in q.ok("query-commands")}
assert {"qmp_capabilities", "query-commands", "x-q2-flush"} <= names, names
h.shutdown()
END
stop_nbdkit

echo "read-only: only queries"
for option in -r --read-only --readonly --readonl --rea --re; do
    start_nbdkit $option --filter="$filter" file "$image" qcow2-control="$control"
    qmp x-q2-query-snapshots,device= x-q2-flush,device=
    has '"name": "one"' "a query"
    has 'started read-only' "a change"
    stop_nbdkit
done

echo "a raw disk is none of its business, whatever is in it"
mkdir "$tmp/raw"
cp "$image" "$tmp/raw/guest.raw"
start_nbdkit --filter="$filter" file dir="$tmp/raw" qcow2-raw='*.raw' \
    qcow2-control="$control"
for command in x-q2-query-snapshots x-q2-query-images x-q2-flush; do
    qmp $command,device=guest.raw
    has 'is a raw disk' "$command"
done
stop_nbdkit

echo "a plugin that allows one request at a time"
start_nbdkit --filter="$filter" --filter=noparallel file "$image" \
    serialize=all-requests qcow2-control="$control"
qmp x-q2-query-snapshots,device= x-q2-query-images
has 'one request at a time' "one request"
has '"return": \[\]' "what needs none"
stop_nbdkit

echo "several images"
mkdir "$tmp/dir"
cp "$image" "$tmp/dir/a"
# Room, since it cannot grow with older versions of nbdkit.
truncate -s +4M "$tmp/dir/a"
cp "$image" "$tmp/dir/b"
echo "no image" >"$tmp/dir/c"
start_nbdkit --filter="$filter" file dir="$tmp/dir" qcow2-control="$control"
qmp x-q2-query-images x-q2-query-snapshots,device=b
has '"return": \[\]' "nobody has one open"
has '"name": "one"' "one that nobody has open"
for name in c d ../disk.qcow2 .. "" /etc/passwd "$image"; do
    qmp "x-q2-query-snapshots,device=$name"
    has 'cannot be opened' "device '$name'"
done
"$PYTHON" - "$sock" "$control" <<'END' || fail "several images"
import sys
import nbd
from qmp_client import QMP
h = nbd.NBD()
h.set_export_name("a")
h.connect_unix(sys.argv[1])
q = QMP(sys.argv[2])
image, = q.ok("x-q2-query-images")
assert image["device"] == "a" and image["writable"], image
h.pwrite(b"x" * 65536, 0)
q.ok("x-q2-flush", device="a")
snapshot, = q.ok("x-q2-query-snapshots", device="a")
assert snapshot["name"] == "one", snapshot
h.shutdown()
END
stop_nbdkit

echo "peers that do not behave"
start_nbdkit --filter="$filter" file "$image" qcow2-control="$control"
"$PYTHON" "$nbddir/control_hostile.py" "$control" >"$tmp/hostile" ||
    fail "$(tail -n 3 "$tmp/hostile")"
[ "$(grep -c 'control socket' "$log")" -le 60 ] ||
    fail "the log has $(grep -c 'control socket' "$log") lines"
# Some of them are there when it ends.
"$PYTHON" - "$control" <<'END' &
import socket
import sys
peers = [socket.socket(socket.AF_UNIX) for _ in range(8)]
for p in peers:
    p.connect(sys.argv[1])
    p.sendall(b'{"execute": "qmp_capabilities"}{"exec')
for p in peers:
    while p.recv(1000):
        pass
END
peers=$!
sleep 0.5
stop_nbdkit
wait "$peers" || true

echo "a command that runs when the server ends has an answer"
if "$NBDKIT" --dump-plugin --filter=delay null >/dev/null 2>&1; then
    start_nbdkit --filter="$filter" --filter=delay file "$image" \
        qcow2-control="$control" delay-write=500ms
    "$PYTHON" - "$control" "$pid" <<'END' || fail "there is none"
import os
import signal
import sys
import threading
from qmp_client import QMP
q = QMP(sys.argv[1])
threading.Timer(0.7, os.kill, (int(sys.argv[2]), signal.SIGTERM)).start()
reply = q.command("blockdev-snapshot-internal-sync", device="", name="last")
assert "return" in reply or "error" in reply, reply
print(reply)
END
    stop_nbdkit
    qemu-img check -q "$image" || [ $? -eq 3 ] || fail "qemu-img check: $?"
fi
