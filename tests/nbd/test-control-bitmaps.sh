#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Bitmaps of images that are being served: commands, transactions and
# checkpoints, alone and while clients write; QEMU sees the same bits.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"

client=$nbddir/control_bitmaps.py
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl

# serve IMAGE [ARGUMENT...]
serve ()
{
    local image=$1

    shift
    start_nbdkit --filter="$filter" file "$image" qcow2-control="$control" \
        qcow2-bitmaps="$mode" "$@"
}

# judge IMAGE: what QEMU finds.
judge ()
{
    qemu-img check -q "$1" || fail "qemu-img check: status $?"
    "$PYTHON" "$client" check "$1" "$tmp/known" || fail "QEMU sees other bits"
}

echo "what the commands do"
mode=durable
for options in cluster_size=64k cluster_size=4k,lazy_refcounts=on; do
    qemu-img create -q -f qcow2 -o "$options" "$tmp/disk" 8M
    serve "$tmp/disk"
    "$PYTHON" "$client" verbs "$sock" "$control" "$tmp/known" ||
        fail "$options"
    stop_nbdkit
    judge "$tmp/disk"
    mode=lazy
done

echo "bitmaps that are not kept up"
qemu-img create -q -f qcow2 "$tmp/disk" 8M
start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control" \
    qcow2-bitmaps=invalidate
"$PYTHON" "$client" invalidate "$sock" "$control" || fail "invalidate"
stop_nbdkit
qemu-img check -q "$tmp/disk" || fail "qemu-img check: status $?"

echo "while clients write"
for options in cluster_size=64k cluster_size=512; do
    [ "$options" = cluster_size=512 ] && mode=lazy || mode=durable
    qemu-img create -q -f qcow2 -o "$options" "$tmp/disk" 8M
    serve "$tmp/disk"
    "$PYTHON" "$client" writers "$sock" "$control" 7 "$tmp/known" ||
        fail "$options"
    stop_nbdkit
    judge "$tmp/disk"
done

echo "two images"
mkdir "$tmp/dir"
for name in a b; do
    qemu-img create -q -f qcow2 "$tmp/dir/$name" 8M
    # Where there are several they cannot grow in some versions of nbdkit.
    truncate -s 64M "$tmp/dir/$name"
done
start_nbdkit --filter="$filter" file dir="$tmp/dir" qcow2-control="$control"
"$PYTHON" "$client" pair "$sock" "$control" 12 || fail "two images"
stop_nbdkit
for name in a b; do
    qemu-img check -q "$tmp/dir/$name" || fail "$name: qemu-img check: $?"
done

# Opening the export of an enabled bitmap after a write: what the log says.
cat >"$tmp/refuse.py" <<'END'
import subprocess
import sys

import nbd


def can_open():
    h = nbd.NBD()
    h.set_export_name("bitmap/b")
    try:
        h.connect_unix(sys.argv[1])
    except nbd.Error:
        return False
    h.shutdown()
    return True


disk = nbd.NBD()
disk.connect_unix(sys.argv[1])
assert can_open()
disk.pwrite(bytes(4096), 0)
assert not can_open()
if len(sys.argv) > 2:
    subprocess.run(sys.argv[2:], check=True)
    assert can_open()
END
says ()
{
    grep -q -e "$1" "$log" || fail "$mode: not said: $1"
}

for mode in durable lazy invalidate; do
    echo "the export of a bitmap that changes, $mode"
    qemu-img create -q -f qcow2 "$tmp/disk" 8M
    qemu-img bitmap --add "$tmp/disk" b
    serve "$tmp/disk"
    if [ $mode = invalidate ]; then
        "$PYTHON" "$tmp/refuse.py" "$sock" || fail "$mode"
    else
        "$PYTHON" "$tmp/refuse.py" "$sock" \
            "$ctl" -S "$control" bitmap disable "" b || fail "$mode"
    fi
    stop_nbdkit
    if [ $mode = invalidate ]; then
        says "'b' does not tell what has changed: .*make a full copy"
    else
        says "'b' is enabled, so each write .*bitmap disable"
        grep 'full copy' "$log" && fail "$mode: the wrong advice"
    fi
done

echo "three images: the time of their snapshots is the id of the group"
cp "$tmp/dir/b" "$tmp/dir/c"
start_nbdkit --filter="$filter" file dir="$tmp/dir" qcow2-control="$control"
"$PYTHON" "$client" group "$sock" "$control" "$ctl" || fail "groups"
stop_nbdkit

echo "images without bitmaps"
qemu-img create -q -f qcow2 -o compat=0.10 "$tmp/disk" 1M
serve "$tmp/disk"
"$PYTHON" - "$nbddir" "$control" <<'END' || fail "version 2"
import sys
sys.path.insert(0, sys.argv[1])
from qmp_client import QMP
said = QMP(sys.argv[2]).fails("block-dirty-bitmap-add", node="", name="x",
                              persistent=True)
assert "version 2" in said, said
END
stop_nbdkit
