#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# NBD_CMD_CACHE: passed on for the host ranges of the data if the plugin
# supports it, else done by reading.
# shellcheck source=requests.sh source-path=SCRIPTDIR
source "$(dirname "$0")/requests.sh"

requires_qemu
requires_libnbd
requires_plugin file
M=$((1024 * 1024))
make_noise "$tmp/disk.raw" $((8 * M))
make_image "$tmp/disk.qcow2" "$tmp/disk.raw"
qemu-io -f qcow2 "$tmp/disk.qcow2" -c 'write -q -z 4M 2M'

cache ()
{
    "$PYTHON" - "$uri" "$1" "$2" <<'END'
import sys
import nbd
handle = nbd.NBD()
handle.connect_uri(sys.argv[1])
assert handle.can_cache()
handle.cache(int(sys.argv[3]), int(sys.argv[2]))
handle.shutdown()
END
}

# The file plugin asks the kernel.
start_logged "$tmp/disk.qcow2"
cache 0 1
forget
cache 0 $((2 * M))
expect 1 Cache "2 MiB of contiguous clusters"
expect 0 Read "2 MiB, mapped already"
logged | grep -q 'Cache .*count=0x200000' || fail "not all of it"
forget
cache $((4 * M)) $((2 * M))
expect 0 Cache "zero clusters"
forget
cache $((3 * M)) $((4 * M))
expect 2 Cache "data on both sides of zeros"
nbdtool read "$uri" 0 4096 | cmp -n 4096 - "$tmp/disk.raw"
stop_nbdkit

# A plugin that has no such function.
[ -z "$instrumented" ] || exit 0        # It would go into the script, too.
requires_plugin eval
start_nbdkit --filter="$filter" eval \
    get_size="stat -c %s '$tmp/disk.qcow2'" \
    pread="echo >>'$tmp/reads'; dd if='$tmp/disk.qcow2' iflag=count_bytes,skip_bytes skip=\$4 count=\$3 status=none"
cache 0 1
before=$(wc -l <"$tmp/reads")
cache 0 $((2 * M))
[ "$(wc -l <"$tmp/reads")" -gt "$before" ] || fail "nothing was read"
nbdtool read "$uri" 0 4096 | cmp -n 4096 - "$tmp/disk.raw"
