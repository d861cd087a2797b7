#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# With all defaults the server takes at most 80 MiB more memory than nbdkit
# takes to serve the same disk raw to the same client.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

skip_if_instrumented "that takes memory of its own"

peak ()                 # in KiB
{
    awk '/^VmHWM:/ { print $2 }' "/proc/$pid/status"
}

# Many requests of many sizes in flight, on several connections.
client ()
{
    nbdcopy --connections=4 --request-size=2097152 "$uri" null:
    nbdtool compare "$uri" "$tmp/disk.raw" --connections 8 --reads 300 \
        --only-random
}

make_real "$tmp/disk.raw" $((96 * M))
start_nbdkit --filter=delay file "$tmp/disk.raw" delay-read=2ms
client
raw=$(peak)
stop_nbdkit
echo "raw: $raw KiB"
for options in "-S 0" "-c" "-S 0 -o cluster_size=2M" "-c -o cluster_size=2M" \
        "-c -o cluster_size=2M,compression_type=zstd"; do
    # shellcheck disable=SC2086         # Several options.
    make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -m 4 $options
    start_nbdkit --filter="$filter" --filter=delay file "$tmp/disk.qcow2" \
        delay-read=2ms
    client
    over=$(($(peak) - raw))
    echo "'$options': $((over / 1024)) MiB more"
    [ "$over" -lt $((80 * 1024)) ] || fail "'$options': $over KiB more"
    stop_nbdkit
done
