#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Reading ahead of an image that is being written to saves as many requests as
# before the first write, also after the file has grown, and never brings what
# was there before a write.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

requires_filter noparallel
requires_plugin nbd

# as_before_the_first_write NAME MOST ARGUMENT...: MOST requests, and some for
# tables and refcounts, for 16 MiB before the first write and as many after it.
as_before_the_first_write ()
{
    local name=$1 most=$2

    shift 2
    start_writable 2ms "$@"
    # Not what is read ahead when the write comes: other places.
    writing_client read 0 $((12 * M)) write $((60 * M)) 65536 \
        read $((40 * M)) $((52 * M)) mixed $((8 * M)) $((20 * M)) 1
    echo "$name: 192 reads of 64 KiB: ${reads[0]} requests before the first" \
        "write, ${reads[2]} after it; ${reads[3]} for those beside writes"
    [ "${reads[0]}" -le "$most" ] || fail "$name: too many before the write"
    [ "${reads[2]}" -le "$((most + 6))" ] || fail "$name: too many after it"
    stop_nbdkit
}

make_real "$tmp/real.raw" $((64 * M))
make_image "$tmp/plain.qcow2" "$tmp/real.raw" -S 0
make_image "$tmp/packed.qcow2" "$tmp/real.raw" -c

fresh ()
{
    cp "$tmp/$1.qcow2" "$tmp/disk.qcow2"
    cp "$tmp/real.raw" "$tmp/disk.raw"
}

check_disk ()
{
    qemu-img check -q "$tmp/disk.qcow2" || fail "qemu-img check"
    qemu-img compare -q -f qcow2 -F raw "$tmp/disk.qcow2" "$tmp/disk.raw" ||
        fail "the image does not have what was written"
}

fresh plain
as_before_the_first_write "plain" 40 file "$tmp/disk.qcow2"
check_disk

fresh packed
as_before_the_first_write "compressed" 40 file "$tmp/disk.qcow2"
check_disk

echo "one request at a time"
between=(--filter=noparallel)
fresh plain
as_before_the_first_write "plain, in turn" 40 file "$tmp/disk.qcow2" \
    serialize=requests
check_disk
fresh plain
as_before_the_first_write "plain, all in turn" 40 file "$tmp/disk.qcow2" \
    serialize=all-requests
check_disk
between=()

echo "over NBD"
fresh plain
start_nbdkit -P below file "$tmp/disk.qcow2"
as_before_the_first_write "over NBD" 40 nbd socket="$sock"
stop_nbdkit below
check_disk

echo "after the file has grown"
qemu-img create -q -f qcow2 "$tmp/disk.qcow2" 64M
rm "$tmp/disk.raw"
truncate -s 64M "$tmp/disk.raw"
start_writable 2ms file "$tmp/disk.qcow2"
writing_client write 0 $((32 * M)) read 0 $((32 * M)) \
    mixed $((24 * M)) $((40 * M)) 2
echo "512 reads of 64 KiB after growth: ${reads[1]} requests"
[ "${reads[1]}" -le 60 ] || fail "too many requests after growth"
stop_nbdkit
check_disk

echo "where contexts may see different bytes nothing is read ahead"
if grep -q '^version=1\.\([1-3][0-9]\|4[0-3]\)\.' <(nbdkit --dump-plugin null)
then
    mkdir "$tmp/images"
    fresh plain
    mv "$tmp/disk.qcow2" "$tmp/images/disk.qcow2"
    start_writable 2ms file dir="$tmp/images"
    uri="nbd+unix:///disk.qcow2?socket=$sock"
    writing_client write $((60 * M)) 65536 read $((40 * M)) $((44 * M))
    [ "${reads[1]}" -ge 64 ] || fail "something was read ahead"
    stop_nbdkit
fi
