#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Images in S3, through nbdkit's S3 plugin: the right data, and few requests,
# as the log filter and the S3 server itself count them.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"
# shellcheck source=s3.sh source-path=SCRIPTDIR
source "$(dirname "$0")/s3.sh"

# How many reads of an object the server has answered; the text before the name
# differs.
answered ()
{
    grep -c "$1\.qcow2.* 206" "$tmp/server.log" || true
}

# It may log after it has answered.
has_answered ()         # NAME NUMBER
{
    [ "$(answered "$1")" -ge "$2" ]
}

make_real "$tmp/disk.raw" $((24 * M))
make_image "$tmp/plain.qcow2" "$tmp/disk.raw" -S 0
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c
start_s3 images
"$PYTHON" - "$endpoint" "$tmp" <<'END_OF_UPLOAD'
import sys
import boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
for name in ("plain", "packed"):
    with open(f"{sys.argv[2]}/{name}.qcow2", "rb") as image:
        s3.put_object(Bucket="images", Key=f"{name}.qcow2", Body=image.read())
END_OF_UPLOAD

# start_image NAME: serve an image in S3, and log the requests.
start_image ()
{
    seen=0
    rm -f "$tmp/requests"
    start_nbdkit --filter="$filter" --filter=log S3 \
        endpoint-url="$endpoint" bucket=images key="$1.qcow2" \
        logfile="$tmp/requests" qcow2-check-at-start=off
}

for name in plain packed; do
    qemu-img convert -f qcow2 -O raw "$tmp/$name.qcow2" "$tmp/by-qemu"

    start_image "$name"
    read_range 0 512
    at_most 2 Read "$name: connect and read one sector"
    stop_nbdkit

    before=$(answered "$name")
    start_image "$name"
    copy --connections=4
    cmp "$tmp/copy" "$tmp/by-qemu" || fail "$name: qemu-img reads other data"
    copy_took_few_requests "$tmp/$name.qcow2" "$name: copy" 16
    asked=$(requests Read)
    wait_for has_answered "$name" $((before + asked))
    [ "$(answered "$name")" -eq $((before + asked)) ] ||
        fail "$name: $asked requests are in the log," \
            "S3 has answered $(answered "$name") - $before"

    # Another client, with another order of requests.
    qemu-img convert -f raw -O raw "$uri" "$tmp/copy"
    cmp "$tmp/copy" "$tmp/by-qemu" || fail "$name: qemu-img gets other data"
    nbdtool compare "$uri" "$tmp/disk.raw" --reads 50 --only-random
    stop_nbdkit
done

echo "an object that is not there"
start_image missing
nbdtool fails "$uri"
stop_nbdkit
