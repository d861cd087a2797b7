# SPDX-License-Identifier: BSD-3-Clause
# guest.sh - a disk of 1 GiB with a small Debian, its kernel and boot loader,
# as cloud images have it, in one partition that begins at 'start'; sourced.
# What is in it is in the folder $guest.
# shellcheck shell=bash
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

guest=$tmp/guest
start=$((1024 * 1024))
size=$((1024 * 1024 * 1024))

# In a root that chroot entered nothing can be made private, nor is shared.
propagation=private
unshare --mount true 2>/dev/null || propagation=unchanged

# in_guest PROGRAM ARGUMENT...
in_guest ()
{
    # shellcheck disable=SC2016     # The inner shell expands these.
    unshare --mount --propagation "$propagation" --pid --fork --kill-child \
        -- bash -e -c '
        guest=$1; shift
        mount -t proc proc "$guest/proc"
        mount --rbind /dev "$guest/dev"
        status=0
        chroot "$guest" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@" || status=$?
        exit "$status"
    ' bash "$guest" "$@" </dev/null >"$tmp/said" 2>&1 || {
        tail -n 40 "$tmp/said"
        fail "in the guest: $*"
    }
}

requires_guest ()
{
    requires_program sfdisk mke2fs
    [ "$(id -u)" -eq 0 ] || skip "needs root, to make a Debian"
}

# make_guest: the folder, and $tmp/disk.raw with one partition of it.
make_guest ()
{
    local version status=0

    "$top_srcdir/scripts/make-root" --minimal bookworm "$guest" || status=$?
    [ "$status" -ne 3 ] || skip "its packages cannot be fetched"
    [ "$status" -eq 0 ] || fail "no root for the guest"
    rm -f "$guest/etc/resolv.conf"
    cp /etc/resolv.conf /etc/hosts "$guest/etc/"
    in_guest apt-get update -q
    in_guest apt-get install -q -y --no-install-recommends initramfs-tools
    # virt-v2v makes the initrd again.
    echo COMPRESSLEVEL=1 >"$guest/etc/initramfs-tools/conf.d/fast"
    in_guest apt-get install -q -y --no-install-recommends \
        linux-image-cloud-amd64 grub-pc
    in_guest apt-get clean
    version=$(cd "$guest/boot" && echo vmlinuz-*)
    version=${version#vmlinuz-}
    mkdir -p "$guest/boot/grub"
    cat >"$guest/boot/grub/grub.cfg" <<END
menuentry 'Debian' {
  set root=(hd0,msdos1)
  linux /boot/vmlinuz-$version root=/dev/sda1 ro
  initrd /boot/initrd.img-$version
}
END
    echo '/dev/sda1 / ext4 defaults 0 1' >"$guest/etc/fstab"
    rm -r "$guest/var/lib/apt/lists"
    truncate -s "$size" "$tmp/disk.raw"
    echo "start=$((start / 512)), type=83, bootable" |
        sfdisk -q "$tmp/disk.raw"
    mke2fs -q -t ext4 -E "offset=$start" -d "$guest" "$tmp/disk.raw" \
        $(((size - start) / 1024))k
}
