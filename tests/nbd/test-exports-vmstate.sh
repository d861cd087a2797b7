#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The memory of a virtual machine in a snapshot lies past the end of the disk:
# no export shows it, it survives writes of clients, and QEMU can resume from
# it.
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

requires_program jq
image=$tmp/disk.qcow2

# vm_state NAME: the saved memory in the image, for a hash.
vm_state ()
{
    "$PYTHON" - "$image" "$1" <<'END'
import struct
import sys

import qfmt

image = open(sys.argv[1], "rb").read()
bits, size = struct.unpack_from(">IQ", image, 20)
count, at = struct.unpack_from(">IQ", image, 60)
unit, per_table = 1 << bits, 1 << (bits - 3)
for _ in range(count):
    l1, entries, id_len, name_len, *_, extra = struct.unpack_from(
        ">QIHHIIQII", image, at)
    length, disk = struct.unpack_from(">QQ", image, at + 40)
    start = at + 40 + extra + id_len
    name = image[start:start + name_len].decode()
    at = qfmt.align_up(start + name_len, 8)
    if name != sys.argv[2]:
        continue
    assert length > 0, "no VM state"
    first = qfmt.ceil_div(disk, unit * per_table) * per_table
    state = bytearray()
    for index in range(first, first + qfmt.ceil_div(length, unit)):
        l2 = struct.unpack_from(">Q", image, l1 + index // per_table * 8)[0]
        entry = struct.unpack_from(">Q", image, (l2 & qfmt.OFFSET_MASK)
                                   + index % per_table * 8)[0]
        host = entry & qfmt.OFFSET_MASK
        state += image[host:host + unit] if host else bytes(unit)
    sys.stdout.buffer.write(state[:length])
END
}

# write_all_over: write to all of the disk; the image may have to grow.
write_all_over ()
{
    local size

    size=$(nbdtool size "$uri")
    writetool "$uri" w:0:1M:77 "z:64k:200k" "w:$((size - 65536)):65536:78" \
        "t:128k:512k" w:300k:5:79 "w:$((size / 2)):1:80" f
    writetool "$uri" "w:0:$size:81" f "t:0:$size" w:4k:4k:82
}

# check_survival NAME: it survives writes to the active disk.
check_survival ()
{
    local name=$1 size

    vm_state "$name" >"$tmp/vm.before"
    size=$(stat -c %s "$tmp/vm.before")
    history_content "$image" "$name" "$tmp/then.raw"
    start_nbdkit --filter="$filter" file "$image"
    list
    has_export "snapshot/$name" ", VM state $size bytes\$"
    nbdtool compare "$(export_uri "snapshot/$name")" "$tmp/then.raw"
    write_all_over
    nbdtool compare "$(export_uri "snapshot/$name")" "$tmp/then.raw"
    stop_nbdkit
    qemu-img check -q "$image" || fail "not clean"
    vm_state "$name" >"$tmp/vm.after"
    cmp "$tmp/vm.before" "$tmp/vm.after" || fail "the VM state has changed"
    qemu-img snapshot -a "$name" "$image"
    qemu-img compare -q -f qcow2 -F raw "$image" "$tmp/then.raw" ||
        fail "the snapshot cannot be gone back to"
    vm_state "$name" >"$tmp/vm.after"
    cmp "$tmp/vm.before" "$tmp/vm.after" || fail "the VM state has changed"

    # Now the active disk shares tables with it, even those of the VM state.
    start_nbdkit --filter="$filter" file "$image"
    nbdtool compare "$uri" "$tmp/then.raw" --reads 20
    write_all_over
    stop_nbdkit
    qemu-img check -q "$image" || fail "not clean"
    vm_state "$name" >"$tmp/vm.after"
    cmp "$tmp/vm.before" "$tmp/vm.after" || fail "the VM state has changed"
}

echo "made by hand: a disk that ends in the middle of what an L2 table maps"
"$PYTHON" - "$image" <<'END'
import sys
from qsnap import Snapshots

image = Snapshots(3 << 20)
for index in range(0, 700, 3):
    image.write(index, f"at {index}".encode() * 100)
image.snapshot(b"vm", b"1", vm_state=bytes(range(256)) * 9999)
image.write(5, b"later")
image.snapshot(b"vm2", b"2", vm_state=b"another" * 999)
image.save(sys.argv[1])
END
cp "$image" "$tmp/copy.qcow2"
check_survival vm
cp "$tmp/copy.qcow2" "$image"
check_survival vm2

requires_program qemu-system-sparc

# monitor LINE...: QEMU's answers to these commands.  No machine: nothing runs.
monitor ()
{
    printf '%s\n' "$@" quit |
        timeout "$((patience * 3))" qemu-system-sparc -M none -m 4 -nodefaults \
            -display none -accel tcg -monitor stdio \
            -drive "if=none,id=disk,file=$image,format=qcow2" \
            >"$tmp/monitor" 2>&1 ||
        broken "qemu-system: $(tail -n 5 "$tmp/monitor")"
    if grep -i 'error' "$tmp/monitor"; then
        fail "QEMU refuses: $*"
    fi
}

for options in cluster_size=64k cluster_size=4k extended_l2=on,cluster_size=16k
do
    echo "savevm and loadvm: $options"
    qemu-img create -q -f qcow2 -o $options "$image" 8M
    qemu-io -f qcow2 -c 'write -q -P 1 0 3M' "$image"
    monitor 'savevm vm'
    qemu-io -f qcow2 -c 'write -q -P 2 1M 3M' "$image"
    monitor 'savevm vm2'
    cp "$image" "$tmp/copy.qcow2"
    case $options in
    *extended*) ;;              # vm_state knows no such entries
    *)  check_survival vm
        cp "$tmp/copy.qcow2" "$image" ;;
    esac
    history_content "$image" vm "$tmp/then.raw"
    start_nbdkit --filter="$filter" file "$image"
    write_all_over
    nbdtool compare "$(export_uri snapshot/vm)" "$tmp/then.raw"
    stop_nbdkit
    monitor 'loadvm vm'
    qemu-img compare -q -f qcow2 -F raw "$image" "$tmp/then.raw" ||
        fail "after loadvm"
    monitor 'loadvm vm2'
    qemu-img check -q "$image" || fail "not clean"
done
