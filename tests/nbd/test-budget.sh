#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Small images that ask for much memory or much work: both are bounded, and
# within the bounds all images open.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_libnbd
requires_plugin file
skip_if_instrumented "that takes memory of its own"

# image KIND: sets $image.
image ()
{
    image=$tmp/$1.qcow2
    "$PYTHON" "$nbddir/costly_images.py" "$1" "$image" ||
        skip "this file system takes no file with large holes"
}

client ()
{
    "$PYTHON" "$nbddir/budget_client.py" "$@"
}

# peak_is MIB WHAT: the server has never used more memory.
peak_is ()
{
    local peak

    peak=$(awk '/^VmHWM:/ { print int ($2 / 1024) }' "/proc/$pid/status")
    echo "$2: $peak MiB"
    [ "$peak" -le "$1" ] || fail "$2: $peak MiB, more than $1"
}

# Processor time of the server so far, and the same in seconds.
cpu_ticks ()
{
    awk '{ print $14 + $15 }' "/proc/$pid/stat"
}

cpu_seconds ()
{
    echo $(($(cpu_ticks) / $(getconf CLK_TCK)))
}

# ---- Memory ------------------------------------------------------------------

image views
for name in 'diff/s%d..s%e' 'snapshot/s%d'; do
    start_nbdkit --filter="$filter" file "$image"
    [ "$(client exports "$sock" 64 "$name")" -eq 64 ] ||
        fail "not all of 64 views can be open at once"
    peak_is 200 "64 $name, whose L1 tables are holes"
    stop_nbdkit
done

# Missing tables cost nothing, but these exist.
image views-real
for name in 'diff/s%d..s%e' 'snapshot/s%d'; do
    start_nbdkit --filter="$filter" file "$image"
    opened=$(client exports "$sock" 64 "$name" 2>/dev/null)
    [ "$opened" -ge 4 ] || fail "only $opened views can be open at once"
    peak_is 600 "$opened of 64 $name, whose L1 tables are full"
    grep -q 'no memory for an L1 table.*this image.*qcow2-cache-size' "$log" ||
        fail "no message that says what to do"
    # All memory is given back.
    [ "$(client exports "$sock" 64 "$name" 2>/dev/null)" -eq "$opened" ] ||
        fail "the second time it is not as many"
    stop_nbdkit
done

start_nbdkit --filter="$filter" file "$image" qcow2-memory=128M
opened=$(client exports "$sock" 8 'snapshot/s%d' 2>/dev/null)
echo "$opened of 8 with qcow2-memory=128M"
case $opened in
    [1-3]) ;;
    *) fail "128 MiB mean nothing" ;;
esac
grep -q 'all open images.*qcow2-memory' "$log" ||
    fail "no message that says what to do"
stop_nbdkit

image names
start_nbdkit --filter="$filter" file "$image"
client lists "$sock" 20
peak_is 150 "20 lists of names of 64 KiB"
stop_nbdkit

# ---- Work --------------------------------------------------------------------

for kind in l1-tables l1-small bitmaps refcounts scattered; do
    image $kind
    start_nbdkit --filter="$filter" file "$image"
    nbdtool read "$uri" 0 512 | cmp -n 512 - /dev/zero
    first=$(cpu_ticks)
    nbdtool read "$uri" 0 512 | cmp -n 512 - /dev/zero
    second=$(($(cpu_ticks) - first))
    echo "$kind: $first ticks, then $second"
    # Work that took over half a second is not repeated for a while.
    [ "$first" -lt $(($(getconf CLK_TCK) * 3 / 4)) ] ||
        [ "$second" -lt $((first / 3)) ] ||
        fail "$kind: the second client causes the same work again"
    peak_is 150 "$kind, which was not closed cleanly"
    seconds=$(cpu_seconds)
    echo "$kind: $seconds seconds"
    [ "$seconds" -le 25 ] || fail "$kind: $seconds seconds of work"
    stop_nbdkit
    rm "$image"
done
