#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Under every thread model, many connections read at random at once from an
# image whose tables do not all fit into the cache.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires_libnbd
requires_plugin file
requires_filter noparallel
make_disk "$tmp/disk.raw" $((8 * 1024 * 1024)) 4096
make_image "$tmp/disk.qcow2" "$tmp/disk.raw" -o cluster_size=512
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c -o cluster_size=4096

# check THREAD-MODEL CONNECTIONS ARGUMENT...
check ()
{
    local model=$1 connections=$2 image

    shift 2
    for image in disk packed; do
        start_nbdkit -v --filter="$filter" "$@" qcow2-cache-size=64K \
            file="$tmp/$image.qcow2"
        nbdtool compare "$uri" "$tmp/disk.raw" --reads 1500 \
            --connections "$connections" --only-random
        grep -q "using thread model: $model" "$log" ||
            fail "the thread model is not $model"
        stop_nbdkit
    done
}

check parallel 8 file
check parallel 8 -t 1 file
check serialize_requests 8 --filter=noparallel file serialize=requests
check serialize_all_requests 8 --filter=noparallel file \
    serialize=all-requests
# Only one connection at a time.
check serialize_connections 1 --filter=noparallel file serialize=connections
