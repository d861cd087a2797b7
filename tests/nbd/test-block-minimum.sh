#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A plugin that takes only blocks of 4096 bytes gets no other request.  An
# image that does not end on such a block is an error that says so.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
requires_filter blocksize-policy

start ()
{
    start_nbdkit -P "$1" --filter="$filter" --filter=blocksize-policy \
        file dir="$tmp/$1" blocksize-minimum=4096 \
        blocksize-error-policy=error
}

# Each ends on a block, except those in ragged/.
names=(cs-512 cs-1k cs-4k cs-64k zlib-512 zlib-4k zlib-64k zstd-64k
    zstd-512 extl2-16k v1-plain v1-compressed snapshots mix mix-extl2)
"$PYTHON" "$lib/matrix.py" make "${names[@]}" "$tmp/even"
mkdir "$tmp/ragged"
for name in "${names[@]}"; do
    truncate -s %4096 "$tmp/even/$name.qcow2"
done
start even
for name in "${names[@]}"; do
    nbdtool compare "$(export_uri "$name.qcow2" even)" \
        "$tmp/even/$name.raw" --reads 100 || fail "$name"
    nbdtool map "$(export_uri "$name.qcow2" even)" >"$tmp/map"
done
if grep -i 'align' "$tmp/even.log"; then
    fail "a request was not aligned"
fi
stop_nbdkit even

# The data of the last cluster is at the end of the file.
"$PYTHON" "$lib/matrix.py" make cs-4k "$tmp/ragged"
echo "the last bytes" >>"$tmp/ragged/cs-4k.qcow2"
"$PYTHON" "$lib/matrix.py" make eof-mid-cluster "$tmp/ragged"
start ragged
nbdtool compare "$(export_uri cs-4k.qcow2 ragged)" "$tmp/ragged/cs-4k.raw"
where="$(export_uri eof-mid-cluster.qcow2 ragged)"
nbdtool read "$where" 0 65536 | cmp - <(head -c 65536 \
    "$tmp/ragged/eof-mid-cluster.raw") || fail "what can be reached"
nbdtool fails "$where" $((512 * 1024)) 65536 | grep EIO ||
    fail "the last bytes cannot be reached: that is EIO"
grep -E 'qcow2: .*eof-mid-cluster.*(4096|block|truncate)' "$tmp/ragged.log" ||
    fail "no message that says why"
