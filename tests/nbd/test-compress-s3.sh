#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2-compress into objects in S3: the image is made there, each request of
# the client is one write below, besides tables, and QEMU checks what the
# objects have.
# shellcheck source=compressing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/compressing.sh"
# shellcheck source=s3.sh source-path=SCRIPTDIR
source "$(dirname "$0")/s3.sh"
requires_filter blocksize-policy

start_s3 images
objects=(--filter=blocksize-policy S3 endpoint-url="$endpoint" bucket=images
    key=disk size="${image_mib}M" object-size=256k blocksize-minimum=1
    blocksize-preferred=256k blocksize-maximum=32M)
fill "S3" "${objects[@]}"

start_nbdkit -r "${objects[@]}"
nbdcopy "$uri" "$tmp/disk.qcow2"
stop_nbdkit
judge "S3" "$tmp/disk.qcow2"

echo "read there, and written again"
start_nbdkit --filter="$filter" "${objects[@]}" qcow2-compress=on
nbdtool compare "$uri" "$tmp/disk.raw" --reads 20 --only-random
writetool "$uri" --raw "$tmp/disk.raw" w:0:100k:1 w:3M:1M:2 z:1M:300k \
    w:64k:256k:5 f
nbdtool compare "$uri" "$tmp/disk.raw" --reads 20 --only-random
stop_nbdkit
start_nbdkit -r "${objects[@]}"
nbdcopy "$uri" "$tmp/disk.qcow2"
stop_nbdkit
judge "S3, again" "$tmp/disk.qcow2" 140   # parts of some are not
