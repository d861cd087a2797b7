#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# No space: freed space is reused without a flush; without any, the client gets
# ENOSPC, nothing is damaged, and new space is used later.
# shellcheck source=write_images.sh source-path=SCRIPTDIR
source "$(dirname "$0")/write_images.sh"

disk_size=$((60 * 1024 * 1024))

# fixed SIZE [OPTIONS...]: a disk of 60M in an image file of SIZE.
fixed ()
{
    alone
    new_image 60M "${@:2}"
    truncate -s "$1" "$image"
}

serve_fixed ()
{
    start_nbdkit --filter="$filter" file "$image" qcow2-grow=off \
        "${parameters[@]}"
}

# at_once OPERATIONS...: each argument has the operations of one client.
at_once ()
{
    local clients=() operations pid

    for operations; do
        # shellcheck disable=SC2086     # Split on purpose.
        writetool "$uri" $operations &
        clients+=($!)
    done
    for pid in "${clients[@]}"; do
        wait "$pid" || fail "a client failed: $*"
    done
}

# rewritten DESCRIPTION OPERATION: ten times, without a flush, by three
# clients.
rewritten ()
{
    local i first second third

    for i in 1 2 3 4 5 6 7 8 9 10; do
        first="$2:0:20M w:0:7M:$i w:7M:13M:$i"
        second="$2:20M:20M w:20M:19M:$i w:39M:1M:$i"
        third="$2:40M:17M w:40M:17M:$i"
        if [ "$2" = none ]; then
            first=${first#* } second=${second#* } third=${third#* }
        fi
        at_once "$first" "$second" "$third"
    done
    stop_nbdkit
    with_raw "write -q -P 10 0 57M"
    check_image
}

with_raw ()
{
    qemu-io -f raw -c "$1" "$raw"
}

echo "95 % full, and rewritten"
for options in cluster_size=64k cluster_size=4k,lazy_refcounts=on; do
    for how in none t z; do
        fixed 60M -o "$options"
        serve_fixed
        rewritten "$options, $how" "$how"
    done
done

echo "95 % full, and compressed clusters become plain ones"
fixed 60M
make_disk "$tmp/pattern" $((60 * 1024 * 1024)) 1048576
head -c 57M "$tmp/pattern" >"$raw"
truncate -s 60M "$raw"
qemu-img convert -c -f raw -O qcow2 "$raw" "$image"
truncate -s 60M "$image"
serve_fixed
rewritten compressed none

# layered KIND OPTIONS: the same for an image with other files.
layered ()
{
    "make_$1" "$2"
    truncate -s 32M "$image"
}

echo "full: trimmed, and written to again"
for how in "fixed 32M -o cluster_size=64k" "fixed 32M -o cluster_size=4k" \
        "layered over_short cluster_size=64k" "layered luks cluster_size=4k"
do
    echo "$how"
    $how
    serve_fixed
    for i in 1 2 3; do
        # A failed write may be done in part: trim it.
        writetool "$uri" --raw "$raw" w:0:20M:1 f w:20M:9M:2 \
            "!ENOSPC:w:40M:8M:3" t:40M:8M \
            t:4M:8M w:48M:7M:4 w:0:1M:5 "!ENOSPC:w:4M:8M:6" t:4M:8M \
            "!ENOSPC:fua:w:8M:10M:8" t:8M:10M t:48M:7M w:8M:10M:$i
        nbdtool compare "$uri" "$raw" --reads 20
    done
    stop_nbdkit
    check_image
    check_layers
    # There is space again.
    truncate -s 100M "$image"
    serve_fixed
    writetool "$uri" --raw "$raw" w:0:60M:9
    stop_nbdkit
    check_image
    check_layers
done

echo "a data file that has no room"
for raw_data in data data_raw; do
    "make_$raw_data" cluster_size=64k
    truncate -s 30M "$data"
    start_nbdkit -P lower file "$data"
    start_nbdkit --filter="$filter" file "$image" qcow2-data-file="$uri"
    writetool "$uri" --raw "$raw" w:0:20M:1 f "!ENOSPC:w:40M:8M:3" \
        w:20M:10M:4 t:1M:8M "!ENOSPC:fua:w:31M:64k:5" w:4M:1M:6
    nbdtool compare "$uri" "$raw" --reads 20
    has_logged 'no space left: the data file has 31457280 bytes'
    stop_nbdkit
    stop_nbdkit lower
    check_kept
    # A local file grows.
    serve_file
    writetool "$uri" --raw "$raw" w:25M:35M:7
    stop_nbdkit
    check_kept
done

[ "$(id -u)" -eq 0 ] && [ -z "$instrumented" ] || exit 0
alone
mkdir "$tmp/small"
mount -t tmpfs -o size=24M none "$tmp/small" 2>/dev/null || exit 0
cleanup_fn umount -l "$tmp/small"

echo "the file system is full, so the file cannot be what it seems to be"
image=$tmp/small/disk.qcow2
rm -f "$raw"
truncate -s 60M "$raw"
qemu-img create -q -f qcow2 "$image" 60M
start_nbdkit --filter="$filter" file "$image"
writetool "$uri" --raw "$raw" w:0:12M:1 f "!ENOSPC:w:20M:24M:2" w:1M:1M:3
# It is still full after the failed request, for other clients, too.
head -c 12M "$raw" >"$tmp/first"
nbdtool read "$uri" 0 $((12 * 1024 * 1024)) | cmp - "$tmp/first" ||
    fail "what was written before is not there"
mount -o remount,size=100M "$tmp/small"
writetool "$uri" --raw "$raw" t:20M:24M w:20M:30M:4 f
nbdtool compare "$uri" "$raw"
stop_nbdkit
check_image_of "$image"

echo "the same, and there is never room again"
rm "$image" "$raw"
mount -o remount,size=24M "$tmp/small"
truncate -s 60M "$raw"
qemu-img create -q -f qcow2 "$image" 60M
start_nbdkit --filter="$filter" file "$image"
writetool "$uri" --raw "$raw" w:0:12M:1 f "!ENOSPC:w:20M:24M:2"
stop_nbdkit || fail "the server did not end well on a full file system"
status=0
qemu-img check -q "$image" >"$tmp/check" 2>&1 || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
    fail "qemu-img check: $status on a full file system"
qemu-img convert -f qcow2 -O raw "$image" "$tmp/now"
cmp -n $((12 * 1024 * 1024)) "$tmp/now" "$raw" ||
    fail "what was flushed is not there"
