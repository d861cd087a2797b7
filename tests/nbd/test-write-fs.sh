#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A real file system on the disk, mounted by the kernel: many small files are
# made, removed and made again, without errors for ext4 and for QEMU.  Then the
# same with the server killed meanwhile: synced files survive.
#
# Environment
#   FILES=N      how many files
#   ROUNDS=N     how often
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

: "${FILES:=10000}" "${ROUNDS:=1}"

skip_if_instrumented "it only takes longer"
[ "$(id -u)" -eq 0 ] || skip "only root can mount"
requires_program nbdfuse mkfs.ext4 e2fsck losetup fstrim tar
[ -c /dev/fuse ] || skip "no /dev/fuse"

disk_size=$((3 * 1024 * 1024 * 1024))
# shellcheck disable=SC2034     # The disks are too large for raw files.
no_content=1
fuse=$tmp/fuse
mnt=$tmp/mnt
nbdfuse=
mkdir "$fuse" "$mnt"

# ---- The stack ---------------------------------------------------------------

# Clean up all of it; nothing may hang, or stay mounted.
take_apart ()
{
    timeout 20 umount "$mnt" 2>/dev/null || umount -l "$mnt" 2>/dev/null
    umount "$fuse" 2>/dev/null || umount -l "$fuse" 2>/dev/null
    [ -z "$nbdfuse" ] || kill "$nbdfuse" 2>/dev/null
    nbdfuse=
    true
}
trap 'status=$?; set +e; take_apart; (exit $status); at_exit' EXIT

start_fuse ()
{
    local i

    nbdfuse "$fuse/disk" "$uri" >"$tmp/nbdfuse.log" 2>&1 &
    nbdfuse=$!
    for ((i = 0; i < patience * 20; i++)); do
        [ ! -e "$fuse/disk" ] || return 0
        kill -0 "$nbdfuse" 2>/dev/null || break
        sleep 0.05
    done
    nbdfuse=
    skip "nbdfuse does not work here: $(cat "$tmp/nbdfuse.log")"
}

# Unmounting removes the loop device.
mount_disk ()
{
    start_fuse
    mount -o "loop,$1" "$fuse/disk" "$mnt" || skip "no loop mounts here"
}

# umount_disk: flushes, then ends the connection.
umount_disk ()
{
    local i

    umount "$mnt"
    # The loop device closes the file a little later.
    for ((i = 0; i < patience * 20; i++)); do
        ! umount "$fuse" 2>/dev/null || break
        sleep 0.05
    done
    wait "$nbdfuse"
    nbdfuse=
}

# ---- Files -----------------------------------------------------------------------

# A tree of files in $tmp/tree.tar, and its list.
make_tree ()
{
    find /usr/share /usr/lib -xdev -type f -size -40k 2>/dev/null | sort |
        awk -v want="$FILES" 'NR <= want' >"$tmp/list"
    [ "$(wc -l <"$tmp/list")" -ge 1000 ] || skip "no files to be copied"
    tar -cf "$tmp/tree.tar" -T "$tmp/list" 2>/dev/null
    mkdir "$tmp/tree"
    tar -xf "$tmp/tree.tar" -C "$tmp/tree"
    (cd "$tmp/tree" && find . -type f -print0 | sort -z |
        xargs -0 sha256sum) >"$tmp/sums"
    rm -rf "$tmp/tree"
}

untar ()                # FOLDER
{
    mkdir -p "$mnt/$1"
    tar -xf "$tmp/tree.tar" -C "$mnt/$1"
}

check_tree ()           # FOLDER
{
    (cd "$1" && sha256sum --quiet -c "$tmp/sums") >"$tmp/output" 2>&1 ||
        fail "files have changed: $(tail -n 3 "$tmp/output")"
}

# ---- Clean ----------------------------------------------------------------------

new_file_system ()
{
    make_empty "$1"
    start_nbdkit --filter="$filter" file "$image"
    start_fuse
    mkfs.ext4 -q -F -m 0 "$fuse/disk"
    sync "$fuse/disk"
    umount "$fuse"
    wait "$nbdfuse"
    nbdfuse=
    mount_disk noatime
}

# check_file_system [leaks]: "leaks" after a server was killed; what it had
# handed out and not yet linked stays leaked, unless the image has lazy
# refcounts.
check_file_system ()
{
    local -a opened
    local status=0

    stop_nbdkit
    in_qemu "$image"
    qemu-img check -q "${opened[@]}" >"$tmp/check.log" 2>&1 || status=$?
    [ "$status" -eq 0 ] || [ "$status$*" = 3leaks ] ||
        fail "the image is not clean ($status): $(tail -n 3 "$tmp/check.log")"
    check_layers
    qemu-img convert "${opened[@]}" -O raw "$tmp/disk.raw"
    e2fsck -f -n "$tmp/disk.raw" >"$tmp/e2fsck.log" 2>&1 ||
        fail "the file system is not clean"
    start_nbdkit -r --filter="$filter" file "$image" "${parameters[@]}"
    mount_disk ro
}

remade ()
{
    untar a
    sync -f "$mnt"
    rm -rf "$mnt/a"
    fstrim "$mnt"
    untar c
    umount_disk
    check_file_system
    check_tree "$mnt/b"
    check_tree "$mnt/c"
    umount_disk
    stop_nbdkit
}

clean ()                # OPTIONS
{
    new_file_system "$1"
    untar b
    remade
}

# layered OVER OPTIONS: on an overlay over a disk with a file system and one
# tree.  OVER is over or luks_over.
layered ()
{
    local base=$tmp/lower-1.qcow2

    new_file_system cluster_size=64k
    untar b
    umount_disk
    stop_nbdkit
    mv "$image" "$base"
    "$1" "$base" qcow2 "$2"
    [ "$1" = over ] || qemu_options=,encrypt.key-secret=top
    keep "$base"
    start_nbdkit --filter="$filter" file "$image" "${parameters[@]}"
    mount_disk noatime
    remade
}

# ---- Killed -------------------------------------------------------------------------

# killed OPTIONS SECONDS: kill the server after the first tree has been synced,
# while the second is made, removed and made again.
killed ()
{
    local status=0 writer

    new_file_system "$1"
    untar a
    sync -f "$mnt"
    (set +e
     for ((;;)); do
         untar b
         sync -f "$mnt"
         rm -rf "$mnt/b"
         fstrim "$mnt"
     done) >/dev/null 2>&1 &
    writer=$!
    sleep "$2"
    kill -KILL "$pid"
    stop_nbdkit 2>/dev/null && fail "the server was not killed"
    kill "$writer" 2>/dev/null || true
    wait "$writer" || true
    take_apart || true
    qemu-img check -q "$image" >/dev/null 2>&1 || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
        fail "qemu-img check: $status after kill -9"
    # Replays the journal through the filter.
    start_nbdkit --filter="$filter" file "$image"
    start_fuse
    status=0
    e2fsck -f -y "$fuse/disk" >"$tmp/e2fsck.log" 2>&1 || status=$?
    [ "$status" -le 1 ] || fail "e2fsck: $status after kill -9"
    umount "$fuse"
    wait "$nbdfuse"
    nbdfuse=
    check_file_system leaks
    check_tree "$mnt/a"
    umount_disk
    stop_nbdkit
}

# The journal takes a second or more.
make_tree
for ((round = 0; round < ROUNDS; round++)); do
    echo "made, removed and made again"
    clean cluster_size=64k
    [ "$round" -eq 0 ] ||
        clean cluster_size=4k,lazy_refcounts=on
    echo "on an encrypted overlay"
    layered luks_over cluster_size=64k
    [ "$round" -eq 0 ] ||
        layered over cluster_size=16k,extended_l2=on
    echo "killed meanwhile"
    killed cluster_size=64k "$((1 + RANDOM % 3)).$((RANDOM % 10))"
    [ "$round" -eq 0 ] ||
        killed cluster_size=2M,extended_l2=on "$((1 + RANDOM % 3))"
done
