#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Difficult ways to an image on the web: an address of S3 that is signed for GET
# alone, a proxy that does not wait long, a server that hangs up in the middle.
# docs/PIPELINES.md has these commands.
#
# The servers are web_host.py behind nginx; SIZE and NUMBERS are as in
# pipelines.sh.
# shellcheck source=pipelines.sh source-path=SCRIPTDIR
source "$(dirname "$0")/pipelines.sh"
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin curl
requires_filter retry
requires_program nginx curl
skip_if_instrumented "Python has leaks of its own"
"$PYTHON" -c 'import botocore' 2>/dev/null ||
    skip "no Python module botocore to sign with"
export no_proxy=127.0.0.1,localhost
make_imported
# Each 5th request meets a fault.
every=5

start_host ()
{
    "$PYTHON" "$nbddir/web_host.py" serve "$tmp/www" "$tmp/host.access" \
        --stall 3 --every "$every" >"$tmp/host.port" 2>"$tmp/host.log" &
    cleanup_fn kill $!
    wait_for test -s "$tmp/host.port"
    host=http://localhost:$(cat "$tmp/host.port")
    watch_log "$tmp/host.access"
}

sign ()
{
    "$PYTHON" "$nbddir/web_host.py" sign "$host/signed/disk.qcow2" "$@"
}

# The proxies of this test, on $tmp/NAME.sock.
start_proxies ()
{
    try_nginx "$tmp/proxy" <<END || broken "nginx does not start"
    access_log off;
    server {
        listen unix:$tmp/signed.sock;
        location = /disk.qcow2 {
            proxy_method GET;
            proxy_pass "$signed";
        }
    }
    server {
        listen unix:$tmp/short.sock;
        location / {
            proxy_read_timeout 1s;
            proxy_pass $host;
        }
    }
END
    wait_for test -S "$tmp/short.sock"
}

start_host
signed=$(sign)
start_proxies

# ---- An address that is signed for GET -------------------------------------

download_and_convert ()
{
    curl -fsS "$@" -o "$tmp/scratch" &&
        qemu-img convert -f qcow2 -O raw "$tmp/scratch" "$tmp/copy"
}

echo "--- S3, an address that is signed for GET alone"
number "the usual way, download and convert" download_and_convert "$signed"
cmp "$tmp/copy" "$tmp/disk.raw"
! curl -fsSI "$signed" >/dev/null 2>&1 || fail "it is signed for HEAD"
start_nbdkit -r --filter="$filter" --filter=retry curl "$signed" \
    retries=1 retry-delay=1
if nbdtool size "$uri" >/dev/null 2>&1; then
    number "directly" copy --connections=4
    not_much_more
else
    # Before 1.36 the plugin does not try GET; it has to say so.
    grep -E 'HEAD.*403' "$log" || fail "the log does not say why"
fi
stop_nbdkit

start_nbdkit -r --filter="$filter" --filter=retry curl \
    http://localhost/disk.qcow2 unix-socket-path="$tmp/signed.sock"
number "behind nginx that makes GET of HEAD" copy --connections=4
# What nginx threw away of the answers to HEAD was in buffers.
[ "$got" -le $((2 * (size + M))) ] || fail "$got bytes of $size"
! grep HEAD "$access" || fail "HEAD went through"
stop_nbdkit

echo "--- the same, expired"
signed=$(sign --seconds 0)
sleep 1.1
start_nbdkit -r --filter="$filter" curl "$signed"
nbdtool fails "$uri"
grep 403 "$log" || fail "the log does not say why"
stop_nbdkit

# ---- Faults of the way -------------------------------------------

# downloads ARGUMENT...: the usual way; says how many of them fail.
downloads ()
{
    local failed=0 i

    for ((i = 0; i < every; i++)); do
        curl -sS --fail "$@" -o "$tmp/scratch" 2>/dev/null ||
            failed=$((failed + 1))
    done
    echo "$failed of $every downloads fail"
    [ "$failed" -eq 1 ] || fail "the server has another fault"
}

# imports FAULT ARGUMENT...: in spite of requests that fail, with this text in
# the log.
imports ()
{
    local fault=$1 failed

    shift
    start_nbdkit -r --filter="$filter" --filter=retry curl "$@" \
        retry-delay=1 retry-exponential=no
    number "with retry" copy --connections=4
    not_much_more
    failed=$(grep -c "$fault" "$log") || fail "no request has met the fault"
    echo "$failed requests failed"
    stop_nbdkit
}

echo "--- a proxy that waits for a second, and a server that hangs"
downloads --unix-socket "$tmp/short.sock" http://localhost/stalls/disk.qcow2
imports "returned error: 504" http://localhost/stalls/disk.qcow2 \
    unix-socket-path="$tmp/short.sock"

echo "--- a server that hangs up in the middle"
downloads "$host/drops/disk.qcow2"
imports "partial file" "$host/drops/disk.qcow2"
