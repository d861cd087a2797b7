#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A backing file cannot change while its overlay is served: QEMU, another
# server and this server cannot write to it, even with qcow2-lock=off; and a
# file that is being written to is refused as a backing file.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"
make_base base.raw 3000000
overlay mid.qcow2 base.raw raw 4M
overlay top.qcow2 mid.qcow2 qcow2 4M
overlay twin.qcow2 mid.qcow2 qcow2 4M
qemu-img create -q -f qcow2 -o data_file=disk.data disk.qcow2 4M
truth top.qcow2
cp "$tmp/truth.raw" "$tmp/disk.raw"

writes ()               # IMAGE FORMAT
{
    qemu-io -f "$2" -c 'write -q 0 4k' "$1" >"$tmp/out" 2>&1
}

locked ()               # IMAGE FORMAT
{
    ! writes "$1" "$2" || fail "QEMU could write to $1"
    grep -q 'Failed to get "write" lock' "$tmp/out" ||
        fail "another reason: $(cat "$tmp/out")"
}

requires_locks ()
{
    qemu-nbd -t -k "$tmp/qemu.sock" -f qcow2 disk.qcow2 &
    local qemu=$! i

    for ((i = 0; i < 200; i++)); do
        [ ! -S "$tmp/qemu.sock" ] || break
        sleep 0.05
    done
    if writes disk.qcow2 qcow2; then
        kill $qemu
        skip "QEMU takes no locks here"
    fi
    kill $qemu
    wait $qemu || true
}
requires_locks

for mode in '' -r; do
    echo "QEMU, while we have it open $mode"
    start_nbdkit $mode -v --filter="$filter" file top.qcow2 qcow2-follow=.
    writes twin.qcow2 qcow2 || fail "nobody is connected"
    connect_client
    locked base.raw raw
    locked mid.qcow2 qcow2
    qemu-img convert -f qcow2 -O raw twin.qcow2 "$tmp/out.raw" ||
        fail "QEMU cannot read"
    writes twin.qcow2 qcow2 || fail "QEMU cannot write to another overlay"

    echo "another server can share the base"
    start_nbdkit -P second --filter="$filter" file twin.qcow2 qcow2-follow=.
    nbdtool size "$uri" >/dev/null || fail "the base cannot be shared"
    stop_nbdkit second
    start_nbdkit -P third -v --filter="$filter" file mid.qcow2 qcow2-follow=.
    nbdtool fails "$uri" >/dev/null
    grep -q 'mid\.qcow2: .*because another process has' "$log" ||
        fail "no reason"
    stop_nbdkit third
    finish_client
    stop_nbdkit nbdkit
done

echo "a data file that is written to, or read"
start_nbdkit -v --filter="$filter" file disk.qcow2 qcow2-follow=.
connect_client
locked disk.data raw
finish_client
stop_nbdkit
start_nbdkit -r -v --filter="$filter" file disk.qcow2 qcow2-follow=.
connect_client
locked disk.data raw
qemu-io -r -f raw -c 'read -q 0 4k' disk.data || fail "QEMU cannot read"
finish_client
stop_nbdkit

echo "QEMU has it open for writing"
qemu-nbd -t -k "$tmp/qemu.sock" -f raw base.raw &
qemu=$!
cleanup_fn kill $qemu
for ((i = 0; i < 200; i++)); do
    [ ! -S "$tmp/qemu.sock" ] || break
    sleep 0.05
done
says 'base\.raw: another process has' file top.qcow2 qcow2-follow=.
says 'base\.raw is in use by another process' file top.qcow2 qcow2-follow=.
serves -r file top.qcow2 qcow2-follow=. qcow2-lock=off
kill $qemu
wait $qemu || true
cleanups=()

for lock in on off; do
    echo "this server, locks $lock"
    start_nbdkit -v --filter="$filter" file dir=. qcow2-follow=. \
        qcow2-lock=$lock
    uri=$(export_uri top.qcow2)
    connect_client
    nbdtool fails "$(export_uri mid.qcow2)" >/dev/null
    has_logged 'mid\.qcow2: cannot be opened for writing, because an image that is open in this server stands on it'
    nbdtool size "$(export_uri twin.qcow2)" >/dev/null ||
        fail "the base cannot be shared"
    finish_client
    uri=$(export_uri mid.qcow2)
    connect_client
    nbdtool fails "$(export_uri top.qcow2)" >/dev/null
    has_logged 'top\.qcow2: .*mid\.qcow2 is open for writing in this server'
    finish_client
    stop_nbdkit
done
