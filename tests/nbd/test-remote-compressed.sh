#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Copying a compressed image takes about one request per MiB of the file, for
# all numbers of connections and sizes of requests.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

make_real "$tmp/disk.raw" $((64 * M))
for type in zlib zstd; do
    make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -c -m 4 \
        -o compression_type=$type
    size=$(stat -c %s "$tmp/disk.qcow2")
    # 1.1 for each MiB, rounded up, and 1 to open.
    mib=$(((size + M - 1) / M))
    most=$((mib * 11 / 10 + 1))
    for client in "--connections=1" "--connections=4" \
            "--connections=4 --request-size=2097152"; do
        start_remote 5ms "$tmp/disk.qcow2"
        # shellcheck disable=SC2086     # Several options.
        copy $client
        echo "$type, $client: $(requests Read) requests for $size bytes"
        at_most "$most" Read "$type, $client"
        bytes_at_most $((size + size / 10 + M)) "$type, $client"
        stop_nbdkit
    done
done

echo "small sequential reads decompress each cluster once"
make_real "$tmp/disk.raw" $((16 * M))
for type in zlib zstd; do
    for delay in 0 2ms; do
        make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -c -m 4 \
            -o compression_type=$type
        start_remote $delay "$tmp/disk.qcow2"
        "$PYTHON" - "$uri" "$tmp/disk.raw" <<'PY'
import sys
from nbdtool import Raw, connect
handle, raw = connect(sys.argv[1]), Raw(sys.argv[2])
for offset in range(0, raw.size, 4096):
    raw.check(offset, bytes(handle.pread(4096, offset)))
handle.shutdown()
PY
        stop_nbdkit
        bytes=$(stat_of decompressed bytes)
        echo "$type, $delay: $bytes bytes were decompressed"
        [ "$bytes" -gt $((4 * M)) ] || fail "counted only $bytes bytes"
        [ "$bytes" -le $((16 * M)) ] || fail "$bytes bytes of 16 MiB"
    done
done
