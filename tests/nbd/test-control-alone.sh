#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Commands of the control socket that need an image for themselves: applying a
# snapshot, making the disk smaller, emptying it.  They are refused while a
# client has the disk, or a part of the image, and who comes meanwhile waits and
# finds the new disk; bitmaps stay true.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
requires_program jq
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl

# make: an image with a snapshot, s0, and $tmp/old, what it has.
make ()
{
    rm -f "$tmp/disk"
    qemu-img create -q -f qcow2 -o "$1" "$tmp/disk" 8M
    qemu-io -f qcow2 -c 'write -q -P 7 1M 3M' "$tmp/disk"
    qemu-img snapshot -c s0 "$tmp/disk"
    qemu-img convert -f qcow2 -O raw "$tmp/disk" "$tmp/old"
    qemu-img bitmap --add -g 64k "$tmp/disk" b
    qemu-io -f qcow2 -c 'write -q -P 8 2M 128k' "$tmp/disk"
    qemu-img bitmap --clear "$tmp/disk" b
}

# sound: QEMU finds nothing wrong, and no bitmap in use.
sound ()
{
    qemu-img check -q "$tmp/disk" || fail "$1: qemu-img check: status $?"
    ! qemu-img info "$tmp/disk" | grep -q in-use || fail "$1: in use"
}

serve ()
{
    start_nbdkit --filter="$filter" file "$tmp/disk" qcow2-control="$control" \
        "$@"
}

quick=
for options in cluster_size=64k cluster_size=4k,lazy_refcounts=on; do
    for mode in durable lazy; do
        echo "$options, $mode"
        make "$options"
        serve qcow2-bitmaps=$mode
        # shellcheck disable=SC2086     # No word at first.
        "$PYTHON" "$nbddir/control_alone.py" "$sock" "$control" "$tmp/old" \
            $quick ||
            fail "$options, $mode: $(tail -n 3 "$log")"
        stop_nbdkit
        sound "$options, $mode"
        quick=quick
    done
done

echo "qcow2ctl"
make cluster_size=64k
serve
"$ctl" -S "$control" snapshot apply "" s0 || fail "snapshot apply: status $?"
nbdcopy "nbd+unix:///?socket=$sock" "$tmp/copy"
cmp "$tmp/copy" "$tmp/old" || fail "the disk is not the snapshot's"
"$ctl" -S "$control" snapshot apply --by-id "" 1 || fail "apply --by-id"
status=0
"$ctl" -S "$control" snapshot apply "" none >"$tmp/said" 2>&1 || status=$?
[ $status -eq 5 ] || fail "no such snapshot: status $status"
has "no snapshot with the name 'none'" "no such snapshot"
status=0
"$ctl" -S "$control" resize "" 4M >"$tmp/said" 2>&1 || status=$?
[ $status -eq 1 ] || fail "status $status of a smaller size"
has 'give --shrink' "a smaller size"
[ "$("$ctl" -S "$control" resize --shrink "" 4M)" = "Image resized." ] ||
    fail "resize --shrink"
[ "$(nbdinfo --size "nbd+unix:///?socket=$sock")" = 4194304 ] ||
    fail "a new client has another size"
"$ctl" -S "$control" resize --shrink "" +1M >"$tmp/said" ||
    fail "--shrink in vain"
"$ctl" -S "$control" empty "" || fail "empty: status $?"
nbdcopy "nbd+unix:///?socket=$sock" "$tmp/copy"
cmp -n 5242880 "$tmp/copy" /dev/zero || fail "it is not empty"
stop_nbdkit
qemu-img check -q "$tmp/disk" || fail "qemu-img check: status $?"

echo "what does not read"
make cluster_size=64k
start_nbdkit -r --filter="$filter" file "$tmp/disk" qcow2-control="$control"
for command in "snapshot apply  s0" "resize --shrink  1M" "empty "; do
    # shellcheck disable=SC2086         # An empty word for the export.
    "$ctl" -S "$control" ${command/  / / } >"$tmp/said" 2>&1 &&
        fail "$command: a server that only reads has changed the image"
done
stop_nbdkit
