#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A command that has an image for itself, and takes long: what others are told
# meanwhile, until when it can be cancelled, what is said if it fails after its
# change, and a server that is told to stop.
# shellcheck source=control.sh source-path=SCRIPTDIR
source "$(dirname "$0")/control.sh"
requires_filter delay
requires_filter error
requires_plugin eval

# Each 32 KiB of the disk have a table, of the snapshot's and of the disk's.
qemu-img create -q -f qcow2 -o cluster_size=512 "$tmp/disk" 4M
qemu-io -f qcow2 -c 'write -q -P 5 0 4M' "$tmp/disk"
qemu-img snapshot -c s0 "$tmp/disk"
qemu-io -f qcow2 -c 'write -q -P 6 0 4M' "$tmp/disk"

# holds BYTE WHAT: what all of the disk is.
holds ()
{
    qemu-img check -q "$tmp/disk" >"$tmp/said" 2>&1 ||
        fail "$2: qemu-img check: $(tail -n 3 "$tmp/said")"
    qemu-io -r -f qcow2 -c "read -q -P $1 0 4M" "$tmp/disk" >"$tmp/said" ||
        fail "$2: $(cat "$tmp/said")"
    ! grep -q 'verification failed' "$tmp/said" || fail "$2: another disk"
}

for what in others cancel late fails; do
    echo "$what"
    cp "$tmp/disk" "$tmp/before"
    start_nbdkit --filter="$filter" --filter=delay --filter=error \
        file "$tmp/disk" qcow2-control="$control" delay-read=15ms delay-write=10ms \
        error-pwrite-rate=100% error-file="$tmp/trigger"
    "$PYTHON" "$nbddir/control_apart.py" "$what" "$sock" "$control" \
        "$tmp/trigger" || fail "$what: $(tail -n 3 "$log")"
    stop_nbdkit
    ! grep 'LAST COMMIT' "$log" || fail "$what: nothing that clients wrote"
    [ "$what" != fails ] || grep -q 'the snapshot is applied, but' "$log" ||
        fail "$what: the log says nothing of it"
    case $what in
    others | cancel) holds 6 "$what" ;;
    late) holds 5 "$what" ;;
    fails)
        # The dirty bit stands: who opens it next for writing counts anew.
        qemu-io -f qcow2 -c 'flush' "$tmp/disk" >"$tmp/said" 2>&1
        holds 5 "$what"
        ;;
    esac
    cp "$tmp/before" "$tmp/disk"
done

echo "SIGTERM while a client waits"
truncate -s 16M "$tmp/disk"
cp "$tmp/disk" "$tmp/before"
# nbdkit leaks the handles of connections that are there when it ends.
find_leaks=0
# Before the switch, and after it: then it is too late, and what is left of the
# work is done.
for case in "0 6" "60 5"; do
    # The plugin's programs are not ours, so no sanitizer looks at them; and
    # nbdkit does not wake up those that sleep.
    SANITIZER=no start_nbdkit -P below eval \
        get_size="stat -c %s '$tmp/disk'" can_write='exit 0' \
        can_flush='exit 0' \
        pread="sleep 0.1
               dd if='$tmp/disk' skip=\$4 count=\$3 \
                   iflag=count_bytes,skip_bytes" \
        pwrite="dd of='$tmp/disk' conv=notrunc seek=\$4 oflag=seek_bytes" \
        flush='exit 0'
    start_nbdkit --filter="$filter" nbd socket="$tmp/below.sock" \
        qcow2-control="$control"
    "$PYTHON" "$nbddir/control_apart.py" stop "$sock" "$control" "$pid" \
        "${case% *}" || fail "SIGTERM, $case: $(tail -n 3 "$log")"
    stop_nbdkit
    stop_nbdkit below
    ! grep 'LAST COMMIT' "$tmp/nbdkit.log" || fail "SIGTERM: lost writes"
    # nbdkit says it each time that it is asked.
    [ "$(grep -c 'aborting sleep' "$tmp/nbdkit.log")" -le 2 ] ||
        fail "SIGTERM, $case: $(cat "$tmp/nbdkit.log")"
    holds "${case#* }" "SIGTERM, $case"
    cp "$tmp/before" "$tmp/disk"
done
