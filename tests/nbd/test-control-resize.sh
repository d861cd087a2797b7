#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Disks that become larger while they are served: clients write meanwhile, new
# clients see the new size, and QEMU reads the same disk afterwards.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl

# crowd SECONDS ARGUMENT...: serve $tmp/disk to a crowd.
crowd ()
{
    local seconds=$1

    shift
    start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control" \
        "$@"
    "$PYTHON" "$nbddir/control_resize.py" "$sock" "$control" "$tmp" \
        "$seconds" || fail "with $*: $(tail -n 3 "$log")"
    stop_nbdkit
}

# same: QEMU finds nothing wrong, and reads $tmp/expected.
same ()
{
    qemu-img check -q "$tmp/disk" || fail "qemu-img check: status $?"
    qemu-img compare "$tmp/disk" "$tmp/expected" >"$tmp/said" ||
        fail "QEMU reads another disk: $(cat "$tmp/said")"
}

# make ARGUMENT...: an image with some data, and $tmp/expected.
make ()
{
    rm -f "$tmp/disk" "$tmp/expected"
    qemu-img create -q -f qcow2 "$@"
    qemu-io -f qcow2 -c 'write -q -P 7 1M 3M' "$tmp/disk"
    qemu-img convert -f qcow2 -O raw "$tmp/disk" "$tmp/expected"
}

echo "a crowd"
make -o cluster_size=4k "$tmp/disk" 8M
crowd 3
same

echo "one bitmap, kept up"
for mode in lazy durable; do
    make -o cluster_size=64k "$tmp/disk" 8M
    qemu-img bitmap --add "$tmp/disk" b
    crowd 2 qcow2-bitmaps=$mode
    same
    qemu-img info "$tmp/disk" | grep -q in-use && fail "a bitmap is in use"
    qemu-img convert -q --bitmaps -O qcow2 "$tmp/disk" "$tmp/copy" ||
        fail "QEMU cannot read the bitmap"
done

echo "above a longer backing image"
qemu-img create -q -f qcow2 "$tmp/base" 64M
qemu-io -f qcow2 -c 'write -q -P 9 0 64M' "$tmp/base"
make -o cluster_size=4k -b "$tmp/base" -F qcow2 "$tmp/disk" 7M
crowd 1 qcow2-follow="$tmp"
same

echo "a data file"
qemu-img create -q -f qcow2 -o data_file="$tmp/data" "$tmp/disk" 1M
make -o data_file="$tmp/data" "$tmp/disk" 8M
crowd 1 qcow2-follow="$tmp"
same

echo "a raw data file, which is larger and has garbage"
qemu-img create -q -f qcow2 -o data_file="$tmp/data",data_file_raw=on \
    "$tmp/disk" 1M
make -o cluster_size=4k,data_file="$tmp/data",data_file_raw=on "$tmp/disk" 8M
truncate -s 16M "$tmp/data"
dd if=/dev/urandom of="$tmp/data" bs=1M seek=8 count=8 conv=notrunc 2>/dev/null
crowd 1 qcow2-follow="$tmp"
same
cmp -n "$(stat -c %s "$tmp/expected")" "$tmp/data" "$tmp/expected" ||
    fail "the data file is another disk"
[ "$(qemu-img map --output json "$tmp/disk" | jq '[.[].present] | all')" \
    = true ] || fail "a part of the disk has no table"
start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control" \
    qcow2-follow="$tmp"
"$ctl" -S "$control" resize "" 8T >"$tmp/said" 2>&1 &&
    fail "there are more tables than are made at once"
has 'in steps of at most 549755813888 bytes' "too many tables"
stop_nbdkit

echo "qcow2ctl"
make "$tmp/disk" 8M
qemu-img bitmap --add "$tmp/disk" b
start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control" \
    qcow2-bitmaps=durable
[ "$("$ctl" -S "$control" resize "" +1M)" = "Image resized." ] ||
    fail "resize by a size"
[ "$(nbdinfo --size "nbd+unix:///?socket=$sock")" = 9437184 ] ||
    fail "a new client has another size"
"$ctl" -S "$control" --output json resize "" 10000000 >"$tmp/said"
has '"virtual-size": 10000384' "the size as JSON"
[ -z "$("$ctl" -q -S "$control" resize "" 11M)" ] || fail "-q prints"
for try in "give --shrink:8M" "give --shrink:-1M" \
    "has only:-99G" "larger than 32 MiB:7E"; do
    status=0
    "$ctl" -S "$control" resize "" "${try#*:}" >"$tmp/said" 2>&1 || status=$?
    [ $status -eq 1 ] || fail "status $status of ${try#*:}"
    has "${try%:*}" "${try#*:}"
done
"$ctl" -S "$control" resize --preallocation=full "" 12M >"$tmp/said" 2>&1 &&
    fail "--preallocation is ignored"
has 'preallocates nothing' "--preallocation"

echo "what is in the way"
qmp block_resize,device= && has "'size' is missing" "no size"
"$PYTHON" -c "import nbd, subprocess
h = nbd.NBD()
h.set_export_name('bitmap/b')
h.connect_unix('$sock')
r = subprocess.run(['$ctl', '-S', '$control', 'resize', '', '40G'],
                   capture_output=True, text=True)
assert r.returncode == 4 and 'another table then: \\\"b\\\"' in r.stderr, r
assert h.get_size() == 11 << 20
h.shutdown()" || fail "a bitmap that is open"
stop_nbdkit
qemu-img check -q "$tmp/disk" || fail "qemu-img check: status $?"
[ "$(qemu-img info --output json "$tmp/disk" | jq '."virtual-size"')" \
    = 11534336 ] || fail "QEMU sees another size"
start_nbdkit -r --filter="$filter" file "$tmp/disk" qcow2-control="$control"
"$ctl" -S "$control" resize "" 20M >"$tmp/said" 2>&1 &&
    fail "a server that only reads has resized"
has read-only "a server that only reads"
stop_nbdkit
