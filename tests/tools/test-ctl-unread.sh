#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An image with a refcount block that the host cannot read: qcow2ctl check goes
# on and names the remedy, with qemu-img's exit code; a repair of leaks changes
# nothing; one of all and a rebuild write all refcounts anew, without the block,
# and QEMU finds nothing in what comes of it.  The filter serves the disk, but
# writes to none that was not closed.
# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"

requires_qemu
requires_program jq
requires_libnbd
requires_plugin eval
has_json || skip "qcow2ctl was built without jansson"

cd "$tmp"
disk=$tmp/disk.qcow2

# serve: without what is in bad.range, FIRST and END.  The plugin's programs
# are not ours, so no sanitizer looks at them.
serve ()
{
    # shellcheck disable=SC2016  # The plugin's shell knows them.
    SANITIZER=no start_nbdkit -P below eval \
        get_size="stat -c %s '$disk'" can_write='exit 0' can_flush='exit 0' \
        pread="read first end < '$tmp/bad.range'
               if [ \$((\$4)) -lt \$end ] && [ \$((\$4 + \$3)) -gt \$first ]
               then echo EIO bad sector >&2; exit 1
               fi
               dd if='$disk' skip=\$4 count=\$3 iflag=count_bytes,skip_bytes" \
        pwrite="dd of='$disk' conv=notrunc seek=\$4 oflag=seek_bytes" \
        flush='exit 0'
}

# number OFFSET LENGTH: a big-endian one of the image.
number ()
{
    echo $((0x$(od -An -tx1 -j"$1" -N"$2" "$disk" | tr -d ' \n')))
}

# With small clusters there are several blocks, one of them next to the header.
for size in 64k 4k 512; do
    kib=1024
    [ $size != 512 ] || kib=32
    rm -f "$disk"
    qemu-img create -q -f qcow2 -o cluster_size=$size "$disk" $((24 * kib))k
    qemu-io -c "write -q -P 1 0 $((2 * kib))k" "$disk"
    qemu-img snapshot -c s "$disk"
    qemu-io -c "write -q -P 2 ${kib}k $((9 * kib))k" "$disk"
    truncate -s $((48 * kib))k "$disk"  # servers do not let it grow
    cp "$disk" sound.qcow2
    table=$(number 48 8)
    for entry in 0 1; do
        block=$(number $((table + 8 * entry)) 8)
        [ "$block" -ne 0 ] || continue
        cp sound.qcow2 "$disk"
        echo $((block + 128)) $((block + 129)) > bad.range
        offset=$(printf '0x%x' "$block")

        # What qemu-img says of it.
        serve
        status=0
        qemu-img check "$uri" > qemu.out 2>&1 || status=$?
        [ "$status" -eq 1 ] ||
            { cat qemu.out; broken "qemu-img check ends with $status"; }
        run_ctl check "$uri"
        [ "$code" -eq "$status" ] ||
            { cat "$out" "$err"; fail "$size, $entry: code $code"; }
        [ "$(grep -c '^error: ' "$out")" -eq 1 ] ||
            { cat "$out"; fail "$size, $entry: not one line"; }
        grep -q "^error: .*block at offset $offset, .*Input/output error; \
--repair all writes" "$out" ||
            { cat "$out"; fail "$size, $entry: no place, or no remedy"; }
        ! grep -q 'Not all references' "$out" ||
            fail "$size, $entry: references are missing?"

        # What a repair of all would do, and what one of leaks does.
        run_ctl check -r all --dry-run "$uri"
        grep -q 'All refcounts would be written anew' "$out" ||
            { cat "$out"; fail "$size, $entry: a dry run of all"; }
        grep -q 'see to 1 of these, 0 would stay' "$out" ||
            { cat "$out"; fail "$size, $entry: a dry run of all leaves some"; }
        place=$(sed -n 's/.*anew, from offset \([0-9]*\) on.*/\1/p' "$out")
        run_ctl check -r leaks --dry-run "$uri"
        grep -q 'see to 0 of these, 1 would stay' "$out" ||
            { cat "$out"; fail "$size, $entry: a dry run of leaks"; }
        run_ctl check --no-lock -r leaks "$uri"
        [ "$code" -eq 1 ] || fail "$size, $entry: code $code of -r leaks"
        cmp -s "$disk" sound.qcow2 || fail "$size, $entry: -r leaks has written"

        for repair in all rebuild; do
            cp sound.qcow2 "$disk"
            works check --no-lock -r $repair --output json "$uri"
            jq -e '."check-errors" == 0 and
                   (.["nbdkit-qcow2"].findings | length == 1) and
                   .["nbdkit-qcow2"].rebuilt' "$out" \
               > /dev/null || { cat "$out"; fail "$size, $entry: -r $repair"; }
            qemu-img check "$disk" > qemu.out 2>&1 ||
                { cat qemu.out; fail "$size, $entry: qemu-img, -r $repair"; }
            [ "$(number 48 8)" -eq "$place" ] ||
                fail "$size, $entry: they are at $(number 48 8), not at $place"
            qemu-img compare -q "$disk" sound.qcow2 ||
                fail "$size, $entry: -r $repair has changed the disk"
            # Nobody needs the block any more.
            qemu-img check -q "$uri" || fail "$size, $entry: it is still used"
        done
        stop_nbdkit below
        echo "ok: $size, entry $entry"
    done
done

# A refcount table that cannot be read: where its blocks are is not known, so
# new ones go behind the file, which a server does not let grow.
rm -f "$disk"
qemu-img create -q -f qcow2 -o cluster_size=4k "$disk" 24M
qemu-io -c 'write -q -P 1 0 2M' "$disk"
table=$(number 48 8)
echo "$table" $((table + 512)) > bad.range
cp "$disk" sound.qcow2
serve
! qemu-img check "$uri" > qemu.out 2>&1 || broken "QEMU needs no refcount table"
run_ctl check "$uri"
[ "$code" -eq 1 ] || { cat "$out" "$err"; fail "table: code $code"; }
grep -q "^error: the refcount table at offset $(printf '0x%x' "$table") cannot \
be read: .*--repair all writes" "$out" || { cat "$out"; fail "no place"; }
for repair in leaks all rebuild; do
    run_ctl check --no-lock -r $repair "$uri"
    [ "$code" -ne 0 ] || fail "table: -r $repair does something"
    cmp -s "$disk" sound.qcow2 || fail "table: -r $repair has written"
done
grep -q 'no space left: .* are needed' "$err" ||
    { cat "$err"; fail "it does not say that room is missing"; }
# A dry run knows.
run_ctl check -r all --dry-run "$uri"
[ "$code" -eq 1 ] || fail "table: code $code of a dry run"
grep -q '^The repair would fail: no space left: .* are needed' "$out" ||
    { cat "$out"; fail "a dry run does not know that room is missing"; }
run_ctl check -r all --dry-run --output json "$uri"
jq -e '."nbdkit-qcow2" | ."would-fail" and ."would-repair" == 0' "$out" \
   > /dev/null || { cat "$out"; fail "nor does it in JSON"; }
stop_nbdkit below

# The active L1 table, for which QEMU does not open an image: one line, the rest
# is checked, and what seems to be free may be the disk.
rm -f "$disk"
qemu-img create -q -f qcow2 -o cluster_size=4k "$disk" 24M
qemu-io -c 'write -q -P 1 0 2M' "$disk"
qemu-img snapshot -c s "$disk"
qemu-io -c 'write -q -P 2 1M 2M' "$disk"
truncate -s 48M "$disk"
table=$(number 40 8)
echo "$table" $((table + 8)) > bad.range
cp "$disk" sound.qcow2
serve
status=0
qemu-img check "$uri" > qemu.out 2>&1 || status=$?
grep -q 'L1 table' qemu.out || { cat qemu.out; broken "QEMU reads no L1 table"; }
run_ctl check "$uri"
[ "$code" -eq "$status" ] || { cat "$out"; fail "L1: code $code, not $status"; }
[ "$(grep -c '^error: ' "$out")" -eq 1 ] ||
    { cat "$out"; fail "L1: not one line"; }
grep -q "^error: .*L1 table at offset $(printf '0x%x' "$table") .*; see to the \
disk or server" "$out" || { cat "$out"; fail "L1: no place, or no remedy"; }
grep -q '^leak: .* 0 users' "$out" ||
    { cat "$out"; fail "L1: the rest is not checked"; }
! grep -q 'frees it' "$out" || { cat "$out"; fail "L1: the disk is a leak"; }
for repair in leaks all rebuild; do
    run_ctl check -r $repair --dry-run "$uri"
    grep -q 'The repair would see to 0 of these' "$out" ||
        { cat "$out"; fail "L1: a dry run promises something"; }
    run_ctl check --no-lock -r $repair "$uri"
    [ "$code" -eq 1 ] || fail "L1: code $code of -r $repair"
    cmp -s "$disk" sound.qcow2 || fail "L1: -r $repair has written"
done
stop_nbdkit below

# Writing to an image that was closed: the message names the remedy, and it
# works.
rm -f "$disk"
qemu-img create -q -f qcow2 "$disk" 24M
qemu-io -c 'write -q -P 1 0 2M' "$disk"
truncate -s 48M "$disk"
block=$(number "$(number 48 8)" 8)
echo "$block" $((block + 512)) > bad.range
cp "$disk" sound.qcow2
check_filter
serve
start_nbdkit --filter="$filter" nbd socket="$tmp/below.sock"
! qemu-io -f raw -c 'write -q -P 3 4M 64k' "$uri" > qemu.out 2>&1 ||
    fail "a cluster is taken without its refcount"
qemu-io -f raw -c 'read -q -P 1 0 2M' "$uri" || fail "the disk cannot be read"
stop_nbdkit
stop_nbdkit below
# shellcheck disable=SC2154     # Set by start_nbdkit.
grep -q 'block at offset 0x.*failed: .*qcow2ctl check --repair' "$log" ||
    { cat "$log"; fail "the filter names no remedy for a write"; }
serve
fails 1 'block at offset 0x.*failed: .*check --repair rebuild' \
      snapshot create --no-lock "$uri" s
works check --no-lock -r rebuild "$uri"
works snapshot create --no-lock "$uri" s
qemu-img check -q "$disk" || fail "qemu-img check after a snapshot"
qemu-img compare -q "$disk" sound.qcow2 || fail "the disk has changed"
stop_nbdkit below

# An image that was not closed, with 64 KiB clusters.
rm -f "$disk"
qemu-img create -q -f qcow2 -o lazy_refcounts=on "$disk" 24M
qemu-io -c 'write -q -P 1 0 2M' "$disk"
truncate -s 48M "$disk"
block=$(number "$(number 48 8)" 8)
echo "$block" $((block + 512)) > bad.range
printf '\1' | dd of="$disk" bs=1 seek=79 conv=notrunc status=none
cp "$disk" dirty.qcow2
serve
fails 1 "block at offset .*0x.*check --repair rebuild" \
      resize --no-lock "$uri" 32M
cmp -s "$disk" dirty.qcow2 || fail "it was written to"
stop_nbdkit below
check_filter
serve
start_nbdkit --filter="$filter" nbd socket="$tmp/below.sock"
qemu-io -f raw -c 'read -q -P 1 0 2M' "$uri" || fail "the disk cannot be read"
! qemu-io -f raw -c 'write -q -P 3 4M 64k' "$uri" > qemu.out 2>&1 ||
    fail "the filter writes to it"
grep -q 'Input/output error' qemu.out ||
    { cat qemu.out; fail "the filter refuses for another reason"; }
stop_nbdkit
stop_nbdkit below
# shellcheck disable=SC2154     # Set by start_nbdkit.
grep -q 'block at offset 0x.*qcow2ctl check --repair rebuild' "$log" ||
    { cat "$log"; fail "the filter does not name the remedy"; }
cmp -s "$disk" dirty.qcow2 || fail "the filter has written to it"
serve
works check --no-lock -r rebuild "$uri"
grep -q 'All refcounts were written anew' "$out" || fail "it does not say so"
works resize --no-lock "$uri" 32M
qemu-img check -q "$disk" || fail "qemu-img check after resizing"
stop_nbdkit below
echo "ok"
