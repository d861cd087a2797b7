#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Clusters in random order in the file: the right data, and each byte of the
# file is read about once.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"

make_real "$tmp/disk.raw" $((32 * M))
for options in "" "-o cluster_size=16k" "-c" "-c -o compression_type=zstd"; do
    # shellcheck disable=SC2086         # Several options.
    make_image "$tmp/disk.qcow2" "$tmp/disk.raw" $options
    payload=$(stat -c %s "$tmp/disk.qcow2")
    remote_images shuffle "$tmp/disk.qcow2"
    [ "$(qemu-img compare -f qcow2 -F raw "$tmp/disk.qcow2" \
        "$tmp/disk.raw")" = "Images are identical." ] ||
        broken "shuffling has broken the image"
    for client in --connections=1 --connections=4 \
            "--connections=4 --request-size=2097152"; do
        start_remote 5ms "$tmp/disk.qcow2"
        # shellcheck disable=SC2086
        copy $client
        echo "'$options' $client: $(requests Read) requests"
        bytes_at_most $((payload * 13 / 10 + 4 * M)) "'$options' $client"
        stop_nbdkit
    done
done
