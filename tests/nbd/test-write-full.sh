#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A host file system that fills up: writes get ENOSPC, but all acknowledged
# ones can be flushed, and survive if the server is killed after that.  On each
# file system that can be made and mounted here.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

[ "$(id -u)" -eq 0 ] || skip "needs to be root, to mount file systems"
skip_if_instrumented "it only takes longer"

mnt=$tmp/mnt
mkdir "$mnt"
mount -t tmpfs -o size=1M none "$mnt" 2>"$tmp/mount.log" ||
    skip "not root enough to mount: $(cat "$tmp/mount.log")"
umount "$mnt"
# shellcheck disable=SC2317     # See cleanup_fn.
unmount ()
{
    ! mountpoint -q "$mnt" || umount "$mnt" || umount -l "$mnt"
}
cleanup_fn unmount

# new_fs KIND: a small, empty one on $mnt.  False if it cannot be made here.
new_fs ()
{
    unmount
    rm -f "$tmp/fs"
    case $1 in
        tmpfs)
            mount -t tmpfs -o size=24M none "$mnt"
            return ;;
        ext4)
            truncate -s 24M "$tmp/fs"
            mkfs.ext4 -q -F -b 4096 "$tmp/fs" ;;
        xfs)
            truncate -s 300M "$tmp/fs"
            mkfs.xfs -q -f "$tmp/fs" ;;
        btrfs)
            truncate -s 120M "$tmp/fs"
            mkfs.btrfs -q -f "$tmp/fs" >/dev/null ;;
    esac 2>"$tmp/mkfs.log" &&
        mount -o loop "$tmp/fs" "$mnt" 2>>"$tmp/mkfs.log" || return
    # Only some megabytes are left.
    leave=$((40 * 1024 * 1024))
    free=$(df --output=avail -B 1 "$mnt" | tail -n 1)
    [ "$1" != xfs ] || fallocate -l $((free - leave)) "$mnt/filler"
}

# full KIND OPTIONS [ARGUMENTS OF full.py]: write until there is no space,
# flush at once, and check the writes.
full ()
{
    local kind=$1 options=$2 size=8G nr

    [[ "$2" != *preallocation* ]] || size=512M
    shift 2
    echo "$kind, $options, $*"
    if ! new_fs "$kind"; then
        echo "not tested: no $kind here: $(cat "$tmp/mkfs.log")"
        return 0
    fi
    image=$mnt/disk.qcow2
    qemu-img create -q -f qcow2 -o "$options" "$image" "$size"
    # Sparse, as cp and other programs make it.
    fallocate --dig-holes "$image" 2>/dev/null || true
    start_nbdkit --filter="$filter" file "$image"
    nr=$("$PYTHON" "$nbddir/full.py" "$uri" --out "$tmp/pieces" "$@") ||
        fail "what has been acknowledged cannot be flushed"
    [ "$nr" -ge 20 ] || fail "only $nr writes until there was no more room"
    kill_nbdkit
    status=0
    qemu-img check -q "$image" >"$tmp/check" 2>&1 || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
        fail "qemu-img check: $status, $(cat "$tmp/check")"
    start_nbdkit -r --filter="$filter" file "$image"
    "$PYTHON" "$nbddir/full_check.py" "$uri" "$tmp/pieces" ||
        fail "acknowledged writes are lost"
    stop_nbdkit
}

for kind in ${KINDS:-tmpfs ext4 xfs btrfs}; do
    full "$kind" cluster_size=64k --size 4096 --order random
    # This takes long if every write takes new space.
    [ "$kind" != btrfs ] || continue
    full "$kind" cluster_size=64k
    # A new table for nearly every write; the L1 table has a hole, too.
    full "$kind" cluster_size=4k --size 4096 --step $((2 << 20)) \
        --order random
    full "$kind" cluster_size=512 --size 4096 --order random
    full "$kind" cluster_size=64k,preallocation=metadata --size 4096 \
        --order random
done
unmount
