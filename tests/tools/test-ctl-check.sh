#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2ctl check: each class of damage has qemu-img's exit code, findings name
# the place and the remedy, --dry-run changes nothing and tells the truth about
# the repair, and QEMU is content with what was repaired.
# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"

requires_qemu
requires_program jq
has_json || skip "qcow2ctl was built without jansson"

cd "$tmp"
# With 64 KiB clusters: refcount block at 0x20000, L1 table at 0x30000, L2 table
# at 0x40000.
qemu-img create -q -f qcow2 sound.qcow2 8M
qemu-io -f qcow2 -c 'write -P 1 0 256k' -c 'write -P 2 1M 64k' sound.qcow2 \
        > /dev/null

# poke FILE OFFSET BYTES
poke ()
{
    # shellcheck disable=SC2059
    printf "$3" | dd of="$1" bs=1 seek=$(($2)) conv=notrunc status=none
}

leak ()        { poke "$1" 0x20014 '\0\1'; truncate -s 10M "$1"; }
many_leaks ()
{
    poke "$1" 0x20190 "$(printf '\\0\\1%.0s' {1..1200})"
    truncate -s 96M "$1"
}
too_low ()     { poke "$1" 0x2000a '\0\0'; }
both ()        { too_low "$1"; leak "$1"; }
copied ()      { poke "$1" 0x40000 '\0'; }
misaligned ()  { poke "$1" 0x40006 '\2'; }
marked ()      { poke "$1" 79 '\2'; }
lost_table ()  { poke "$1" 52 '\1'; }
table_in_data () { poke "$1" 48 '\0\0\0\0\0\5\0\0'; }
unaligned_block () { poke "$1" 0x10006 '\2'; }
reserved_entry () { poke "$1" 0x10007 '\1'; }
block_on_l2 () { poke "$1" 0x10000 '\0\0\0\0\0\4\0\0'; }

# Damage; the exit code that qemu-img must have; codes after a repair of leaks,
# and of all; what is said.
while read -r damage want after_leaks after_all text; do
    declare -A after=([leaks]=$after_leaks [all]=$after_all)
    cp sound.qcow2 bad.qcow2
    $damage bad.qcow2
    status=0
    qemu-img check bad.qcow2 > qemu.out 2>&1 || status=$?
    [ "$status" -eq "$want" ] || broken "qemu-img check of $damage: $status"
    cp bad.qcow2 before.qcow2
    run_ctl check bad.qcow2
    [ "$code" -eq "$want" ] ||
        { cat "$out" "$err"; fail "$damage: code $code, not $want"; }
    grep -qE -- "$text" "$out" || { cat "$out"; fail "$damage: no '$text'"; }
    # The same in JSON, with a remedy for each finding.
    run_ctl check --output json bad.qcow2
    jq -e '.["nbdkit-qcow2"].findings |
           length > 0 and all (.text and .remedy and .severity)' "$out" \
       > /dev/null || { cat "$out"; fail "$damage: findings in JSON"; }
    # A dry run counts what the repair then does.
    run_ctl check --repair all --dry-run --output json bad.qcow2
    [ "$code" -eq "$want" ] || fail "$damage: code $code of a dry run"
    cmp -s before.qcow2 bad.qcow2 || fail "$damage: a dry run wrote"
    would=$(jq '.["nbdkit-qcow2"]."would-repair"' "$out")
    for repair in leaks all; do
        cp before.qcow2 bad.qcow2
        run_ctl check --repair $repair --output json bad.qcow2
        [ "$code" -eq "${after[$repair]}" ] ||
            { cat "$out" "$err"
              fail "$damage: code $code after a repair of $repair"; }
        status=0
        qemu-img check bad.qcow2 > qemu.out 2>&1 || status=$?
        [ "$status" -eq "${after[$repair]}" ] ||
            { cat qemu.out
              fail "$damage: qemu-img says $status after $repair"; }
    done
    fixed=$(jq '(."corruptions-fixed" // 0) + (."leaks-fixed" // 0)' "$out")
    [ "$fixed" -eq "$would" ] || [ "$damage" = marked ] ||
        fail "$damage: would repair $would, but repaired $fixed"
    [ "$after_all" -ne 0 ] ||
        qemu-img compare -q bad.qcow2 sound.qcow2 ||
        fail "$damage: the disk has changed"
    echo "ok: $damage"
done <<'END'
leak 3 0 0 leak: .*0xa0000.*--repair leaks
many_leaks 3 0 0 leak: .*0xc80000.*--repair leaks
reserved_entry 2 2 0 corruption: .*reserved bits.*--repair all
too_low 2 2 0 corruption: .*0x50000.*--repair all
both 2 2 0 leaked clusters? (was|were) found
copied 2 0 0 corruption: .*0x40000.*--repair all
misaligned 2 2 2 corruption: .*0x40000.*restore a backup
lost_table 2 2 0 corruption: .*refcount table.*past the end.*writes refcounts anew
END

# Refcounts that cannot be used are written anew, which a dry run announces;
# QEMU cannot check most of these.
for damage in table_in_data unaligned_block block_on_l2; do
    cp sound.qcow2 bad.qcow2
    $damage bad.qcow2
    run_ctl check -r all --dry-run bad.qcow2
    grep -q 'All refcounts would be written anew, from offset' "$out" ||
        { cat "$out"; fail "$damage: a dry run does not say what it does"; }
    works check -r all bad.qcow2
    qemu-img check -q bad.qcow2 || fail "$damage: qemu-img check after -r all"
    qemu-img compare -q bad.qcow2 sound.qcow2 || fail "$damage: the disk"
done

# The header says that another table is where the refcount table is.  Either
# may be wrong, so nothing of what the right one refers to becomes free.
qemu-img create -q -f qcow2 twice.qcow2 16M
qemu-io -c 'write -q -P 1 0 1M' twice.qcow2
qemu-img snapshot -c s twice.qcow2
qemu-io -c 'write -q -P 2 0 1M' twice.qcow2
qemu-img bitmap --add twice.qcow2 b
bitmaps=$(LC_ALL=C grep -obUaP '\x23\x85\x28\x75' twice.qcow2 | head -n 1)
for field in 40 64 $((${bitmaps%%:*} + 24)); do
    cp twice.qcow2 bad.qcow2
    poke bad.qcow2 "$field" '\0\0\0\0\0\1\0\0'
    run_ctl check -r all bad.qcow2
    grep -q 'Not all references could be found' "$out" ||
        { cat "$out"; fail "field $field: all references were found?"; }
    dd if=twice.qcow2 of=bad.qcow2 bs=64k count=1 conv=notrunc status=none
    qemu-img check -q bad.qcow2 || fail "field $field: something was freed"
done

# A rebuild of a sound image, too; the old refcounts are free then.
cp sound.qcow2 bad.qcow2
works check --repair rebuild bad.qcow2
qemu-img check -q bad.qcow2 || fail "qemu-img check after a rebuild"
qemu-img compare -q bad.qcow2 sound.qcow2 || fail "a rebuild: the disk"
cmp -s -n 8 <(tail -c +49 bad.qcow2) <(tail -c +49 sound.qcow2) &&
    fail "a rebuild has left the refcount table where it was"

# A file that was cut off: new refcounts would lie where its entries point to.
qemu-img create -q -f qcow2 -o cluster_size=64k cut.qcow2 64M
qemu-io -c 'write -q -P 1 0 8M' cut.qcow2
truncate -s 4M cut.qcow2
cp cut.qcow2 cut.before
for what in all rebuild; do
    run_ctl check -r $what cut.qcow2
    [ "$code" -eq 2 ] || fail "code $code after -r $what of a file cut off"
    cmp -s cut.qcow2 cut.before || fail "-r $what changes a file cut off"
done
run_ctl check -r rebuild --dry-run cut.qcow2
grep -q 'not written anew while the end' "$out" || fail "it does not say why"

# References are missing, and the refcounts cannot be used: only a rebuild does
# something, and then the cluster that is lost keeps its refcount.
cp sound.qcow2 bad.qcow2
misaligned bad.qcow2
lost_table bad.qcow2
cp bad.qcow2 before.qcow2
run_ctl check -r all bad.qcow2
cmp -s bad.qcow2 before.qcow2 || fail "-r all has guessed"
grep -q -- '--repair rebuild' "$out" || { cat "$out"; fail "no hint"; }
run_ctl check -r rebuild --dry-run bad.qcow2
grep -q 'space may be lost' "$out" || { cat "$out"; fail "nothing is lost?"; }
run_ctl check -r rebuild bad.qcow2
[ "$code" -eq 2 ] || fail "code $code after a rebuild without all references"
run_ctl check --output json bad.qcow2
jq -e '.["nbdkit-qcow2"] | .incomplete and (."refcounts-unusable" | not) and
       ([.findings[] | select (.offset == 327680 and .refcount == 1)] |
        length == 1)' "$out" > /dev/null ||
    { cat "$out"; fail "the lost cluster is free"; }

# Entries of the snapshot table that lack fields are completed.
cp sound.qcow2 bad.qcow2
qemu-img snapshot -c keep bad.qcow2
at=$((0x$(od -An -tx1 -j64 -N8 bad.qcow2 | tr -d ' ')))
dd if=bad.qcow2 of=names bs=1 skip=$((at + 64)) count=5 status=none
dd if=names of=bad.qcow2 bs=1 seek=$((at + 40)) conv=notrunc status=none
poke bad.qcow2 $((at + 36)) '\0\0\0\0'
run_ctl check bad.qcow2
[ "$code" -eq 2 ] || fail "code $code of an incomplete snapshot"
works check -r all bad.qcow2
qemu-img check -q bad.qcow2 || fail "qemu-img check: the snapshot table"
qemu-img snapshot -l bad.qcow2 | grep -q keep || fail "the snapshot is gone"

# A mark alone is no damage to QEMU, which refuses to write to the image.
cp sound.qcow2 bad.qcow2
marked bad.qcow2
run_ctl check -r all bad.qcow2
[ "$code" -eq 0 ] || { cat "$out" "$err"; fail "marked: code $code"; }
[ "$(qemu-img info --output=json bad.qcow2 |
     jq '."format-specific".data.corrupt')" = false ] ||
    fail "the mark of corruption is still there"

# Nothing is said twice, nothing if -q.
run_ctl -q check -r all sound.qcow2
if [ -s "$out" ] || [ -s "$err" ]; then fail "-q says something"; fi

# Bounded memory.
fails 1 'at least 1 MiB' check --memory 1 sound.qcow2
fails 1 'at least 1 MiB' check --memory 0 sound.qcow2
works check --memory 1M sound.qcow2

# Progress, and ^C at a safe point: the image is as sound as before.
run_ctl -p check sound.qcow2
grep -q '100%' "$err" || fail "-p shows nothing"
echo "ok"
