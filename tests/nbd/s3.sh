# SPDX-License-Identifier: BSD-3-Clause
# s3.sh - an S3 server of the test's own; sourced.
#
# It is s3rver, which scripts/setup fetches (see scripts/get-s3rver), or that
# of moto.
# shellcheck shell=bash
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/services.sh"

skip_if_instrumented "Python has leaks of its own"
requires_plugin S3
"$PYTHON" -c 'import boto3' 2>/dev/null || skip "no Python module boto3"
export AWS_ACCESS_KEY_ID=S3RVER AWS_SECRET_ACCESS_KEY=S3RVER
export AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
# Do not use the user's settings.
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL
export no_proxy=127.0.0.1

# find_s3: sets the array 'server', without its address.
find_s3 ()
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

make_bucket ()
{
    "$PYTHON" -c '
import sys
import boto3
boto3.client("s3", endpoint_url=sys.argv[1]).create_bucket(Bucket=sys.argv[2])
' "$endpoint" "$1"
}

# start_s3 BUCKET: start it, with an empty bucket; sets 'endpoint'.
start_s3 ()
{
    local port try i

    for try in 1 2 3 4 5; do
        port=$((20000 + (RANDOM + try) % 20000))
        "${server[@]}" 127.0.0.1 -p "$port" </dev/null \
            >"$tmp/server.log" 2>&1 &
        server_of_s3=$!
        for ((i = 0; i < patience * 10; i++)); do
            kill -0 "$server_of_s3" 2>/dev/null || break
            if (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
                cleanup_fn kill "$server_of_s3"
                endpoint=http://127.0.0.1:$port
                make_bucket "$1"
                return 0
            fi
            sleep 0.1
        done
        kill "$server_of_s3" 2>/dev/null || true
    done
    broken "no S3 server starts: $(tail -n 3 "$tmp/server.log")"
}

find_s3
