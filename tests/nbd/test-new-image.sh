#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2-create: an image is created where there is none, when the first client
# opens it for writing; what is one stays one, anything else is left alone, and
# a server that was killed meanwhile is simply started again.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

M=$((1024 * 1024))
image=$tmp/disk.qcow2

# created SIZE PARAMETER PLUGIN...: a server with the parameter makes an image
# of that size in $image, and another one keeps it.
created ()
{
    local size=$1 parameter=$2

    shift 2
    rm -f "$tmp/disk.raw"
    truncate -s "$size" "$tmp/disk.raw"
    start_nbdkit --filter="$filter" "$@" "qcow2-create=$parameter"
    writetool "$uri" --raw "$tmp/disk.raw" w:0:100k:1 w:5M:64k:2 f
    stop_nbdkit
    [ "$(grep -c 'created a new image' "$log")" -eq 1 ] || fail "not created"
    start_nbdkit --filter="$filter" "$@" "qcow2-create=$parameter"
    nbdtool compare "$uri" "$tmp/disk.raw"
    writetool "$uri" --raw "$tmp/disk.raw" w:1M:64k:3
    stop_nbdkit
    ! grep -q 'created' "$log" || fail "created again"
}

# info KEY: what QEMU says of the image.
info ()
{
    qemu-img info --output=json "$image" |
        "$PYTHON" -c 'import json, sys
info = json.load(sys.stdin)
info.update(info["format-specific"]["data"])
print(info.get(sys.argv[1]))' "$1"
}

# is KEY VALUE
is ()
{
    [ "$(info "$1")" = "$2" ] || fail "$1 is $(info "$1"), not $2"
}

echo "an empty file"
: >"$image"
created 200M 200M file "$image"
check_image
is virtual-size $((200 * M))
is cluster-size 65536
[ "$(stat -c %s "$image")" -lt $((2 * M)) ] || fail "the file was not cut"

echo "with options"
: >"$image"
created 64M 64M,cluster_size=4k,compat=1.1,refcount_bits=64,lazy_refcounts=on,preallocation=metadata \
    file "$image"
check_image
is cluster-size 4096
is refcount-bits 64
is lazy-refcounts True

echo "version 2, and a size with a fraction"
: >"$image"
created 101187584 96.5M,compat=0.10 file "$image"
check_image
is compat 0.10

echo "over a backing file, with a comma in its name"
make_disk "$tmp/b,ase.raw" $((6 * M))
: >"$image"
start_nbdkit --filter="$filter" file "$image" \
    "qcow2-create=8M,backing_file=$tmp/b,,ase.raw,backing_fmt=raw" \
    qcow2-backing="$tmp/b,ase.raw"
cp "$tmp/b,ase.raw" "$tmp/disk.raw"
truncate -s 8M "$tmp/disk.raw"
nbdtool compare "$uri" "$tmp/disk.raw"
writetool "$uri" --raw "$tmp/disk.raw" w:1M:64k:3
stop_nbdkit
check_image
is backing-filename "$tmp/b,ase.raw"

echo "a file of zeros, or of holes"
for how in "head -c 20M /dev/zero" "true"; do
    $how >"$image"
    truncate -s 20M "$image"
    created 10M 10M file "$image"
    check_image
    [ "$(stat -c %s "$image")" -eq $((20 * M)) ] || fail "the size is another"
done

echo "memory"
rm -f "$tmp/disk.raw"
truncate -s 16M "$tmp/disk.raw"
start_nbdkit --filter="$filter" memory 20M qcow2-create=16M
writetool "$uri" --raw "$tmp/disk.raw" w:0:1M:1 f
nbdtool compare "$uri" "$tmp/disk.raw"
stop_nbdkit

if [ "$(id -u)" -eq 0 ] && type -P losetup >/dev/null; then
    echo "a loop device"
    rm -f "$image"
    truncate -s 40M "$image"
    if loop=$(losetup --show -f "$image" 2>/dev/null); then
        cleanup_fn eval "losetup -d $loop 2>/dev/null"
        created 20M 20M file "$loop"
        losetup -d "$loop"
        check_image
    else
        echo "    no loop devices here"
    fi
fi

# left_alone REGEX PARAMETER...: no client is served, and the file stays.
left_alone ()
{
    local before regex=$1

    shift
    before=$(sha256sum <"$image")
    start_nbdkit --filter="$filter" file "$image" "$@"
    ! writetool "$uri" w:0:64k:1 >/dev/null 2>&1 || fail "that was served"
    stop_nbdkit
    grep -E -q -e "$regex" "$log" || fail "no message like '$regex'"
    [ "$(sha256sum <"$image")" = "$before" ] || fail "the file has changed"
}

echo "anything else is left alone"
truncate -s 0 "$image"
truncate -s 20M "$image"
printf x | dd of="$image" bs=1 seek=$((20 * M - 1)) conv=notrunc status=none
left_alone "something that is no qcow2 image.*,overwrite" qcow2-create=8M
make_disk "$image" 100000
left_alone "something that is no qcow2 image.*,overwrite" qcow2-create=8M

echo "hello" >"$image"
left_alone "something that is no qcow2 image" qcow2-create=8M
mkdir "$tmp/dir"
: >"$tmp/dir/empty"
start_nbdkit --filter="$filter" file dir="$tmp/dir" qcow2-create=8M
! writetool "$(export_uri empty)" w:0:64k:1 >/dev/null 2>&1 ||
    fail "an empty file of a folder was served"
stop_nbdkit
[ ! -s "$tmp/dir/empty" ] || fail "an empty file of a folder was made larger"

echo "but for who says that it may be lost"
make_disk "$image" 100000
created 8M 8M,overwrite file "$image"
check_image

echo "read-only: nothing is created"
: >"$image"
left_alone "not a qcow2 image|too short" qcow2-create=8M -r

echo "an encrypted disk"
: >"$image"
start_nbdkit --filter="$filter" file "$image" qcow2-passphrase=secret \
    qcow2-create=8M,encrypt.format=luks,encrypt.iter-time=10
rm -f "$tmp/disk.raw"
truncate -s 8M "$tmp/disk.raw"
writetool "$uri" --raw "$tmp/disk.raw" w:1M:64k:3 f
stop_nbdkit
qemu_secrets=(--object "secret,id=s,data=secret")
qemu_options=,encrypt.key-secret=s
check_image
qemu_secrets=()
qemu_options=

echo "QEMU has the file open"
: >"$image"
truncate -s 20M "$image"
qemu-nbd -t -f raw -k "$tmp/qemu.sock" --pid-file "$tmp/qemu.pid" "$image" &
wait_for test -S "$tmp/qemu.sock"
left_alone "in use|another process|lock" qcow2-create=8M
kill "$(cat "$tmp/qemu.pid")"
wait

echo "wrong parameters"
wrong ()                # REGEX VALUE
{
    refused "$1" --filter="$filter" file "$image" "qcow2-create=$2"
}
wrong "size" ""
wrong "'ten'" ten
wrong "needs the size" cluster_size=4k
wrong "no size" overwrite
wrong "no option 'cluster'.*cluster_size" 1G,cluster=4k
wrong "power of two" 1G,cluster_size=3000
wrong "on or off" 1G,lazy_refcounts=maybe
wrong "off, metadata, falloc or full" 1G,preallocation=all
wrong "needs its format" 1G,backing_file=base.raw
wrong "need version 3" 1G,compat=0.10,extended_l2=on
wrong "needs qcow2-passphrase" 1G,encrypt.format=luks
wrong "qcow2-backing or qcow2-follow" \
    "1G,backing_file=$tmp/b,,ase.raw,backing_fmt=raw"
wrong "no data files" 1G,data_file=a.raw
wrong "too big" 4E
wrong "no size" 8E
wrong "no size" 16E

echo "killed at any moment: the next server begins anew"
for delay in 0.02 0.05 0.1 0.2 0.3 0.5 0.8; do
    # Only what is the file plugin's alone can grow.
    : >"$image"
    truncate -s 70M "$image"
    start_nbdkit --filter="$filter" --filter=delay file "$image" \
        delay-write=20ms qcow2-create=64M,cluster_size=4k,preallocation=metadata
    writetool "$uri" w:0:64k:1 >/dev/null 2>&1 &
    sleep "$delay"
    kill -KILL "$pid"
    stop_nbdkit 2>/dev/null || true
    wait
    truncate -s 64M "$tmp/disk.raw"
    start_nbdkit --filter="$filter" file "$image" \
        qcow2-create=64M,cluster_size=4k
    # What the first client has written may be there.
    writetool "$uri" w:0:64k:2 f
    stop_nbdkit
    qemu-img check -q "$image" || [ $? -eq 3 ] || fail "killed after $delay"
    is virtual-size $((64 * M))
done
