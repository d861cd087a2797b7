#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Backing files and data files on NBD servers: several connections where the
# server allows them, one otherwise; connections that break; servers that can
# only be read; smallest blocks; and no secrets in the log.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

run_nbdkit --dump-plugin --filter="$filter" null >"$tmp/dump"
! grep -q '^qcow2_libnbd=no' "$tmp/dump" || skip "built without libnbd"
requires_filter log
requires_filter delay
requires_filter multi-conn
requires_filter blocksize-policy

cd "$images"
make_base base.raw $((6 << 20))
overlay mid.qcow2 base.raw raw 6M
overlay top.qcow2 mid.qcow2 qcow2 6M
truth top.qcow2
cp "$tmp/truth.raw" "$tmp/disk.raw"

# base_server ARGUMENT...: serves a base, at $base.
base_server ()
{
    start_nbdkit -P base "$@"
    base=$uri
}

connections ()
{
    grep -c 'Connect export' "$tmp/base.connections"
}

echo "raw, and an image; connections as the server allows"
for model in multi one; do
    rm -f "$tmp/base.connections"
    mode=disable
    [ $model = one ] || mode=auto
    # qemu-nbd leaks.
    find_leaks=0 base_server -r --filter=multi-conn --filter=log --filter=delay \
        file base.raw delay-read=20ms multi-conn-mode=$mode \
        logfile="$tmp/base.connections"
    start_nbdkit -v --filter="$filter" file top.qcow2 \
        qcow2-backing=mid.qcow2 qcow2-backing="$base" \
        qcow2-check-at-start=off
    nbdtool compare "$uri" "$tmp/truth.raw" --reads 60 --connections 4
    case $model,$(connections) in
    multi,[2-9] | multi,1[0-6] | one,1) ;;
    *) fail "$model: $(connections) connections" ;;
    esac
    stop_nbdkit
    stop_nbdkit base
done
base_server -r file mid.qcow2
start_nbdkit -P raw -r file base.raw
serves file top.qcow2 qcow2-backing="$base" qcow2-backing="$uri"
stop_nbdkit base
stop_nbdkit raw

echo "what the server says of holes is passed on"
qemu-img create -q -f qcow2 -b "$images/holes.raw" -F raw -u holes.qcow2 64M
truncate -s 64M holes.raw
qemu-io -f raw -c 'write -q -P 1 10M 1M' holes.raw
base_server -r file holes.raw
start_nbdkit --filter="$filter" file holes.qcow2 qcow2-backing="$base"
nbdtool map "$uri" >"$tmp/map"
awk '$3 == 0 { n += $2 } END { exit ! (n <= 1024 * 1024) }' "$tmp/map" ||
    fail "holes are data: $(cat "$tmp/map")"
stop_nbdkit
stop_nbdkit base

echo "a server that comes back is connected to again"
base_server -r --filter=log file base.raw logfile="$tmp/base.connections"
start_nbdkit -v --filter="$filter" file top.qcow2 \
    qcow2-backing=mid.qcow2 qcow2-backing="$base"
"$PYTHON" - "$uri" "$tmp" <<'END' &
import os
import sys
import time
import nbd
from nbdtool import connect

uri, tmp = sys.argv[1:]
handle = connect(uri)
raw = open(f"{tmp}/truth.raw", "rb").read()

def wait_for(name: str) -> None:
    while not os.path.exists(f"{tmp}/{name}"):
        time.sleep(0.02)

assert handle.pread(70000, 2 << 20) == raw[2 << 20:][:70000]
open(f"{tmp}/read", "w").close()
wait_for("gone")
try:
    handle.pread(70000, 3 << 20)
    raise SystemExit("it was read from nowhere")
except nbd.Error as error:
    assert error.errno == "EIO", error
open(f"{tmp}/failed", "w").close()
wait_for("back")
for _ in range(3):
    assert handle.pread(70000, 3 << 20) == raw[3 << 20:][:70000]
open(f"{tmp}/again", "w").close()
wait_for("other")
# Another size means another file.
try:
    handle.pread(70000, 4 << 20)
    raise SystemExit("another file was read")
except nbd.Error as error:
    assert error.errno == "EIO", error
handle.shutdown()
END
client=$!
wait_until ()           # FILE
{
    for ((i = 0; i < patience * 50; i++)); do
        [ ! -e "$tmp/$1" ] || return 0
        kill -0 $client 2>/dev/null || break
        sleep 0.02
    done
    fail "the client did not get to '$1'"
}
# kill_base: its client does not disconnect, so it must be killed.
kill_base ()
{
    pid=${server_pid[base]}
    kill_nbdkit
}
wait_until read
kill_base
touch "$tmp/gone"
wait_until failed
base_server -r --filter=log file base.raw logfile="$tmp/base.connections"
touch "$tmp/back"
wait_until again
kill_base
base_server -r memory 7M
touch "$tmp/other"
wait $client || fail "the client ended with status $?"
client=
log=$tmp/nbdkit.log
has_logged 'has changed its size'
stop_nbdkit
stop_nbdkit base

echo "a data file: written, flushed, and read-only where the server is"
for raw in off on; do
    rm -f disk.qcow2 disk.data "$tmp/disk.raw"
    qemu-img create -q -f qcow2 -o data_file=disk.data,data_file_raw=$raw \
        disk.qcow2 8M
    truncate -s 8M "$tmp/disk.raw" disk.data
    base_server file disk.data
    start_nbdkit -v --filter="$filter" file disk.qcow2 \
        qcow2-data-file="$base"
    writetool "$uri" --raw "$tmp/disk.raw" w:100:70000:1 w:3M:1M:2 \
        z:3200k:600k t:100k:64k w:7M:1M:3 f
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 40
    stop_nbdkit
    stop_nbdkit base
    check_image_of disk.qcow2
done
base_server -r file disk.data
start_nbdkit -v --filter="$filter" file disk.qcow2 qcow2-data-file="$base"
check_read_only
nbdtool compare "$uri" "$tmp/disk.raw" --reads 40
has_logged 'cannot be written to: the server says that it is read-only'
has_logged 'served read-only: its data file'
stop_nbdkit
stop_nbdkit base

echo "what was written on a connection that broke may be lost: no flush succeeds"
base_server file disk.data
start_nbdkit -v --filter="$filter" file disk.qcow2 qcow2-data-file="$base"
start_client w:1M:64k:5
kill_base
base_server file disk.data
pid=${server_pid[nbdkit]}
"$PYTHON" - "$(export_uri "")" <<'END'
import sys
import nbd
from nbdtool import connect

handle = connect(sys.argv[1])
for attempt in range(3):
    try:
        handle.pwrite(b"x" * 512, 2 << 20)
        handle.flush()
        raise SystemExit("a flush succeeded")
    except nbd.Error:
        pass
handle.shutdown()
END
finish_client
stop_nbdkit
stop_nbdkit base

echo "smallest and largest blocks"
base_server -r --filter=blocksize-policy file base.raw \
    blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=65536 \
    blocksize-error-policy=error
serves file top.qcow2 qcow2-backing=mid.qcow2 qcow2-backing="$base"
stop_nbdkit base

echo "no server, and what its URI says besides"
says 'cannot be opened: .*(No such file|refused)' file mid.qcow2 \
    qcow2-backing="nbd+unix://secret@/x?socket=$tmp/none&tls-psk-file=/secret"
! grep -v 'debug: .*config key' "$tmp/says.log" | grep secret ||
    fail "a secret was logged"
grep -q "nbd+unix:///x?socket=$tmp/none cannot" "$tmp/says.log" ||
    fail "the name of the URI"
