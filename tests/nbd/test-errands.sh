#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Plugins may ask for the export's name only on nbdkit's own threads, so the
# filter's threads get one of those by connecting to the server from inside
# (errand.c).  With -D qcow2.errands=1 they do so where no plugin asks, too, so
# that this can be seen with any nbdkit.

# shellcheck source=tests/nbd/control.sh
. "$(dirname "$0")/control.sh"

requires_filter ip
requires_filter exitlast

image=$tmp/disk.qcow2
create="qemu-img create -q -f qcow2 -o cluster_size=4k"
$create "$image" 4M

# starts ARGUMENT...: a server that says which connections it has.
starts ()
{
    start_nbdkit "$@" qcow2-control="$control"
}
always=(-v -D qcow2.errands=1 --filter="$filter" file "$image")

# connected WHAT: for all errands so far, one at least.
connected ()
{
    grep -q 'accepted connection' "$log" || fail "$1: nobody has connected"
    if grep -q 'no thread of nbdkit' "$log"; then
        fail "$1: an errand was not done"
    fi
}

# takes_snapshot: nobody has the image open; this opens it, and makes
# the file larger.
nr=0
takes_snapshot ()
{
    nr=$((nr + 1))
    qmp blockdev-snapshot-internal-sync,device=,name=s$nr
    has '"return"' "snapshot $nr"
    qmp x-q2-query-snapshots,device=
    has "\"name\": \"s$nr\"" "snapshots"
}

echo "by a Unix domain socket"
starts "${always[@]}"
takes_snapshot
connected "a Unix domain socket"
# No client sees that.
nbdinfo "$uri" >/dev/null || fail "no client can connect"
stop_nbdkit
if grep -q -e 'error:' "$log"; then
    fail "$(grep error: "$log")"
fi

echo "not where nobody asks"
start_nbdkit -v --filter="$filter" file "$image" qcow2-control="$control"
takes_snapshot
if grep -q 'accepted connection' "$log"; then
    fail "there was a connection"
fi
stop_nbdkit

echo "by TCP"
for ip in 127.0.0.1 ::1 ''; do
    port=$("$PYTHON" -c 'if True:
        import socket
        s = socket.socket(socket.AF_INET6)
        s.bind(("::", 0))
        print(s.getsockname()[1])' 2>/dev/null) || break
    # A socket of its own, which start_nbdkit waits for, is not there then.
    set_nbdkit_command
    "${nbdkit_command[@]}" -f -P "$tmp/tcp.pid" ${ip:+-i "$ip"} -p "$port" \
        "${always[@]}" qcow2-control="$control" \
        </dev/null >"$tmp/tcp.log" 2>&1 &
    pid=$!
    until [ -s "$tmp/tcp.pid" ]; do
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    if ! kill -0 $pid 2>/dev/null; then
        cat "$tmp/tcp.log"              # no IPv6, or the port is taken
        wait $pid || true
        continue
    fi
    log=$tmp/tcp.log
    takes_snapshot
    connected "${ip:-any address}"
    kill $pid
    wait $pid || fail "the server failed"
    rm "$tmp/tcp.pid"
done

echo "a filter that ends the server with the last client"
starts --filter=exitlast "${always[@]}"
takes_snapshot
takes_snapshot
connected "exitlast"
stop_nbdkit

echo "a filter that refuses it"
starts --filter=ip "${always[@]}" deny=all
takes_snapshot
grep -q 'no thread of nbdkit' "$log" || fail "ip: it was not refused"
stop_nbdkit

echo "what fails says why"
for filters in '' '--filter=ip deny=all'; do
    # shellcheck disable=SC2086         # None, or two words.
    starts ${filters% *} "${always[@]}" ${filters#"${filters% *}"}
    mv "$image" "$image.away"
    qmp blockdev-snapshot-internal-sync,device=,name=none
    has 'cannot be opened: No such file' "${filters:-a file that is gone}"
    mv "$image.away" "$image"
    stop_nbdkit
done

echo "what is written when the last client has left"
$create "$tmp/bits.qcow2" 4M
qemu-io -c 'write -q 0 4M' "$tmp/bits.qcow2"
qemu-img bitmap --add "$tmp/bits.qcow2" bits
start_nbdkit -v -D qcow2.errands=1 --filter="$filter" file \
    "$tmp/bits.qcow2" qcow2-bitmaps=lazy
qemu-io -f raw -c 'write -q 0 4M' "$uri"
stop_nbdkit
# Its bits are stored by a thread of the filter's, behind the end of the file;
# that thread is waited for by one of nbdkit's.
grep -q 'qcow2: .*errand.*waits' "$log" || fail "no errand"
[ "$(grep -c 'accepted connection' "$log")" -eq 1 ] ||
    fail "there was a connection from inside"
[ "$(qemu-img info --output=json "$tmp/bits.qcow2" |
    grep -c in-use)" -eq 0 ] || fail "the bitmap was given up"

echo "beside clients that come and go"
starts "${always[@]}"
"$PYTHON" - "$sock" "$control" <<'END' || fail "clients"
import sys
import threading
import nbd
from qmp_client import QMP
sock, control = sys.argv[1:]
failed = []
ended = threading.Event()
def client():
    # Without opening the image: then each command has to.
    n = 0
    try:
        while not ended.is_set() or n < 20:
            h = nbd.NBD()
            h.set_opt_mode(True)
            h.connect_unix(sock)
            h.opt_abort()
            n += 1
    except nbd.Error as e:
        failed.append(e)
threads = [threading.Thread(target=client) for _ in range(4)]
for t in threads:
    t.start()
q = QMP(control)
for n in range(40):
    q.ok("blockdev-snapshot-internal-sync", device="", name="t%d" % n)
ended.set()
for t in threads:
    t.join()
assert not failed, failed[0]
END
connected "beside clients"
stop_nbdkit
qemu-img check -q "$image" || fail "qemu-img check: status $?"
