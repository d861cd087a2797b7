#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Somebody extends a file or a device, which cannot grow from here, while it is
# being served: the next client to connect makes the new room known, to those
# as well who are connected already.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

image=$tmp/disk.qcow2

# full OPERATION...: these fail for lack of space, whoever connects.
full ()
{
    local operation

    for operation; do
        writetool "$uri" "!ENOSPC:$operation" ||
            fail "there is room for $operation"
    done
}

# extended FILE EXTEND: serve FILE, which has 4 MiB; the words of EXTEND make
# it larger, to 40 MiB.
extended ()
{
    local file=$1 extend=$2

    start_nbdkit --filter="$filter" file "$file" qcow2-grow=off
    rm -f "$tmp/first" "$tmp/more"
    writetool "$uri" --raw "$tmp/disk.raw" w:0:2M:1 f "touch:$tmp/first" \
        "wait:$tmp/more" w:40M:2M:4 z:4k:4k w:4k:512:5 f &
    client=$!
    wait_for test -e "$tmp/first"
    full w:16M:8M:2
    eval "$extend"
    # Who only looks is a client, too.
    nbdinfo --size "$uri" >/dev/null
    touch "$tmp/more"
    writetool "$uri" --raw "$tmp/disk.raw" w:16M:8M:2 w:32M:4M:3 f
    finish_client
    # Until that is full, and the next time.
    full w:64M:32M:2
    eval "${extend//40M/100M}"
    writetool "$uri" --raw "$tmp/disk.raw" w:64M:32M:6 f
    nbdtool compare "$uri" "$tmp/disk.raw"
    stop_nbdkit
    check_image_of "$file"
}

new_file ()
{
    new_image 128M "$@"
    truncate -s 4M "$image"
}

echo "a file"
new_file
extended "$image" "truncate -s 40M '$image'"
new_file -o cluster_size=512
extended "$image" "truncate -s 40M '$image'"

echo "a file that grows by itself as well"
new_file
start_nbdkit --filter="$filter" file "$image"
writetool "$uri" --raw "$tmp/disk.raw" w:0:2M:1 f
truncate -s 40M "$image"
writetool "$uri" --raw "$tmp/disk.raw" w:8M:24M:2 f
truncate -s 300M "$image"
writetool "$uri" --raw "$tmp/disk.raw" w:32M:90M:3 f
nbdtool compare "$uri" "$tmp/disk.raw"
stop_nbdkit
has_not_logged 'cannot grow'
[ "$(stat -c %s "$image")" -ge $((300 << 20)) ] ||
    fail "what somebody has added was cut off"
check_image

if "$NBDKIT" --dump-plugin --filter=cache null >/dev/null 2>&1; then
    echo "not where a filter below would write by the old size"
    new_file
    start_nbdkit --filter="$filter" --filter=cache file "$image" qcow2-grow=off
    start_client w:0:1M:1 f
    full w:16M:8M:2
    truncate -s 40M "$image"
    full w:16M:8M:2 w:16M:8M:2
    writetool "$uri" --raw "$tmp/disk.raw" w:512k:512k:3 f
    finish_client
    stop_nbdkit
fi

echo "not by who could not write before, or to a part of it"
new_file
start_nbdkit --filter="$filter" --filter=offset file "$image" range=4M \
    qcow2-grow=off
full w:16M:8M:2
truncate -s 40M "$image"
full w:16M:8M:2 w:16M:8M:2
stop_nbdkit

if [ "$(id -u)" -eq 0 ] && type -P losetup >/dev/null; then
    echo "a device"
    new_file
    if loop=$(losetup --show -f "$image" 2>/dev/null); then
        cleanup_fn eval "losetup -d $loop 2>/dev/null"
        extended "$loop" "truncate -s 40M '$image'; losetup -c $loop"
        losetup -d "$loop"
    fi
fi
