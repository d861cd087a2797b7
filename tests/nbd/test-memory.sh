#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Opening an empty disk of 64 TiB takes no more memory and requests than one of
# 1 GiB.
# shellcheck source=requests.sh source-path=SCRIPTDIR
source "$(dirname "$0")/requests.sh"

requires_qemu
requires_libnbd
requires_plugin file
skip_if_instrumented "that takes memory of its own"
peak ()
{
    awk '/^VmHWM:/ { print $2 }' "/proc/$pid/status"
}

for size in 1G 64T; do
    qemu-img create -q -f qcow2 "$tmp/$size.qcow2" "$size"
    start_logged "$tmp/$size.qcow2"
    for _ in 1 2 3; do
        nbdtool read "$uri" 0 65536 | cmp -n 65536 - /dev/zero
    done
    peak >"$tmp/$size.peak"
    at_most 4 Read "$size: opening"
    # The L1 table is 1 MiB for 64 TiB; there are only it and the header.
    stop_nbdkit
done
echo "peak of the server in KiB: $(cat "$tmp/1G.peak") with 1 GiB," \
    "$(cat "$tmp/64T.peak") with 64 TiB"
[ "$(cat "$tmp/64T.peak")" -le $(($(cat "$tmp/1G.peak") + 4096)) ] ||
    fail "64 TiB takes over 4 MiB more"

echo "the cache keeps to its size"
qemu-img create -q -f qcow2 -o cluster_size=256k,preallocation=metadata \
    "$tmp/large.qcow2" 1T
start_nbdkit --filter="$filter" file "$tmp/large.qcow2" qcow2-cache-size=1M
"$PYTHON" - "$uri" <<'END'
import random
import sys
from nbdtool import connect
handle, rng = connect(sys.argv[1]), random.Random(1)
for _ in range(20000):
    handle.pread(512, rng.randrange(handle.get_size() // 512) * 512)
handle.shutdown()
END
echo "peak after 20000 reads all over 1 TiB: $(peak) KiB"
[ "$(peak)" -le $(($(cat "$tmp/1G.peak") + 8192)) ] ||
    fail "the cache of 1 MiB takes over 8 MiB"
