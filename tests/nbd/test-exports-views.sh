#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Snapshots, bitmaps and differences as exports: their contents, compared with
# QEMU, or with known contents where QEMU is wrong; their size, map and
# description; that they are read-only; and refusals, with their messages.
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

requires_program jq
mkdir "$tmp/images"
image=$tmp/images/disk.qcow2
make_history "$image"
for name in one two "three/3 x" ""; do
    history_content "$image" "$name" "$tmp/content${name//[\/ ]/}"
done

# expect_map NAME LINE...: the extents of an export that are no holes, "OFFSET
# LENGTH"; neighbours count as one.
expect_map ()
{
    local name=$1

    shift
    nbdtool map "$(export_uri "$name")" | awk '$3 == 3 { next }
        n && $1 == at + n { n += $2; next }
        n { print at, n } { at = $1; n = $2 }
        END { if (n) print at, n }' >"$tmp/map"
    diff -u <(printf '%s\n' "$@" | grep .) "$tmp/map" ||
        fail "the map of $name"
}

# masked RAW OUT LINE...: the contents of such a view: RAW in its data extents.
masked ()
{
    "$PYTHON" - "$@" <<'END'
import sys
raw = open(sys.argv[1], "rb").read()
out = bytearray(len(raw))
for line in sys.argv[3:]:
    at, length = map(int, line.split())
    out[at:at + length] = raw[at:at + length]
open(sys.argv[2], "wb").write(out)
END
}

# compare NAME RAW [ARGUMENT...]: check an export with our own client and, once
# for each form of its name, with QEMU's.
compare ()
{
    nbdtool compare "$(export_uri "$1")" "${@:2}"
    [ -z "$options" ] || by_qemu "$(export_uri "$1")" "$2"
}

# check_view NAME RAW LINE...: check what is no hole of it, and RAW there.
check_view ()
{
    local name=$1 raw=$2

    shift 2
    expect_map "$name" "$@"
    masked "$raw" "$tmp/masked" "$@"
    compare "$name" "$tmp/masked" --reads 30
}

K=1024
M=$((K * K))
check_all ()            # PREFIX
{
    compare "${1}snapshot/one" "$tmp/contentone"
    compare "${1}snapshot/two" "$tmp/contenttwo"
    compare "${1}snapshot/three/3%20x" "$tmp/contentthree3x"
    compare "${1}snapshot-id/1" "$tmp/contentone"
    compare "${1}snapshot-id/3" "$tmp/contentthree3x"
    compare "${1%/}" "$tmp/content"
    check_view "${1}bitmap/bits" "$tmp/content" \
        "$((512 * K)) $((64 * K))" "$((2 * M)) $((64 * K))" \
        "$((3 * M)) $((64 * K))"
    check_view "${1}bitmap/off%2F1" "$tmp/content"
    check_view "${1}diff/one..two" "$tmp/contenttwo" \
        "$((64 * K)) $((128 * K))" "$M $((64 * K))" "$((3 * M)) $((128 * K))"
    check_view "${1}diff/two..one" "$tmp/contentone" \
        "$((64 * K)) $((128 * K))" "$M $((64 * K))" "$((3 * M)) $((128 * K))"
    check_view "${1}diff/two.." "$tmp/content" \
        "$((512 * K)) $((64 * K))" "$((2 * M)) $((64 * K))" \
        "$((3 * M)) $((64 * K))"
    check_view "${1}diff/two..two" "$tmp/contenttwo"
    uri=$(export_uri "${1}snapshot/one")
    check_read_only
}

for options in "-r" ""; do
    # shellcheck disable=SC2086
    start_nbdkit $options -v --filter="$filter" file "$image"
    check_all ""
    for i in snapshot/none snapshot-id/9 snapshot/ bitmap/none diff/one \
            diff/one..none diff/..; do
        nbdtool fails "$(export_uri $i)" >/dev/null
    done
    has_logged "disk.qcow2: snapshot/none: .*no snapshot.* 'none'"
    has_logged "disk.qcow2: bitmap/none: .*no bitmap.* 'none'"
    has_logged "disk.qcow2: diff/one: "
    # Any other name is still the image.
    nbdtool compare "$(export_uri other/snapshot/one)" "$tmp/content" --reads 1
    stop_nbdkit

    # shellcheck disable=SC2086
    start_nbdkit $options -v --filter="$filter" file dir="$tmp/images"
    check_all disk.qcow2/
    for i in snapshot/one disk.qcow2/snapshot/none disk.qcow2/snapshots/one \
            none/snapshot/one disk.qcow2/ /snapshot/one; do
        nbdtool fails "$(export_uri $i)" >/dev/null
    done
    stop_nbdkit
done
qemu-img check -q "$image" || fail "the image is not what it was"

echo "descriptions of exports that are opened"
start_nbdkit -r --filter="$filter" file "$image"
"$PYTHON" - "$sock" <<'END'
import re
import sys
from exports_client import description, listing

listed = dict(listing(sys.argv[1]))
for name, text in listed.items():
    assert description(sys.argv[1], name) == text, (name, text)
text = description(sys.argv[1], "snapshot-id/3")
assert re.match('snapshot "three/3 x" of 20', text), text
assert description(sys.argv[1], "diff/one..two")
END
stop_nbdkit

echo "a snapshot is opened once, by however many clients"
start_nbdkit -r -v --filter="$filter" --filter=delay file "$image" \
    delay-read=50ms
clients=()
for i in 1 2 3 4 5 6; do
    nbdtool size "$(export_uri snapshot/one)" >"$tmp/size$i" &
    clients+=($!)
done
wait "${clients[@]}"
[ "$(cat "$tmp"/size[1-6] | sort -u)" = 4194304 ] || fail "sizes"
nbdtool compare "$(export_uri snapshot/one)" "$tmp/contentone" --reads 20
[ "$(grep -c 'snapshot/one: opened:' "$log")" -eq 1 ] ||
    fail "opened $(grep -c 'snapshot/one: opened:' "$log") times"
[ "$(opens)" = 1 ] || fail "the image was opened $(opens) times"
stop_nbdkit

echo "disks of other sizes than now, where qemu-img -l takes the size of now"
qemu-img create -q -f qcow2 "$tmp/sizes.qcow2" 1M
: >"$tmp/now"
for size in 1M 3M 2560K 100K; do
    qemu-img resize -q --shrink -f qcow2 "$tmp/sizes.qcow2" $size
    truncate -s $size "$tmp/now"
    byte=${#size}${size:0:1}
    qemu-io -f qcow2 -c "write -q -P $byte 0 100k" "$tmp/sizes.qcow2"
    qemu-io -f raw -c "write -q -P $byte 0 100k" "$tmp/now"
    if [ $size = 3M ]; then
        qemu-io -f qcow2 -c "write -q -P 8 2M 1M" "$tmp/sizes.qcow2"
        qemu-io -f raw -c "write -q -P 8 2M 1M" "$tmp/now"
    fi
    cp "$tmp/now" "$tmp/at-$size"
    qemu-img snapshot -c "at $size" "$tmp/sizes.qcow2"
done
start_nbdkit -r --filter="$filter" file "$tmp/sizes.qcow2"
for size in 1M 3M 2560K 100K; do
    nbdtool compare "$(export_uri "snapshot/at%20$size")" "$tmp/at-$size"
done
nbdtool compare "$uri" "$tmp/at-100K"
stop_nbdkit

echo "compressed, with subclusters, small clusters, version 2"
try_image ()            # qemu-img convert's options...
{
    make_disk "$tmp/source.raw" $((2 * M)) 4096 7
    rm -f "$tmp/try.qcow2"
    make_image "$tmp/try.qcow2" "$tmp/source.raw" "$@"
    qemu-img snapshot -c before "$tmp/try.qcow2"
    qemu-io -f qcow2 -c 'write -q -P 9 5k 300k' -c 'write -q -z 1M 5k' \
        -c 'discard -q 1200k 200k' "$tmp/try.qcow2"
    history_content "$tmp/try.qcow2" "" "$tmp/try.raw"
    start_nbdkit --filter="$filter" file "$tmp/try.qcow2"
    nbdtool compare "$(export_uri snapshot/before)" "$tmp/source.raw"
    # Apply the changes to a copy.
    cp "$tmp/source.raw" "$tmp/copy.raw"
    "$PYTHON" "$top_srcdir/tools/nbd-apply-extents" --quiet \
        "$(export_uri diff/before..)" "$tmp/copy.raw"
    cmp "$tmp/copy.raw" "$tmp/try.raw" || fail "diff: $*"
    stop_nbdkit
}
try_image -c
try_image -c -o cluster_size=4k,compression_type=zstd
try_image -o extended_l2=on
try_image -o cluster_size=512
try_image -o compat=0.10
try_image -o refcount_bits=64,cluster_size=2M

echo "an image that has none of it"
qemu-img create -q -f qcow "$tmp/v1.qcow" 1M
start_nbdkit --filter="$filter" file "$tmp/v1.qcow"
for i in snapshot/one bitmap/one diff/a..b; do
    nbdtool fails "$(export_uri $i)" >/dev/null
done
stop_nbdkit

echo "memory is bounded by what is kept open"
start_nbdkit -r -v -D qcow2.stats=1 --filter="$filter" file "$image"
for i in snapshot/one snapshot/two snapshot-id/1 snapshot-id/2 snapshot-id/3 \
        bitmap/bits diff/one..two snapshot/one; do
    nbdtool size "$(export_uri $i)" >/dev/null
done
# The latest 4 are kept; the first was no longer among them.
[ "$(grep -c 'snapshot/one: opened:' "$log")" -eq 2 ] ||
    fail "how many views are kept"
[ "$(grep -c 'stats: .*: tables:' "$log")" -eq 4 ] ||
    fail "$(grep -c 'stats: .*: tables:' "$log") views were closed"
stop_nbdkit
