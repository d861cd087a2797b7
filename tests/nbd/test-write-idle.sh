#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Unflushed writes are durable a few seconds after clients have become idle:
# the server is killed then.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

# check_idle EXPORT ARGUMENT...: with these plugins and filters.
check_idle ()
{
    local export=$1 status=0 i

    shift
    new_image 64M
    truncate -s 80M "$tmp/disk.qcow2"
    start_nbdkit --filter="$filter" "$@"
    uri=$(export_uri "$export")
    start_client w:0:1M:1 w:10M:64k:2 z:10M:4k
    for ((i = 0; i < patience; i++)); do
        sleep 1
        # Another program, which ignores the locks.
        if qemu-img compare -U -q -f qcow2 -F raw "$tmp/disk.qcow2" \
                "$tmp/disk.raw" 2>/dev/null; then
            break
        fi
    done
    [ "$i" -gt 0 ] || fail "$*: it was there at once, so this proves nothing"
    kill_nbdkit
    kill_client
    wait "$client" || true
    client=
    qemu-img check -q "$tmp/disk.qcow2" || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
        fail "$*: qemu-img check: $status"
    qemu-img compare -q -f qcow2 -F raw "$tmp/disk.qcow2" "$tmp/disk.raw" ||
        fail "$*: an idle image was not written out"
}

echo "one way for all"
check_idle "" file "$tmp/disk.qcow2"
echo "one request at a time"
requires_filter noparallel
check_idle "" --filter=noparallel file "$tmp/disk.qcow2" serialize=requests
echo "names that mean something"
check_idle disk.qcow2 file dir="$tmp"
