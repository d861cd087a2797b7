#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# layer/N: what one file of a chain has itself, as an export.  The judge is
# qemu-img, which maps and reads a copy of each file that it has detached from
# what is below it.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"
# shellcheck source=exports.sh source-path=SCRIPTDIR
source "$(dirname "$0")/exports.sh"

requires_program jq
cd "$images"

# theirs FILE FORMAT: QEMU's map of the file alone, in $tmp/theirs, as
# "OFFSET LENGTH TYPE": 0 data, 2 allocated zeros, 3 not allocated; and its
# bytes, in $tmp/alone.raw.
theirs ()
{
    local alone=$1

    if [ "$2" != raw ]; then
        alone=$tmp/alone
        cp --sparse=never "$1" "$alone"
        qemu-img rebase -u -f "$2" -b '' "$alone"
    fi
    qemu-img convert -f "$2" -O raw "$alone" "$tmp/alone.raw"
    qemu-img map -f "$2" --output=json "$alone" |
        jq -r '.[] | "\(.start) \(.length) \(if .present | not then 3
            elif .zero then 2 else 0 end)"' | joined > "$tmp/theirs"
}

# Neighbours of the same type as one.
joined ()
{
    awk '$3 == type && n { n += $2; next }
         n { print at, n, type } { at = $1; n = $2; type = $3 }
         END { if (n) print at, n, type }'
}

# is_layer NAME FILE FORMAT
is_layer ()
{
    theirs "$2" "$3"
    nbdtool map "$(export_uri "$1")" | joined > "$tmp/ours"
    diff -u "$tmp/theirs" "$tmp/ours" || fail "the map of $1 ($2)"
    nbdtool compare "$(export_uri "$1")" "$tmp/alone.raw" --reads 20 \
        > "$tmp/out" 2>&1 || fail "$1: $(cat "$tmp/out")"
    [ -z "${ctl-}" ] || is_depth "${1##*/}" "$3"
}

# With qcow2ctl, by the same judge.
ctl=$top_builddir/tools/qcow2ctl/qcow2ctl
[ -x "$ctl" ] || ctl=
is_depth ()             # N FORMAT
{
    "$ctl" map --depth "$1" --output json --follow . -U top.qcow2 \
        > "$tmp/map.json"
    jq -e --argjson n "$1" 'all (.[]; .depth == $n)' "$tmp/map.json" \
        > /dev/null || fail "map --depth $1 shows another file"
    jq -r '.[] | "\(.start) \(.length) \(if .present | not then 3
        elif .zero then 2 else 0 end)"' "$tmp/map.json" | joined > "$tmp/ours"
    diff -u "$tmp/theirs" "$tmp/ours" || fail "map --depth $1"
}

echo "chains of all kinds"
n=0
for options in cluster_size=64k cluster_size=512 compat=0.10 \
        cluster_size=128k,extended_l2=on cluster_size=2M; do
    n=$((n + 1))
    rm -f ./*.qcow2 base.raw
    # The raw file has a hole of 2 MiB, which is allocated all the same.
    make_base base.raw 3000000 $n
    cp --sparse=never base.raw full && mv full base.raw
    truncate -s 5M base.raw
    qemu-img create -q -f qcow2 -b base.raw -F raw -o $options mid.qcow2 6M
    qemu-io -f qcow2 -c 'write -q -P 1 100k 300k' -c 'write -q -z 2M 1M' \
        -c "write -q -c -P 9 4M $(qemu-img info --output=json mid.qcow2 |
            jq '."cluster-size"')" mid.qcow2
    qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 -o $options top.qcow2 4M
    qemu-io -f qcow2 -c 'write -q -P 3 77k 1' -c 'write -q -z 1M 600k' \
        -c 'write -q -P 4 3M 70k' -c 'write -q -P 0 3M 8k' top.qcow2
    # Without holes, of which QEMU knows smaller ones than we ask for.
    for i in mid top; do
        cp --sparse=never $i.qcow2 full && mv full $i.qcow2
    done
    start_nbdkit -r -v --filter="$filter" file top.qcow2 qcow2-follow=.
    is_layer layer/0 top.qcow2 qcow2
    is_layer layer/1 mid.qcow2 qcow2
    is_layer layer/2 base.raw raw
    for i in layer/3 layer/00 layer/ layer/-1 layer/x layer/18446744073709551616 \
            layer/64; do
        nbdtool fails "$(export_uri $i)" > /dev/null
    done
    has_logged "layer/3: there is no layer 3: the last one is 2"
    has_logged "layer/00: '00' is no number of a layer, which are 0 to 2"
    stop_nbdkit
done

rm -f ./full
echo "the list"
start_nbdkit -r --filter="$filter" file top.qcow2 qcow2-follow=.
list
counts 4
has_export '' '^qcow2 version 3'
has_export layer/0 '^what the image itself has'
has_export layer/2 '^what the backing image 2 below'
stop_nbdkit
qemu-img create -q -f qcow2 solo.qcow2 1M
start_nbdkit -r --filter="$filter" file dir=. qcow2-follow=.
list
has_export top.qcow2/layer/0
has_no_export solo.qcow2/layer/0
is_layer top.qcow2/layer/1 mid.qcow2 qcow2
nbdtool size "$(export_uri solo.qcow2/layer/0)" > /dev/null
stop_nbdkit

echo "what is written is seen at once"
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 live.qcow2 4M
start_nbdkit --filter="$filter" file live.qcow2 qcow2-follow=.
uri=$(export_uri layer/0)
check_read_only
uri=$(export_uri '')
"$PYTHON" - "$uri" "$(export_uri layer/0)" <<'END2'
import sys
import nbd

disk, layer = nbd.NBD(), nbd.NBD()
disk.connect_uri(sys.argv[1])
layer.add_meta_context("base:allocation")
layer.connect_uri(sys.argv[2])

def kind(at):
    found = []
    layer.block_status(4096, at, lambda _c, _o, e, _x: found.extend(e) or 0)
    return found[1]

at = 2 << 20
assert kind(at) == 3, kind(at)
assert layer.pread(4096, at) == bytes(4096)
disk.pwrite(b"\x55" * 4096, at)
assert kind(at) == 0, kind(at)
assert layer.pread(4096, at) == b"\x55" * 4096
disk.zero(2 << 20, at)
assert kind(at) == 2, kind(at)
assert layer.pread(4096, at) == bytes(4096)
END2
stop_nbdkit
qemu-img check -q live.qcow2 || fail "the image is damaged"

echo "a backing file that is lost, or was not given"
truth top.qcow2
mv mid.qcow2 elsewhere
for options in 'qcow2-follow=.' '' 'qcow2-backing=mid.qcow2'; do
    for mode in -r ''; do
        [ "$options$mode" != -r ] || continue
        # shellcheck disable=SC2086
        start_nbdkit $mode -v --filter="$filter" file top.qcow2 $options
        [ "$options" = qcow2-follow=. ] || ctl=
        is_layer layer/0 top.qcow2 qcow2
        has_logged 'only what the image itself has can be read: '
        nbdtool fails "$(export_uri layer/1)" > /dev/null
        # Also while somebody reads what there is.
        uri=$(export_uri layer/0)
        connect_client
        before=$(opens)
        nbdtool fails "$(export_uri '')" > /dev/null
        # That has done no harm to what is open.
        nbdtool size "$(export_uri layer/0)" > /dev/null
        [ "$(opens)" = "$before" ] || fail "it was opened a second time"
        finish_client
        list
        has_export layer/0
        has_no_export layer/1
        if [ "$options" = qcow2-follow=. ]; then
            mv elsewhere mid.qcow2
            nbdtool compare "$(export_uri '')" "$tmp/truth.raw" --reads 5
            is_layer layer/1 mid.qcow2 qcow2
            mv mid.qcow2 elsewhere
        fi
        stop_nbdkit
    done
done
mv elsewhere mid.qcow2
qemu-img check -q top.qcow2 || fail "the image is not what it was"
