#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Images in S3, through nbdkit's S3 plugin: the right data, and few requests,
# as the log filter and the S3 server itself count them.
#
# The server is s3rver, which scripts/setup fetches (see scripts/get-s3rver),
# or moto's.
# shellcheck source=remote.sh source-path=SCRIPTDIR
source "$(dirname "$0")/remote.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

skip_if_instrumented "Python has leaks of its own"
requires_plugin S3
"$PYTHON" -c 'import boto3' 2>/dev/null || skip "no Python module boto3"
export AWS_ACCESS_KEY_ID=S3RVER AWS_SECRET_ACCESS_KEY=S3RVER
export AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
# Do not use the user's settings.
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL
export no_proxy=127.0.0.1

# find_server: sets the array 'server', without its address.
find_server ()
{
    local path reason

    if path=$("$top_srcdir/scripts/get-s3rver" --path 2>"$tmp/reason") ||
            path=$(type -P s3rver); then
        [ -n "$(type -P node)" ] || skip "node is not installed"
        mkdir "$tmp/s3"
        server=("$path" -d "$tmp/s3" -a)
    elif path=$(type -P moto_server); then
        server=("$path" -H)
    else
        reason=$(tail -n 1 "$tmp/reason")
        skip "no S3 server: $reason (scripts/setup --tests fetches it)"
    fi
}

# start_server: sets 'endpoint'.
start_server ()
{
    local port try i

    for try in 1 2 3 4 5; do
        port=$((20000 + (RANDOM + try) % 20000))
        "${server[@]}" 127.0.0.1 -p "$port" </dev/null >"$tmp/server.log" 2>&1 &
        server_of_s3=$!
        for ((i = 0; i < patience * 10; i++)); do
            kill -0 "$server_of_s3" 2>/dev/null || break
            if (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
                cleanup_fn kill "$server_of_s3"
                endpoint=http://127.0.0.1:$port
                return 0
            fi
            sleep 0.1
        done
        kill "$server_of_s3" 2>/dev/null || true
    done
    broken "no S3 server starts: $(tail -n 3 "$tmp/server.log")"
}

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

find_server
make_real "$tmp/disk.raw" $((16 * M))
make_image "$tmp/plain.qcow2" "$tmp/disk.raw" -S 0
make_image "$tmp/packed.qcow2" "$tmp/disk.raw" -c
start_server
"$PYTHON" - "$endpoint" "$tmp" <<'END_OF_UPLOAD'
import sys
import boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
s3.create_bucket(Bucket="images")
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
    size=$(stat -c %s "$tmp/$name.qcow2")
    mib=$(((size + M - 1) / M))
    qemu-img convert -f qcow2 -O raw "$tmp/$name.qcow2" "$tmp/by-qemu"

    start_image "$name"
    read_range 0 512
    at_most 2 Read "$name: connect and read one sector"
    stop_nbdkit

    before=$(answered "$name")
    start_image "$name"
    copy --connections=4
    cmp "$tmp/copy" "$tmp/by-qemu" || fail "$name: qemu-img reads other data"
    asked=$(requests Read)
    echo "$name: $asked requests for $size bytes"
    at_most $((mib * 12 / 10 + 6)) Read "$name: copy"
    bytes_at_most $((size + size / 5 + 2 * M)) "$name: copy"
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
