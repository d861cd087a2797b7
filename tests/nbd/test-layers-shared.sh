#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Overlays in one server share their backing file: it is open once, for any
# number of clients, until the last has disconnected.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"
mkdir sub
make_base base.raw 4000000
overlay mid.qcow2 base.raw raw 4M
for i in 1 2 3 4 5 6; do
    overlay over$i.qcow2 mid.qcow2 qcow2 4M
    qemu-io -f qcow2 -c "write -q -P $i 2M 64k" over$i.qcow2
    qemu-img convert -O raw over$i.qcow2 "$tmp/over$i.raw"
done

# open_files NAME: how many descriptors the server has for that file.
open_files ()
{
    find "/proc/$pid/fd" -lname "$images/$1" | wc -l
}

for mode in '' -r; do
    echo "six overlays, four times, all at once $mode"
    start_nbdkit $mode -v --filter="$filter" file dir=. qcow2-follow=.
    "$PYTHON" - "$sock" "$tmp" <<'END' &
import sys
import threading
import time
from nbdtool import connect

sock, tmp = sys.argv[1:]
handles = []

def run(number: int) -> None:
    handle = connect(sock, f"over{number}.qcow2")
    raw = open(f"{tmp}/over{number}.raw", "rb").read()
    for offset in range(0, len(raw), 1 << 20):
        count = min(1 << 20, len(raw) - offset)
        assert handle.pread(count, offset) == raw[offset:offset + count]
    handles.append(handle)

threads = [threading.Thread(target=run, args=(n % 6 + 1,)) for n in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(handles) == 24
open(f"{tmp}/ready", "w").close()
while True:
    try:
        open(f"{tmp}/go").close()
        break
    except FileNotFoundError:
        time.sleep(0.02)
for handle in handles[:23]:
    handle.shutdown()
open(f"{tmp}/one", "w").close()
time.sleep(0.5)
handles[23].shutdown()
END
    client=$!
    rm -f "$tmp/go"
    for ((i = 0; i < patience * 50; i++)); do
        [ ! -e "$tmp/ready" ] || break
        kill -0 $client || fail "the client has failed"
        sleep 0.02
    done
    rm "$tmp/ready"
    for file in base.raw mid.qcow2; do
        [ "$(open_files $file)" = 1 ] ||
            fail "$file is open $(open_files $file) times"
    done
    for file in base.raw mid.qcow2; do
        opened=$(grep -c "/$file: opened: .*as a backing file" "$log")
        [ "$opened" = 1 ] || fail "$file was opened $opened times"
    done
    touch "$tmp/go"
    wait $client || fail "the client ended with status $?"
    client=
    for ((i = 0; i < patience * 50; i++)); do
        [ "$(open_files base.raw)" != 0 ] || break
        sleep 0.02
    done
    [ "$(open_files base.raw)" = 0 ] || fail "base.raw is still open"
    [ "$(open_files mid.qcow2)" = 0 ] || fail "mid.qcow2 is still open"
    stop_nbdkit
done

echo "one base in two formats, and from two folders, is two layers"
cp mid.qcow2 sub
cp base.raw sub
ln mid.qcow2 sub/link.qcow2
qemu-img create -q -f qcow2 -u -b mid.qcow2 -F raw raw.qcow2 1M
qemu-img create -q -f qcow2 -u -b sub/link.qcow2 -F qcow2 other.qcow2 4M
printf '\1' | dd of=sub/base.raw bs=1 seek=3000000 conv=notrunc status=none
start_nbdkit -v --filter="$filter" file dir=. qcow2-follow=.
"$PYTHON" - "$sock" <<'END'
import sys
from nbdtool import connect

sock = sys.argv[1]
handles = [connect(sock, name)
           for name in ("over1.qcow2", "raw.qcow2", "other.qcow2")]
base = open("base.raw", "rb").read()
other = open("sub/base.raw", "rb").read()
mid = open("mid.qcow2", "rb").read()
assert handles[0].pread(10, 3000000) == base[3000000:3000010]
assert handles[1].pread(4096, 0) == mid[:4096]
assert handles[2].pread(10, 3000000) == other[3000000:3000010]
for handle in handles:
    handle.shutdown()
END
stop_nbdkit

echo "chains that go round in a circle, from all sides at once, never end up waiting"
link ()                 # NAME BACKING
{
    qemu-img create -q -f qcow2 "$1" 1M
    set_names "$1" --backing "$2" --format qcow2
}
link self self
link two-a two-b
link two-b two-a
link three-a three-b
link three-b three-c
link three-c three-a
link to-three three-b
start_nbdkit --filter="$filter" file dir="$images" qcow2-follow="$images"
timeout $((patience * 3)) "$PYTHON" - "$sock" <<'END'
import sys
import threading
import nbd
from nbdtool import connect

def hammer(name: str) -> None:
    for _ in range(60):
        try:
            connect(sys.argv[1], name)
        except nbd.Error:
            continue
        served.append(name)

served: list = []
threads = [threading.Thread(target=hammer, args=(name,))
           for name in ("two-a", "two-b", "three-a", "three-b", "three-c",
                        "to-three", "self")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not served, served
END
grep -q "already in use in the chain" "$log" || fail "another reason"
stop_nbdkit
