#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# After a crash during a change of the header, QEMU reads the old or the new
# one, and the same disk.  There is no server, only the engine.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

requires_qemu
requires jq --version

change_header=$top_builddir/tests/unit/header-file

# QEMU's description of the header, without the size of the file.
describe ()
{
    qemu-img info -U --output=json "$1" |
        jq -cS 'del(."actual-size", .filename, ."full-backing-filename",
                    .children)'
}

# A removed bitmap leaves leaks.
check ()
{
    local status=0

    qemu-img check -q "$1" >/dev/null 2>&1 || status=$?
    case $status in
    0|3) ;;
    *) fail "$2: qemu-img check says $status" ;;
    esac
}

states=0

# try IMAGE CHANGE...: check every state on the way.
try ()
{
    local image=$1 before after now state=0 more=more
    shift

    before=$(describe "$image")
    cp "$image" "$tmp/after"
    "$change_header" "$tmp/after" after "$@" >/dev/null ||
        fail "$image: $*: refused"
    after=$(describe "$tmp/after")
    check "$tmp/after" "$image, after $*"
    while :; do
        cp "$image" "$tmp/state"
        more=$("$change_header" "$tmp/state" "$state" "$@")
        [ "$more" = more ] || break
        now=$(describe "$tmp/state") || fail "$image: $*: state $state"
        if [ "$now" != "$before" ] && [ "$now" != "$after" ]; then
            fail "$image: $*: QEMU reads neither in state $state: $now"
        fi
        check "$tmp/state" "$image, $*, state $state"
        state=$((state + 1))
        states=$((states + 1))
    done
    qemu-io -r -f qcow2 -c 'read -P 7 0 64k' "$tmp/after" |
        grep -q '^read 65536' || fail "$image: $*: the disk has changed"
    cp "$tmp/after" "$image"
}

make_image ()
{
    qemu-img create -q -f qcow2 "$@" 1M
    qemu-io -f qcow2 -c 'write -q -P 7 0 64k' "${@: -1}"
}

# Names are looked up in the folder of the image.
long=$(printf 'x%.0s' {1..180})/$(printf 'y%.0s' {1..180})/base
mkdir -p "$tmp/${long%/base}"
for name in base.raw b "$long"; do
    truncate -s 1M "$tmp/$name"
done
for size in 512 1024 4096 65536 2M; do
    image=$tmp/$size.qcow2
    make_image -o cluster_size=$size "$image"
    if [ "$size" != 512 ]; then
        qemu-img bitmap --add "$image" one
        qemu-img bitmap --add "$image" two
    fi
    try "$image" reorder
    try "$image" backing "$tmp/base.raw"
    [ "$size" = 512 ] || try "$image" no-bitmaps
    case $size in
    512|1024) ;;
    *) try "$image" backing "$long" ;;
    esac
    try "$image" backing b
    try "$image" backing ''
done

image=$tmp/v2.qcow2
make_image -o compat=0.10 "$image"
try "$image" backing "$tmp/base.raw"
try "$image" backing ''

image=$tmp/overlay.qcow2
make_image -o "backing_file=$tmp/base.raw,backing_fmt=raw" "$image"
qemu-img bitmap --add "$image" one
try "$image" backing "$long"
try "$image" no-bitmaps

image=$tmp/datafile.qcow2
make_image -o "data_file=$tmp/data" "$image"
qemu-img bitmap --add "$image" one
try "$image" reorder
try "$image" no-bitmaps

[ "$states" -gt 60 ] || fail "only $states states were looked at"
echo "$states states"
