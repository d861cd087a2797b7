#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# With the slower thread models, which many remote plugins have, the data is
# right, nothing hangs, and requests stay few.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

for name in noparallel retry; do
    requires_filter "$name"
done
make_real "$tmp/disk.raw" $((16 * M))
make_image "$tmp/plain.qcow2" "$tmp/disk.raw" -S 0
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c

# check MODEL CONNECTIONS ARGUMENT...; the filters are in 'between'.
check ()
{
    local model=$1 connections=$2 name

    shift 2
    for name in plain packed; do
        start_remote 2ms "$tmp/$name.qcow2" "$@"
        copy --connections="$connections"
        case $* in
        # nbdcopy's requests have 256 KiB.
        *readahead=0*) at_most 80 Read "$model, $name, not read ahead" ;;
        *) copy_took_few_requests "$tmp/$name.qcow2" \
            "$model, $name, $connections connections" ;;
        esac
        nbdtool compare "$uri" "$tmp/disk.raw" --reads 150 --only-random \
            --connections "$connections"
        grep -q "using thread model: $model" "$log" ||
            fail "the thread model is not $model"
        stop_nbdkit
    done
}

# The log filter is below these, so that it sees the requests that they pass.
between=(--filter=noparallel)
check serialize_requests 4 serialize=requests
check serialize_requests 1 serialize=requests
check serialize_requests 4 serialize=requests qcow2-readahead=0
check serialize_all_requests 4 serialize=all-requests
check serialize_connections 1 serialize=connections
between=(--filter=retry)
check serialize_requests 4
check serialize_requests 4 -t 1
