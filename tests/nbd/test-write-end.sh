#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Acknowledged writes are committed when the last client leaves without a
# flush, even if a filter below sleeps, which nbdkit does not allow for a
# client that has left, and if the first attempt fails.  If it cannot be done
# the log says so.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

requires_filter delay
requires_filter error
image=$tmp/disk.qcow2

fresh ()
{
    new_image 64M
    truncate -s 80M "$image"
}

# is_written: the image has all writes, as read without locks.
is_written ()
{
    qemu-img compare -U -q -f qcow2 -F raw "$image" "$tmp/disk.raw"
}

# sleeps EXPORT ARGUMENT...: a filter below delays writes.
sleeps ()
{
    local export=$1 end

    shift
    for end in leave die; do
        fresh
        start_nbdkit --filter="$filter" --filter=delay "$@" delay-write=60ms
        uri=$(export_uri "$export")
        if [ $end = leave ]; then
            writetool "$uri" --raw "$tmp/disk.raw" w:0:1M:7 w:10M:64k:2 \
                w:40M:64k:3
        else
            ! writetool "$uri" --raw "$tmp/disk.raw" w:0:1M:7 w:10M:64k:2 \
                w:40M:64k:3 die || fail "it did not die"
        fi
        wait_for is_written
        # A client that connects now waits until the image has been closed.
        nbdinfo "$uri" >/dev/null
        stop_nbdkit
        has_not_logged 'LAST COMMIT|aborting sleep'
        check_image
    done
}

echo "a filter that sleeps"
sleeps "" file "$image"
echo "one that sleeps, one request at a time"
requires_filter noparallel
sleeps "" --filter=noparallel file "$image" serialize=requests
echo "names that mean something"
sleeps disk.qcow2 file dir="$tmp"

# fails WHEN ARGUMENT...: all writes of the host fail from the creation of
# $tmp/failing until the log has WHEN.  A client that leaves waits until the
# image has been closed.
fails ()
{
    local when=$1 mender

    shift
    fresh
    rm -f "$tmp/failing"
    start_nbdkit --filter="$filter" --filter=error "$@" \
        error-pwrite=EIO error-pwrite-rate=100% error-file="$tmp/failing"
    uri=$(export_uri "$export")
    start_client w:0:1M:7 w:10M:64k:2 w:40M:64k:3
    touch "$tmp/failing"
    {
        wait_for grep -q "$when" "$log"
        rm "$tmp/failing"
    } &
    mender=$!
    finish_client
    wait "$mender" || fail "no message like '$when'"
}

for export in "" disk.qcow2; do
    ways=(file "$image")
    [ -z "$export" ] || ways=(file dir="$tmp")
    echo "errors that pass: ${ways[*]}"
    fails 'writing .* failed' "${ways[@]}"
    wait_for is_written
    nbdinfo "$uri" >/dev/null
    stop_nbdkit
    has_not_logged 'LAST COMMIT'
    check_image

    echo "errors that stay"
    fails 'THE LAST COMMIT HAS FAILED' "${ways[@]}"
    # The next client is served.
    writetool "$uri" w:0:1M:8 f
    nbdtool read "$uri" 0 512 | cmp - <(head -c 512 /dev/zero |
        tr '\0' '\10') || fail "not served any more"
    stop_nbdkit
    qemu-img check -q "$image" || fail "not clean"
done

echo "a server that is told to stop while a filter sleeps"
fresh
start_nbdkit --filter="$filter" --filter=delay file "$image" delay-write=100ms
start_client w:0:1M:7 f w:10M:64k:2
kill -TERM "$pid"
touch "$tmp/client-go"
wait "$client" || true
client=
stop_nbdkit
has_logged 'THE LAST COMMIT HAS FAILED'
status=0
qemu-img check -q "$image" || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || fail "qemu-img check: $status"
qemu-io -f qcow2 -c 'read -q -P 7 0 1M' "$image" >"$tmp/out"
[ ! -s "$tmp/out" ] || fail "what was flushed is lost: $(cat "$tmp/out")"
