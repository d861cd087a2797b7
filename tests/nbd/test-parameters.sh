#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Our parameters: good and bad values, and what is not ours.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
make_disk "$tmp/disk.raw" $((4 * 1024 * 1024)) 4096
make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -o cluster_size=512

for size in 64K 65536 100k 1M 32M 1G; do
    start_nbdkit --filter="$filter" file "$tmp/disk.qcow2" \
        qcow2-cache-size="$size"
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 200
    stop_nbdkit
done

echo "bad values"
for size in 0 1 65535 63K -1 "" x 1X 99999999999999999999; do
    refused "qcow2-cache-size|size" --filter="$filter" file \
        "$tmp/disk.qcow2" qcow2-cache-size="$size"
done

echo "keys that are not ours are the plugin's business"
refused "unknown parameter 'qcow2-nonsense'|qcow2-nonsense" \
    --filter="$filter" file "$tmp/disk.qcow2" qcow2-nonsense=1
refused "no-such-key" --filter="$filter" file "$tmp/disk.qcow2" no-such-key=1
refused "file|dir" --filter="$filter" file

echo "help"
run_nbdkit --help --filter="$filter" null >"$tmp/help"
grep -q '^qcow2-cache-size=' "$tmp/help" || fail "--help has no parameters"

echo "debug flag"
start_nbdkit -v -D qcow2.io=1 --filter="$filter" file "$tmp/disk.qcow2" \
    qcow2-readahead=0
nbdtool read "$uri" 0 4096 | cmp -n 4096 - "$tmp/disk.raw"
for class in header l1 l2 data; do
    grep -q "qcow2: below: read $class " "$log" || fail "-D qcow2.io: $class"
done
