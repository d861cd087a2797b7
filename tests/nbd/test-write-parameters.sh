#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The parameters of writing: good and bad values, and their effects.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

image=$tmp/disk.qcow2
new_image 64M

echo "bad values"
for parameter in grow lock discard discard-snapshots overlap-check \
        lazy-refcounts refcounts cache-clean-interval; do
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
        overlap-check=constant overlap-check=cached overlap-check=all \
        discard-snapshots=on discard-snapshots=off \
        cache-clean-interval=0 cache-clean-interval=1 \
        lazy-refcounts=on lazy-refcounts=off \
        refcounts=exact refcounts=ahead; do
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
for parameter in grow lock discard discard-snapshots overlap-check \
        lazy-refcounts refcounts cache-clean-interval; do
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

# forget MODE DISCARD: delete a snapshot that has 16M which the disk does not
# have; $after: how many bytes of the file are free in the file system then.
forget ()
{
    local before

    new_image 64M
    qemu-io -f qcow2 -c "write -q -P 1 0 16M" "$image"
    qemu-img snapshot -c old "$image"
    qemu-io -f qcow2 -c "write -q -P 2 0 16M" "$image"
    before=$(blocks)
    start_nbdkit --filter="$filter" file "$image" \
        "qcow2-discard-snapshots=$1" "qcow2-discard=$2" \
        qcow2-control="$tmp/control"
    "$ctl" -S "$tmp/control" snapshot delete "" old
    stop_nbdkit
    qemu-img check -q "$image" || fail "discard-snapshots=$1: not clean"
    after=$((before - $(blocks)))
}

ctl=$top_builddir/tools/qcow2ctl/qcow2ctl
if "$ctl" --version | grep -q json=yes; then
    echo "qcow2-discard-snapshots"
    for discard in unmap ignore; do
        forget on $discard
        [ $after -gt $((12 * M)) ] || fail "on, $discard: gives back $after"
        forget off $discard
        [ $after -lt $((4 * M)) ] || fail "off, $discard: gives back $after"
    done
fi

echo "qcow2-lock=off"
new_image 64M
start_nbdkit --filter="$filter" file "$image" qcow2-lock=off
start_client w:0:1M:1
! grep ":$(stat -c %i "$image") " /proc/locks || fail "it is locked"
finish_client
stop_nbdkit

# dirty: the lowest bit of the header's incompatible features.
dirty ()
{
    echo $(($(od -An -tu1 -j79 -N1 "$image") & 1))
}

# lazy HEADER PARAMETER DIRTY: what the header says, a parameter or nothing,
# and whether the image is marked while it is written to.
lazy ()
{
    new_image 64M -o "lazy_refcounts=$1"
    # shellcheck disable=SC2086     # no word, or one
    start_nbdkit --filter="$filter" file "$image" $2
    start_client w:0:1M:1 f
    [ "$(dirty)" -eq "$3" ] || fail "header $1, $2: dirty bit $(dirty)"
    finish_client
    stop_nbdkit
    [ "$(dirty)" -eq 0 ] || fail "header $1, $2: still dirty"
    check_image
    # shellcheck disable=SC2086
    start_nbdkit --filter="$filter" file "$image" $2
    start_client w:1M:1M:2 f
    kill_nbdkit
    kill_client
    [ "$(dirty)" -eq "$3" ] || fail "header $1, $2, killed: $(dirty)"
    [ "$3" -eq 1 ] || check_image
    # Whoever counts what the next one finds takes the mark away.
    start_nbdkit --filter="$filter" file "$image" qcow2-lazy-refcounts=off
    writetool "$uri" --raw "$tmp/disk.raw" w:2M:1M:3 f
    [ "$(dirty)" -eq 0 ] || fail "header $1, $2, repaired: $(dirty)"
    stop_nbdkit
    check_image
}

# leaks: how many clusters have refcounts that are too high.
leaks ()
{
    { qemu-img check --output=json "$image" || :; } | "$PYTHON" -c '
import json, sys
found = json.load(sys.stdin)
assert not found.get("corruptions")
print(found.get("leaks", 0))'
}

# refcounts VALUE MOST: what a server that is killed leaks.
refcounts ()
{
    new_image 64M
    start_nbdkit --filter="$filter" file "$image" "qcow2-refcounts=$1"
    start_client w:0:1M:1 f w:32M:1M:2 f
    kill_nbdkit
    kill_client
    leaked=$(leaks)
    [ "$leaked" -le "$2" ] || fail "refcounts=$1, killed: $leaked leaks"
    qemu-img check -q -r leaks "$image" || [ $? -eq 3 ]
    check_image
}

echo "qcow2-refcounts"
refcounts exact 0
refcounts ahead $((16 * M / 65536))
[ "$leaked" -gt 0 ] || fail "refcounts=ahead: nothing was raised ahead"

echo "qcow2-lazy-refcounts"
lazy off "" 0
lazy on "" 1
lazy off qcow2-lazy-refcounts=on 1
lazy on qcow2-lazy-refcounts=off 0
new_image 64M -o compat=0.10
start_nbdkit --filter="$filter" file "$image" qcow2-lazy-refcounts=on
nbdtool fails "$uri" >/dev/null
has_logged 'version 2; leave out qcow2-lazy-refcounts'
stop_nbdkit
start_nbdkit -r --filter="$filter" file "$image" qcow2-lazy-refcounts=on
nbdtool read "$uri" 0 512 >/dev/null
stop_nbdkit
