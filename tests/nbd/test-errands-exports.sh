#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Images of a plugin that asks for the export's name, which it may do only on
# nbdkit's own threads: the filter's threads open them, too (errand.c).

# shellcheck source=tests/nbd/control.sh
. "$(dirname "$0")/control.sh"
requires_nbdkit 1 44
requires_filter ip
requires_program jq

# takes_snapshot DEVICE: nobody has it open; this does, and makes it larger.
takes_snapshot ()
{
    qmp "blockdev-snapshot-internal-sync,device=$1,name=s"
    has '"return"' "a snapshot of $1"
    qmp "x-q2-query-snapshots,device=$1"
    has '"name": "s"' "snapshots of $1"
}

mkdir "$tmp/dir"
for name in a b; do
    qemu-img create -q -f qcow2 -o cluster_size=4k "$tmp/dir/$name" 4M
    qemu-img bitmap --add "$tmp/dir/$name" bits
done

echo "several images, which nobody has open"
start_nbdkit --filter="$filter" file dir="$tmp/dir" \
    qcow2-control="$control"
takes_snapshot a
takes_snapshot b
stop_nbdkit

echo "what is written when the last client has left"
start_nbdkit --filter="$filter" file dir="$tmp/dir" \
    qcow2-control="$control"
"$PYTHON" -c 'if True:
    import nbd, sys
    h = nbd.NBD()
    h.set_export_name("a")
    h.connect_unix(sys.argv[1])
    h.pwrite(b"y" * 4096, 65536)
    h.shutdown()' "$sock"
stop_nbdkit
qemu-img info --output=json "$tmp/dir/a" | jq -e '
    [."format-specific".data.bitmaps[].flags[]] == ["auto"]' >/dev/null ||
    fail "the bitmap was given up"

echo "several images, and a filter that refuses it"
start_nbdkit --filter=ip --filter="$filter" file dir="$tmp/dir" deny=all \
    qcow2-control="$control"
qmp blockdev-snapshot-internal-sync,device=a,name=refused
has 'cannot be opened' "refused"
grep -q 'cannot be connected to from inside' "$log" ||
    fail "the log does not say why: $(cat "$log")"
stop_nbdkit
for name in a b; do
    qemu-img check -q "$tmp/dir/$name" || fail "qemu-img check: status $?"
done
