#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An image that QEMU or a server of ours uses cannot be written to by another
# one, and one that is written to cannot be read; readers can share it. Locks
# last as long as clients are connected.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

image=$tmp/disk.qcow2

# locked_for REGEX COMMAND...: QEMU must fail to get a lock.
locked_for ()
{
    local regex=$1

    shift
    if "$@" >"$tmp/out" 2>&1; then
        fail "worked while the image was in use: $*"
    fi
    grep -E -q "Failed to get (shared )?$regex" "$tmp/out" ||
        fail "another reason: $*: $(cat "$tmp/out")"
}

write_with_qemu ()
{
    qemu-io -f qcow2 -c 'write -q -P 0 0 4k' "$image"
}

locks ()
{
    grep ":$(stat -c %i "$image") " /proc/locks | awk '{ print $2, $4, $7, $8 }' |
        sort
}

# start_qemu ARGUMENT...: a qemu-nbd, until stop_qemu.
start_qemu ()
{
    local i

    rm -f "$tmp/qemu.sock"
    qemu-nbd -t -k "$tmp/qemu.sock" -f qcow2 "$@" "$image" &
    qemu=$!
    for ((i = 0; i < 200; i++)); do
        [ ! -S "$tmp/qemu.sock" ] || return 0
        sleep 0.05
    done
    broken "qemu-nbd does not start"
}

stop_qemu ()
{
    kill "$qemu"
    wait "$qemu" || true
}

requires_locks ()
{
    start_qemu
    [ -n "$(locks)" ] || skip "QEMU takes no locks here"
    locks >"$tmp/qemu-rw"
    stop_qemu
    start_qemu -r
    locks >"$tmp/qemu-ro"
    stop_qemu
}

new_image 64M
requires_locks

echo "a server without clients is in nobody's way"
start_nbdkit -v --filter="$filter" file "$image"
start_nbdkit -P reader -v -r --filter="$filter" file "$image"
[ -z "$(locks)" ] || fail "locks without a client: $(locks)"
write_with_qemu

echo "we write: the same locks as QEMU's, and QEMU and we are kept out"
uri="nbd+unix:///?socket=$tmp/nbdkit.sock"
start_client w:1M:1M:1
locks | diff "$tmp/qemu-rw" - >&2 || fail "other locks than QEMU's"
locked_for '"write" lock' qemu-img check "$image"
locked_for '"write" lock' write_with_qemu
locked_for '"write" lock' qemu-nbd -t -k "$tmp/no.sock" -f qcow2 "$image"
locked_for '"write" lock' qemu-img convert -f qcow2 -O raw "$image" "$tmp/out.raw"
nbdtool fails "$(export_uri "" reader)" >/dev/null
grep -q 'another process has the image open for writing.*qcow2-lock=off' \
    "$tmp/reader.log" || fail "the reader does not say why"
start_nbdkit -P writer --filter="$filter" file "$image"
nbdtool fails "$uri" >/dev/null
has_logged 'open for writing, because|has the image open for writing'
stop_nbdkit writer

echo "more connections of the same server are welcome, also after one left"
uri="nbd+unix:///?socket=$tmp/nbdkit.sock"
writetool "$uri" --raw "$tmp/disk.raw" w:2M:1M:2
locks | diff "$tmp/qemu-rw" - >&2 || fail "a connection that left took locks"
nbdtool compare "$uri" "$tmp/disk.raw" --connections 3

echo "for who knows better"
start_nbdkit -P brave -r --filter="$filter" file "$image" qcow2-lock=off
nbdtool size "$uri" >/dev/null
stop_nbdkit brave

echo "the last client has gone: the image is everybody's again"
finish_client
for ((i = 0; i < patience * 20; i++)); do
    [ -n "$(locks)" ] || break
    sleep 0.05
done
[ -z "$(locks)" ] || fail "still locked: $(locks)"
check_image
write_with_qemu
qemu-io -f raw -c 'write -q -P 0 0 4k' "$tmp/disk.raw"
nbdtool compare "$(export_uri "" reader)" "$tmp/disk.raw"
nbdtool compare "$(export_uri "" nbdkit)" "$tmp/disk.raw"

echo "we read: the same locks as QEMU's, and all can read, and none write"
uri=$(export_uri "" reader)
start_client "touch:$tmp/connected"
locks | diff "$tmp/qemu-ro" - >&2 || fail "other locks than QEMU's"
qemu-img check -q "$image" || fail "QEMU cannot read what we read"
locked_for '"write" lock' write_with_qemu
nbdtool fails "$(export_uri "" nbdkit)" >/dev/null
grep -q 'cannot be opened for writing, because another process' \
    "$tmp/nbdkit.log" || fail "the writer does not say why"
start_nbdkit -P other -r --filter="$filter" file "$image"
nbdtool compare "$uri" "$tmp/disk.raw"
finish_client

echo "QEMU reads"
start_qemu -r
nbdtool compare "$(export_uri "" reader)" "$tmp/disk.raw"
nbdtool fails "$(export_uri "" nbdkit)" >/dev/null
stop_qemu

echo "QEMU writes"
start_qemu
nbdtool fails "$(export_uri "" reader)" >/dev/null
nbdtool fails "$(export_uri "" nbdkit)" >/dev/null
start_nbdkit -P brave2 -r --filter="$filter" file "$image" qcow2-lock=off
nbdtool size "$uri" >/dev/null
stop_qemu

echo "and so did it before, which is noticed"
for ((i = 1; i < 4; i++)); do
    nbdtool compare "$(export_uri "" other)" "$tmp/disk.raw" --reads 10
    qemu-io -f qcow2 -c "write -q -P $i 3M 64k" "$image"
    qemu-io -f raw -c "write -q -P $i 3M 64k" "$tmp/disk.raw"
done
nbdtool compare "$(export_uri "" other)" "$tmp/disk.raw" --reads 10
uri=$(export_uri "" nbdkit)
writetool "$uri" --raw "$tmp/disk.raw" w:4M:1M:9
stop_nbdkit nbdkit
check_image

echo "images in a directory, and their hard links, are locked one by one"
mkdir "$tmp/images"
cp "$image" "$tmp/images/a"
# With some versions of nbdkit it cannot grow.
truncate -s 40M "$tmp/images/a"
ln "$tmp/images/a" "$tmp/images/b"
ln -s a "$tmp/images/c"
cp "$image" "$tmp/images/d"
start_nbdkit -P dir -v --filter="$filter" file dir="$tmp/images"
for name in a b c; do
    uri=$(export_uri "$name" dir)
    start_client w:5M:64k:5
    image=$tmp/images/a
    locked_for '"write" lock' write_with_qemu
    # Every name is the same image, in the same server.
    for other in a b c; do
        writetool "$(export_uri "$other" dir)" --raw "$tmp/disk.raw" \
            w:6M:1M:6 f
    done
    image=$tmp/images/d
    write_with_qemu
    finish_client
done
stop_nbdkit dir
check_image_of "$tmp/images/a"
