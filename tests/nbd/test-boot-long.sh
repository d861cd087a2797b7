#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A machine boots from our export: SeaBIOS and a boot sector (boot.S) read and
# write it through QEMU's NBD client. With snapshot=on what the guest writes
# stays in QEMU and the image keeps its bytes; without, it is in the image.
# shellcheck source=requests.sh source-path=SCRIPTDIR
source "$(dirname "$0")/requests.sh"

requires_qemu
requires_libnbd
requires_program qemu-system-x86_64 as ld
[ -e /usr/share/seabios/bios-256k.bin ] || skip "seabios is not installed"

# The machine of this host may be another one.
{ as --32 -o "$tmp/boot.o" "$nbddir/boot.S" &&
      ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$tmp/boot" \
         "$tmp/boot.o"; } 2>"$tmp/log" || {
    cat "$tmp/log"
    skip "as and ld are not for x86"
}

# boot STATUS ARGUMENT...: what the guest prints goes to $tmp/serial.  QEMU
# ends with STATUS, which is twice what the guest says and one.
boot ()
{
    local want=$1 status=0

    shift
    rm -f "$tmp/serial"
    TMPDIR=$tmp timeout -k 5 $((patience * 3)) qemu-system-x86_64 \
        -machine pc,accel=tcg -m 16 -nodefaults -no-user-config \
        -display none -no-reboot -serial file:"$tmp/serial" \
        -device isa-debug-exit,iobase=0xf4,iosize=1 "$@" \
        </dev/null >"$tmp/qemu" 2>&1 || status=$?
    [ "$status" -eq "$want" ] || {
        cat "$tmp/qemu" "$tmp/serial"
        fail "QEMU ends with $status, not $want"
    }
}

printed ()
{
    diff <(printf 'booted\n%s\n%s\n' "$1" "$1") "$tmp/serial" ||
        fail "the guest reads other data"
}

make_disk ()
{
    truncate -s 64M "$tmp/disk.raw"
    dd if="$tmp/boot" of="$tmp/disk.raw" conv=notrunc status=none
    printf 'from the image\n' |
        dd of="$tmp/disk.raw" bs=512 seek=8 conv=notrunc status=none
    qemu-img convert -f raw -O qcow2 "$@" "$tmp/disk.raw" "$tmp/disk.qcow2"
}

for kind in "" -c; do
    # shellcheck disable=SC2086         # Nothing, or an option.
    make_disk $kind
    for bus in ide virtio; do
        echo "snapshot=on, $bus ${kind:+compressed}"
        before=$(sha256sum <"$tmp/disk.qcow2")
        start_nbdkit --filter="$filter" file "$tmp/disk.qcow2"
        boot 33 -drive "file=$uri,format=raw,if=$bus,snapshot=on"
        printed "from the image"
        stop_nbdkit
        [ "$(sha256sum <"$tmp/disk.qcow2")" = "$before" ] ||
            fail "the image has changed"

        echo "read-only server, snapshot=on"
        start_nbdkit -r --filter="$filter" file "$tmp/disk.qcow2"
        boot 33 -drive "file=$uri,format=raw,if=$bus,snapshot=on"
        printed "from the image"
        stop_nbdkit
    done

    echo "without snapshot"
    start_nbdkit --filter="$filter" file "$tmp/disk.qcow2"
    boot 33 -drive "file=$uri,format=raw,if=virtio"
    printed "from the image"
    stop_nbdkit
    qemu-img check -q "$tmp/disk.qcow2" || fail "the image is not clean"
    qemu-img convert -f qcow2 -O raw "$tmp/disk.qcow2" "$tmp/after"
    cmp -n $((16 * 512)) "$tmp/after" "$tmp/disk.raw" ||
        fail "other sectors have changed"
    [ "$(dd if="$tmp/after" bs=512 skip=16 count=1 status=none | tr -d '\0')" \
        = "from the image" ] || fail "what the guest wrote is not there"
done
