#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Snapshots of images that are being served: each is the disk at a point in
# time, while clients write; QEMU says the same.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"

# check_all IMAGE: what QEMU finds in the snapshots that were left.
check_all ()
{
    local image=$1 name

    qemu-img check -q "$image" || fail "qemu-img check: status $?"
    for name in $(jq -r 'keys[]' "$tmp/known"); do
        qemu-img convert -f qcow2 -O raw -l "snapshot.name=$name" "$image" \
            "$tmp/raw"
        "$PYTHON" "$nbddir/control_writers.py" check "$tmp" "$tmp/raw" "$name"
    done
}

echo "what the commands do"
for options in compat=1.1 compat=0.10 cluster_size=4k; do
    qemu-img create -q -f qcow2 -o "$options" "$tmp/disk" 8M
    start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control"
    "$PYTHON" "$nbddir/control_verbs.py" "$sock" "$control" || fail "$options"
    stop_nbdkit
    qemu-img check -q "$tmp/disk" || fail "$options: qemu-img check: $?"
    [ -z "$(qemu-img snapshot -l "$tmp/disk")" ] || fail "snapshots are left"
done

echo "while clients write"
for options in cluster_size=64k cluster_size=4k,lazy_refcounts=on; do
    qemu-img create -q -f qcow2 -o "$options" "$tmp/disk" 64M
    qemu-io -f qcow2 -c 'write -q -P 1 0 512k' -c 'write -q -z 0 512k' \
        -c 'write -q -P 1 1M 16M' "$tmp/disk"
    start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control"
    "$PYTHON" "$nbddir/control_writers.py" run "$sock" "$control" 12 "$tmp" ||
        fail "$options"
    stop_nbdkit
    check_all "$tmp/disk"
done

echo "one of several images, below a filter"
requires_filter delay
mkdir "$tmp/dir"
qemu-img create -q -f qcow2 "$tmp/dir/a" 64M
truncate -s 200M "$tmp/dir/a"
cp "$tmp/dir/a" "$tmp/dir/b"
start_nbdkit --filter="$filter" --filter=delay file dir="$tmp/dir" \
    delay-write=2ms qcow2-control="$control"
"$PYTHON" "$nbddir/control_writers.py" run "$sock" "$control" 4 "$tmp" a ||
    fail "of several images"
qmp blockdev-snapshot-internal-sync,device=b,name=x
if grep -q return "$tmp/said"; then
    qmp blockdev-snapshot-delete-internal-sync,device=b,name=x
else
    has 'no client has the export' "an image that nobody writes to"
fi
stop_nbdkit
check_all "$tmp/dir/a"
qemu-img check -q "$tmp/dir/b" || fail "the other image"

echo "images without snapshots"
qemu-img create -q -f qcow2 -o data_file="$tmp/data" "$tmp/ext" 1M
start_nbdkit --filter="$filter" file "$tmp/ext" qcow2-data-file="$tmp/data" \
    qcow2-control="$control"
qmp blockdev-snapshot-internal-sync,device=,name=x
has 'the data of the image is in another file' "a data file"
stop_nbdkit
start_nbdkit -r --filter="$filter" file "$tmp/disk" qcow2-control="$control"
qmp blockdev-snapshot-internal-sync,device=,name=x \
    blockdev-snapshot-delete-internal-sync,device=,name=s0
[ "$(grep -c 'started read-only' "$tmp/said")" = 2 ] ||
    fail "read-only: $(cat "$tmp/said")"
stop_nbdkit
