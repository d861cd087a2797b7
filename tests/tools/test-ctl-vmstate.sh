#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl snapshot vmstate: it reads what QEMU has saved with savevm.  The
# judge is QEMU, which reads what lies behind the disk of the snapshot.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program jq
has_json || skip "qcow2ctl was built without JSON"

img=$tmp/disk.qcow2

# theirs NAME SIZE: what QEMU reads, in $tmp/theirs, of a copy whose header
# names the snapshot's L1 table, and a disk that goes on to where the state ends.
theirs ()
{
    local size=$2

    cp "$img" "$tmp/copy.qcow2"
    "$PYTHON" - "$tmp/copy.qcow2" "$1" "$size" << 'EOF' > "$tmp/start"
import struct
import sys

path, wanted, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(path, "r+b") as f:
    image = f.read()
    bits, = struct.unpack_from(">I", image, 20)
    extended = struct.unpack_from(">Q", image, 72)[0] & 16
    count, at = struct.unpack_from(">IQ", image, 60)
    for _ in range(count):
        l1, entries, id_len, name_len, *_, extra = struct.unpack_from(
            ">QIHHIIQII", image, at)
        length, disk = struct.unpack_from(">QQ", image, at + 40)
        start = at + 40 + extra + id_len
        if image[start:start + name_len].decode() == wanted:
            break
        at = (start + name_len + 7) & ~7
    table = 1 << (2 * bits - (4 if extended else 3))
    start = (disk + table - 1) // table * table
    assert length == size, (length, size)
    f.seek(24)
    f.write(struct.pack(">Q", start + (length + 511) // 512 * 512))
    f.seek(36)
    f.write(struct.pack(">I", entries))
    f.write(struct.pack(">Q", l1))
    print(start)
EOF
    qemu-img dd -U -f qcow2 -O raw if="$tmp/copy.qcow2" of="$tmp/theirs" \
        bs=4k skip=$(($(cat "$tmp/start") / 4096)) 2> "$tmp/dd" ||
        { cat "$tmp/dd" >&2; fail "QEMU cannot read it"; }
    truncate -s "$size" "$tmp/theirs"
}

is_read ()              # NAME
{
    local name=$1 size

    "$ctl" --output json snapshot list "$img" > "$tmp/list.json"
    size=$(jq --arg n "$name" '[.[] | select(.name == $n)][0] |
        ."vm-state-size"' "$tmp/list.json")
    [ "$size" -gt 0 ] || fail "$name has no VM state"
    theirs "$name" "$size"
    works snapshot vmstate "$img" "$name"
    cmp "$out" "$tmp/theirs" || fail "the VM state of $name, to a pipe"
    rm -f "$tmp/file"
    works snapshot vmstate --output-file "$tmp/file" "$img" "$name"
    cmp "$tmp/file" "$tmp/theirs" || fail "the VM state of $name, to a file"
    [ "$(stat -c %a "$tmp/file")" = 600 ] || fail "others can read it"
    # Nothing is overwritten.
    fails 5 'cannot be created: File exists' snapshot vmstate \
          --output-file "$tmp/file" "$img" "$name"
}

echo "made by hand, one with a disk that ends inside an L2 table"
PYTHONPATH=$top_srcdir/tests/lib "$PYTHON" - "$img" << 'END2'
import sys
from qsnap import Snapshots

image = Snapshots(3 << 20)
for index in range(0, 700, 3):
    image.write(index, f"at {index}".encode() * 100)
image.snapshot(b"vm", b"1", vm_state=bytes(range(256)) * 9999)
image.write(5, b"later")
image.snapshot(b"short", b"2", vm_state=b"another" * 999)
image.snapshot(b"none", b"3")
image.save(sys.argv[1])
END2
is_read vm
cmp "$tmp/file" <("$PYTHON" -c 'import sys
sys.stdout.buffer.write(bytes(range(256)) * 9999)') || fail "not what was saved"
is_read short
works snapshot vmstate --by-id "$img" 2
cmp "$out" "$tmp/theirs" || fail "by its id"
fails 5 'has no VM state: it is of the disk alone' snapshot vmstate "$img" none
fails 5 "no snapshot with the name 'x'" snapshot vmstate "$img" x
fails 5 "no snapshot with the id 'vm'" snapshot vmstate --by-id "$img" vm
[ ! -e "$tmp/x" ] || fail "there is a file"
fails 5 '' snapshot vmstate --output-file "$tmp/x" "$img" x
[ ! -e "$tmp/x" ] || fail "a failure leaves a file"
if [ -c /dev/full ]; then
    code=0
    "$ctl" snapshot vmstate "$img" vm > /dev/full 2> "$err" || code=$?
    [ "$code" -eq 1 ] || fail "code $code for a full device"
    grep -q 'standard output: cannot be written' "$err" ||
        fail "a full device: $(cat "$err")"
fi

echo "hostile: a state, or a disk, that the L1 table cannot hold"
at=$("$PYTHON" -c 'import struct, sys
print(struct.unpack_from(">Q", open(sys.argv[1], "rb").read(100), 64)[0])' \
    "$img")
for field in 40 48; do
    for bytes in '\377\377\377\377\377\377\377\377' '\0\0\0\377\0\0\0\0' \
            '\177\377\377\377\377\377\377\377'; do
        cp "$img" "$tmp/bad.qcow2"
        # shellcheck disable=SC2059
        printf "$bytes" | dd of="$tmp/bad.qcow2" bs=1 seek=$((at + field)) \
            conv=notrunc status=none
        run_ctl snapshot vmstate "$tmp/bad.qcow2" vm
        [ "$code" -eq 1 ] || fail "code $code for a broken entry"
        [ ! -s "$out" ] || fail "it wrote something of a broken entry"
    done
done

make_disk ()            # OPTIONS, or "backing"
{
    rm -f "$img"
    if [ "$1" = backing ]; then
        # Its bytes must not shine through where the state has none.
        qemu-img create -q -f raw "$tmp/base.raw" 2G
        qemu-io -f raw -c 'write -q -P 99 536870912 8M' "$tmp/base.raw"
        qemu-img create -q -f qcow2 -b base.raw -F raw "$img" 8M
    else
        qemu-img create -q -f qcow2 -o "$1" "$img" 8M
        qemu-io -f qcow2 -c 'write -q -P 1 0 3M' "$img"
    fi
}

# QEMU finds nothing wrong, and has as many snapshots.
is_clean ()             # IMAGE NUMBER
{
    qemu-img check -q "$1" || fail "qemu-img check of $1"
    [ "$(qemu-img snapshot -l "$1" | awk 'NR > 2' | wc -l)" -eq "$2" ] ||
        fail "QEMU does not see $2 snapshots in $1"
}

"$PYTHON" -c 'import sys
sys.stdout.buffer.write(bytes(i * 7 // 512 % 255 + 1 for i in range(5000001)))' \
    > "$tmp/memory"
for options in cluster_size=64k cluster_size=512 cluster_size=2M \
        extended_l2=on,cluster_size=16k compat=0.10 backing; do
    echo "saved by us: $options"
    make_disk "$options"
    works snapshot create --vm-state "$tmp/memory" "$img" vm
    is_clean "$img" 1
    is_read vm
    cmp "$tmp/memory" "$tmp/file" || fail "it is not what was saved"
    # Two at once, and QEMU lets go of one.
    works snapshot create --vm-state "$tmp/list.json" "$img" other
    is_read other
    qemu-img snapshot -d vm "$img"
    is_clean "$img" 1
    is_read other
done

for format in luks aes; do
    "$ctl" create --help | grep -q encrypt || continue
    echo "encrypted: $format"
    rm -f "$img"
    secret=secret,id=s,data=secret
    open=driver=qcow2,file.filename=$img,encrypt.key-secret=s
    printf 'secret\n' > "$tmp/pass"
    # What QEMU is asked for has one byte, so that it can compare.
    head -c 300000 /dev/zero | tr '\0' 'U' > "$tmp/ones"
    qemu-img create -q -f qcow2 --object "$secret" \
        -o "encrypt.format=$format,encrypt.key-secret=s" "$img" 8M 2> "$tmp/e" ||
        { cat "$tmp/e" >&2; continue; }
    works snapshot create --passphrase "+$tmp/pass" --vm-state "$tmp/ones" \
        "$img" vm
    ! grep -q UUUUUUUUUUUUUUUU "$img" || fail "the state is not encrypted"
    qemu-img snapshot --object "$secret" --image-opts -a vm "$open"
    qemu-io --object "$secret" --image-opts \
        -c 'read -b -P 0x55 0 299520' "$open" > "$tmp/io" 2>&1
    grep -q '^read 299520' "$tmp/io" || { cat "$tmp/io" >&2; fail "no read"; }
    ! grep -q 'verification failed' "$tmp/io" || fail "QEMU reads another state"
done

echo "what cannot be saved"
rm -f "$img"
qemu-img create -q -f qcow2 "$img" 8M
cp "$img" "$tmp/before"
: > "$tmp/empty"
mkfifo "$tmp/pipe"
fails 1 'the VM state cannot be saved: it is empty' \
      snapshot create --vm-state "$tmp/empty" "$img" vm
fails 5 'no-such-file: the VM state cannot be read: No such file' \
      snapshot create --vm-state "$tmp/no-such-file" "$img" vm
fails 1 'it is no regular file' snapshot create --vm-state "$tmp/pipe" "$img" vm
fails 1 'clients would wait' -S "$tmp/sock" snapshot create \
      --vm-state "$tmp/memory" "" vm
cmp "$img" "$tmp/before" || fail "a refusal has changed the image"
qemu-img create -q -f qcow2 -o "data_file=$tmp/data" "$tmp/d.qcow2" 8M
fails 1 'in another file' snapshot create --data-file "$tmp/data" \
      --vm-state "$tmp/memory" "$tmp/d.qcow2" vm

command -v qemu-system-sparc > /dev/null || exit 0

# save NAME: with a machine that does not run.  (Of an encrypted image QEMU 7.2
# cannot do it: it aborts.)
save ()
{
    printf '%s\n' "savevm $1" quit |
        timeout "$((patience * 3))" qemu-system-sparc -M none -m 4 -nodefaults \
            -display none -accel tcg -monitor stdio \
            -drive "if=none,id=disk,file=$img,format=qcow2" \
            > "$tmp/monitor" 2>&1 || fail "$(cat "$tmp/monitor")"
}

for options in cluster_size=64k cluster_size=4k \
        extended_l2=on,cluster_size=16k compat=0.10 backing; do
    echo "savevm: $options"
    make_disk "$options"
    save vm
    is_read vm
done

# A machine goes on with a state that was saved by us, in another image.
echo "loadvm"
"$ctl" snapshot vmstate "$img" vm > "$tmp/theirs"
rm -f "$img"
qemu-img create -q -f qcow2 "$img" 8M
load ()
{
    printf '%s\n' "loadvm vm" "info status" quit |
        timeout "$((patience * 3))" qemu-system-sparc -M none -m 4 -nodefaults \
            -display none -accel tcg -monitor stdio \
            -drive "if=none,id=disk,file=$img,format=qcow2" \
            > "$tmp/monitor" 2>&1 || fail "$(cat "$tmp/monitor")"
}
works snapshot create --vm-state "$tmp/theirs" "$img" vm
load
! grep -q Error "$tmp/monitor" || fail "loadvm: $(cat "$tmp/monitor")"
works snapshot delete "$img" vm
head -c 100000 "$tmp/memory" > "$tmp/other"
works snapshot create --vm-state "$tmp/other" "$img" vm
load
grep -q Error "$tmp/monitor" || fail "it has not looked at the state"
