#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Other filters between the client and ours.
# shellcheck source=filters.sh source-path=SCRIPTDIR
source "$(dirname "$0")/filters.sh"

requires_qemu
requires_libnbd
requires_plugin file
for name in cow cache readahead partition; do
    requires_filter "$name"
done
make_standard_image
before=$(sha256sum <"$tmp/disk.qcow2")

echo "cow: a disk that can be written to, over an image that is not"
start_nbdkit --filter=cow --filter="$filter" file "$tmp/disk.qcow2"
nbdtool compare "$uri" "$tmp/disk.raw"
cp "$tmp/disk.raw" "$tmp/written.raw"
for target in "$uri" "$tmp/written.raw"; do
    qemu-io -f raw "$target" -c 'write -q -P 5 100k 300k' \
        -c 'write -q -z 4M 1M' -c 'write -q -P 6 8388000 100'
done
nbdtool compare "$uri" "$tmp/written.raw"
stop_nbdkit
[ "$(sha256sum <"$tmp/disk.qcow2")" = "$before" ] || fail "the image changed"

echo "cache and readahead"
start_nbdkit --filter=cache --filter="$filter" file "$tmp/disk.qcow2" \
    cache-on-read=true
nbdtool compare "$uri" "$tmp/disk.raw"
nbdtool compare "$uri" "$tmp/disk.raw"
stop_nbdkit
start_nbdkit --filter=readahead --filter="$filter" file "$tmp/disk.qcow2"
nbdtool compare "$uri" "$tmp/disk.raw"
stop_nbdkit

echo "partition: one of the disk's"
"$PYTHON" - "$tmp" <<'END'
import struct
import sys
tmp = sys.argv[1]
disk = open(f"{tmp}/disk.raw", "rb").read()
start, length = 2048, len(disk) // 512
mbr = bytearray(512)
mbr[446:462] = struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3,
                           start, length)
mbr[510:] = b"\x55\xaa"
with open(f"{tmp}/whole.raw", "wb") as file:
    file.write(mbr)
    file.seek(start * 512)
    file.write(disk)
END
make_image "$tmp/whole.qcow2" "$tmp/whole.raw" -c
start_nbdkit --filter=partition --filter="$filter" file "$tmp/whole.qcow2" \
    partition=1
nbdtool compare "$uri" "$tmp/disk.raw"

echo "every filter, or some of them"
every_filter above

echo "no filter is forgotten"
page=$top_srcdir/docs/nbdkit-qcow2-filter.pod
"$PYTHON" "$nbddir/filters_matrix.py" known "$NBDKIT" "$page"
mkdir "$tmp/filters"
touch "$tmp/filters/nbdkit-brandnew-filter.so"
! "$PYTHON" "$nbddir/filters_matrix.py" known "$NBDKIT" "$page" \
    "$tmp/filters" >"$tmp/known" || fail "a new filter is not noticed"
grep -q "no case for brandnew below" "$tmp/known"
sed 's/nbdkit-checkwrite-filter/nbdkit-filter/' "$page" >"$tmp/page.pod"
! "$PYTHON" "$nbddir/filters_matrix.py" known "$NBDKIT" "$tmp/page.pod" \
    >"$tmp/known" || fail "a filter that the man page leaves out"
grep -q "special about checkwrite" "$tmp/known"
