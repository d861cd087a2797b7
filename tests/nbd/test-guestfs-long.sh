#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# libguestfs, whose appliance is a Linux that reads and writes through QEMU's
# NBD client: it makes a partition and file systems on an export, trims them,
# sees what it has written, through snapshots as well, and QEMU finds nothing
# wrong with the image.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

skip_if_instrumented "once is enough"
requires_qemu
requires_libnbd
packages="guestfish and linux-image-amd64"
requires_guestfish="needs the packages $packages"
[ -n "$(type -P guestfish)" ] || skip "$requires_guestfish"
compgen -G '/boot/vmlinuz-*' >/dev/null || skip "$requires_guestfish"

image=$tmp/disk.qcow2
export LIBGUESTFS_BACKEND=direct TMPDIR=$tmp LIBGUESTFS_CACHEDIR=$tmp
# Without KVM, on a busy machine, its Linux takes long to start.
export LIBGUESTFS_BACKEND_SETTINGS=force_tcg LIBGUESTFS_MEMSIZE=768

# guest EXPORT OPTION: runs the commands on standard input on that export.
guest ()
{
    { echo "add-drive '$1' format:raw protocol:nbd server:unix:$sock $2"
      echo run
      cat
    } | timeout 1800 guestfish >"$tmp/out" 2>"$tmp/err" || {
        cat "$tmp/out" "$tmp/err"
        fail "guestfish fails on export '$1'"
    }
}

# data: how many bytes of the disk are data.
data ()
{
    qemu-img map --output json "$image" |
        jq '[.[] | select (.data) | .length] | add'
}

for options in cluster_size=64k extended_l2=on,cluster_size=128k; do
    echo "$options"
    new_image 512M -o "$options"
    head -c 20000000 /dev/urandom >"$tmp/payload"
    sum=$(md5sum <"$tmp/payload" | cut -d' ' -f1)

    start_nbdkit --filter="$filter" file "$image"
    guest "" discard:enable <<END
part-init /dev/sda gpt
part-add /dev/sda primary 2048 524287
part-add /dev/sda primary 524288 1046528
mkfs ext4 /dev/sda1
mkfs vfat /dev/sda2
mount /dev/sda1 /
upload $tmp/payload /payload
checksum md5 /payload
mkdir /folder
write /folder/note "written by a guest"
umount /
mount /dev/sda2 /
write /fat "and this"
sync
END
    grep -qx "$sum" "$tmp/out" || fail "the guest reads another file"
    stop_nbdkit
    qemu-img check -q "$image" || fail "qemu-img check: $?"
    before=$(data)
    qemu-img snapshot -c monday "$image"

    start_nbdkit --filter="$filter" file "$image"
    guest "" discard:enable <<END
list-filesystems
mount-options discard /dev/sda1 /
checksum md5 /payload
cat /folder/note
rm /payload
fstrim /
sync
END
    grep -qx '/dev/sda1: ext4' "$tmp/out" || fail "no file system of type ext4"
    grep -qx '/dev/sda2: vfat' "$tmp/out" || fail "no file system of type vfat"
    grep -qx "$sum" "$tmp/out" || fail "the file is another one"
    grep -qx "written by a guest" "$tmp/out" || fail "the note is another one"
    stop_nbdkit
    qemu-img check -q "$image" || fail "qemu-img check after trimming: $?"
    trimmed=$(data)
    [ "$trimmed" -lt $((before - 15000000)) ] ||
        fail "of $before bytes of data, $trimmed are left after trimming"
    qemu-img snapshot -a monday "$image"
    [ "$(data)" -eq "$before" ] ||
        fail "the snapshot had $before bytes of data, and has $(data)"

    start_nbdkit -r --filter="$filter" file "$image"
    guest snapshot/monday readonly:true <<END
mount-ro /dev/sda1 /
checksum md5 /payload
END
    grep -qx "$sum" "$tmp/out" || fail "the snapshot has another file"
    stop_nbdkit
done
