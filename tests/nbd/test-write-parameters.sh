#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The parameters of writing: good and bad values, and their effects.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

image=$tmp/disk.qcow2
new_image 64M

echo "bad values"
for parameter in grow lock discard overlap-check; do
    for value in "" x yes AUTO -1 "on "; do
        refused "qcow2-$parameter must be .*, not '$value'" \
            --filter="$filter" file "$image" "qcow2-$parameter=$value"
    done
done
refused "qcow2-grow must be off or auto, not 'on'" --filter="$filter" file \
    "$image" qcow2-grow=on
refused "qcow2-discard must be unmap, ignore or no-unref, not 'off'" \
    --filter="$filter" file "$image" qcow2-discard=off

echo "good values"
for parameter in grow=auto grow=off lock=on lock=off discard=unmap \
        discard=ignore discard=no-unref overlap-check=none \
        overlap-check=constant overlap-check=cached overlap-check=all; do
    new_image 64M
    truncate -s 16M "$image"
    start_nbdkit --filter="$filter" file "$image" "qcow2-$parameter"
    writetool "$uri" --raw "$tmp/disk.raw" w:0:1M:1 z:64k:64k f
    nbdtool compare "$uri" "$tmp/disk.raw"
    stop_nbdkit
    check_image
done

echo "help"
run_nbdkit --help --filter="$filter" null >"$tmp/help"
for parameter in grow lock discard overlap-check; do
    grep -q "^qcow2-$parameter=" "$tmp/help" || fail "--help: $parameter"
done

# data: how many bytes of the disk are allocated.
data ()
{
    qemu-img map --output=json "$image" | "$PYTHON" -c '
import json
import sys
print(sum(e["length"] for e in json.load(sys.stdin) if "offset" in e))'
}

# blocks: how many bytes of the file have blocks in the file system.
blocks ()
{
    echo $(($(stat -c '%b * %B' "$image")))
}

M=$((1024 * 1024))

# discard MODE: write 16M, trim 8M of it, and flush.
discard ()
{
    new_image 64M
    start_nbdkit --filter="$filter" file "$image" "qcow2-discard=$1"
    writetool "$uri" w:0:16M:1 f t:0:8M f
    nbdtool read "$uri" 0 $((8 * M)) >"$tmp/trimmed"
    stop_nbdkit
    qemu-img check -q "$image" || fail "discard=$1: not clean"
}

echo "qcow2-discard"
head -c $((8 * M)) /dev/zero >"$tmp/zeros"
head -c $((8 * M)) /dev/zero | tr '\0' '\1' >"$tmp/ones"
discard unmap
cmp "$tmp/trimmed" "$tmp/zeros" || fail "unmap: not zero"
[ "$(data)" -eq $((8 * M)) ] || fail "unmap: $(data) bytes of data"
[ "$(blocks)" -lt $((12 * M)) ] || fail "unmap: takes $(blocks)"
discard ignore
cmp "$tmp/trimmed" "$tmp/ones" || fail "ignore: something was done"
[ "$(data)" -eq $((16 * M)) ] || fail "ignore: $(data) bytes of data"
discard no-unref
cmp "$tmp/trimmed" "$tmp/zeros" || fail "no-unref: not zero"
[ "$(data)" -eq $((16 * M)) ] || fail "no-unref: $(data) bytes of data"

echo "qcow2-lock=off"
new_image 64M
start_nbdkit --filter="$filter" file "$image" qcow2-lock=off
start_client w:0:1M:1
! grep ":$(stat -c %i "$image") " /proc/locks || fail "it is locked"
finish_client
stop_nbdkit
