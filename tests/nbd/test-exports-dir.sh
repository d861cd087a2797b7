#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Several images from one directory, over many connections at once; an unknown
# name is an error for that client only.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
mkdir "$tmp/images"
for i in 1 2 3 4 5 6; do
    make_disk "$tmp/$i.raw" $((i * 700000 / 512 * 512)) 65536 "$i"
    make_image "$tmp/images/$i.qcow2" "$tmp/$i.raw"
done
start_nbdkit -r -v --filter="$filter" file dir="$tmp/images"

"$PYTHON" - "$sock" "$tmp" <<'END'
import random
import sys
import nbd
from nbdtool import Mismatch, Raw, connect, random_ranges

sock, tmp = sys.argv[1:]
rng = random.Random(5)
raws = {str(i): Raw(f"{tmp}/{i}.raw") for i in range(1, 7)}
handles = [(raws[name], connect(sock, f"{name}.qcow2"))
           for name in list(raws) * 3]

try:
    connect(sock, "7.qcow2")
    raise Mismatch("there is no 7.qcow2")
except nbd.Error:
    pass

for _ in range(60):
    issued = []
    for raw, handle in handles:
        assert handle.get_size() == raw.size
        for offset, length in random_ranges(raw.size, 2, rng):
            buffer = nbd.Buffer(length)
            issued.append((raw, handle, handle.aio_pread(buffer, offset),
                           buffer, offset))
    for raw, handle, cookie, buffer, offset in issued:
        while not handle.aio_command_completed(cookie):
            handle.poll(-1)
        raw.check(offset, bytes(buffer.to_bytearray()))
for _, handle in handles:
    handle.shutdown()
END

[ "$(opens)" = 6 ] || fail "6 images were opened $(opens) times"
nbdtool compare "$(export_uri 3.qcow2)" "$tmp/3.raw"
[ "$(opens)" = 6 ] || fail "a later connection opened an image again"
nbdinfo --list "nbd+unix:///?socket=$sock" | grep -q '5\.qcow2' ||
    fail "the list of exports"
