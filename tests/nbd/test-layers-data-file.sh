#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# External data files, raw and not, read and written, by parameter and by name;
# data files that cannot be written, or that belong to two images.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"

# both IMAGE: QEMU reads $tmp/disk.raw from it.
both ()
{
    qemu-img check -q "$1" || fail "qemu-img check $1"
    qemu-img compare -q -f qcow2 -F raw "$1" "$tmp/disk.raw" ||
        fail "$1 does not hold what was written"
}

for raw in off on; do
    echo "raw: $raw"
    rm -f disk.qcow2 disk.data
    qemu-img create -q -f qcow2 -o data_file=disk.data,data_file_raw=$raw \
        disk.qcow2 8M
    qemu-io -f qcow2 -c 'write -q -P 7 1M 100k' disk.qcow2
    truth disk.qcow2
    cp "$tmp/truth.raw" "$tmp/disk.raw"
    serves -r file disk.qcow2 qcow2-data-file=disk.data
    serves -r file disk.qcow2 qcow2-follow=.
    name=disk.qcow2 serves -r file dir=. qcow2-follow=.
    start_nbdkit -v --filter="$filter" file disk.qcow2 \
        qcow2-data-file=disk.data
    writetool "$uri" --raw "$tmp/disk.raw" w:100:70000:1 w:3M:1M:2 \
        z:1M:10k w:7M:1M:3 t:3M:512k fua:w:5M:512:4 f
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 40
    stop_nbdkit
    both disk.qcow2
    [ $raw = off ] || cmp disk.data "$tmp/disk.raw" ||
        fail "the raw data file is not the disk"
done

echo "shorter than the disk: it becomes longer, and no longer than that"
for raw in off on; do
    rm -f disk.qcow2 disk.data
    qemu-img create -q -f qcow2 -o data_file=disk.data,data_file_raw=$raw \
        disk.qcow2 8M
    truncate -s 1000000 disk.data
    rm -f "$tmp/disk.raw"
    truncate -s 8M "$tmp/disk.raw"
    start_nbdkit -v --filter="$filter" file disk.qcow2 qcow2-follow=.
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 20
    writetool "$uri" --raw "$tmp/disk.raw" w:900000:200000:1 w:4M:70000:2 f
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 20
    stop_nbdkit
    both disk.qcow2
    [ "$(stat -c %s disk.data)" -le $((8 << 20)) ] || fail "it is too long"
done

echo "a data file that cannot be written to: read-only, and it says so"
truth disk.qcow2
other=()
if [ "$(id -u)" -eq 0 ]; then
    other=(-u nobody)
    chmod a+rwx "$tmp" "$images"
    chmod a+rw disk.qcow2
fi
if [ "$(id -u)" -ne 0 ] || id nobody >/dev/null 2>&1; then
    chmod a-w disk.data
    serves "${other[@]}" file disk.qcow2 qcow2-follow=.
    grep -q 'disk\.data: cannot be written to: Permission denied' \
        "$tmp/last.log" || fail "does not say so"
    grep -q 'served read-only: its data file cannot be written' \
        "$tmp/last.log" || fail "does not say why"
    chmod u+w disk.data
fi

echo "an image that cannot be written leaves the data file to others"
cp disk.qcow2 corrupt.qcow2
printf '\6' | dd of=corrupt.qcow2 bs=1 seek=79 conv=notrunc status=none
start_nbdkit -v --filter="$filter" file corrupt.qcow2 qcow2-follow=.
connect_client
start_nbdkit -P reader -r --filter="$filter" file disk.qcow2 qcow2-follow=.
nbdtool size "$uri" >/dev/null || fail "it is locked"
uri=$(export_uri "")
stop_nbdkit reader
log=$tmp/nbdkit.log
check_read_only
finish_client
has_logged 'served read-only: .*corrupt'
stop_nbdkit

echo "two images, one data file"
cp disk.qcow2 twin.qcow2
start_nbdkit -v --filter="$filter" file dir=. qcow2-follow=.
uri=$(export_uri disk.qcow2)
connect_client
for export in twin.qcow2 disk.data; do
    nbdtool fails "$(export_uri $export)" >/dev/null
done
has_logged 'twin\.qcow2: .*disk\.data cannot be opened for writing, because this server has it open'
has_logged 'disk\.data: is open for writing in this server'
nbdtool compare "$uri" "$tmp/disk.raw" --reads 10
finish_client
# The first has left; its last locks are released a moment later.
uri=$(export_uri twin.qcow2)
start_client w:6M:1M:9 f
nbdtool fails "$(export_uri disk.qcow2)" >/dev/null
finish_client
stop_nbdkit
both twin.qcow2

echo "both can be read"
start_nbdkit -r -v --filter="$filter" file dir=. qcow2-follow=.
uri=$(export_uri disk.qcow2)
connect_client
nbdtool compare "$(export_uri twin.qcow2)" "$tmp/disk.raw" --reads 10
[ "$(grep -c 'opened: version' "$log")" = 2 ] || fail "two images"
[ "$(find "/proc/$pid/fd" -lname "$images/disk.data" | wc -l)" = 1 ] ||
    fail "the data file is open more than once"
finish_client
stop_nbdkit

echo "another image is no data file because an image says so"
cp disk.qcow2 victim.qcow2
sum=$(sha256sum < victim.qcow2)
set_names disk.qcow2 --data-file victim.qcow2
says 'victim\.qcow2, is a qcow2 image itself' file disk.qcow2 qcow2-follow=.
[ "$(sha256sum < victim.qcow2)" = "$sum" ] ||
    fail "the other image was written to"
