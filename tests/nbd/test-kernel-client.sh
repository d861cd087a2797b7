#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The kernel as a client, with the commands of nbdkit-qcow2-migrating(1): it
# reads the disk, and what it writes is in the image.  Where the kernel has no
# nbd, or no ublk, that part says "not run".
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

page=$top_srcdir/docs/nbdkit-qcow2-migrating.pod
requires_plugin file
requires_qemu
requires_program blockdev

# from_page WORD...: sets the array 'words' to the one command of the page that
# begins so, alone on a line or as C<...>, with our socket and device.
from_page ()
{
    local line

    line=$(sed -n -e "s/^ \($* .*\)/\1/p" -e "s/.*C<\($* [^>]*\)>.*/\1/p" \
        "$page")
    case $line in
    '' | *$'\n'*) fail "the page has not one command '$*'" ;;
    esac
    line=${line//\/run\/disk.sock/$sock}
    line=${line//\/dev\/nbd0/$device}
    line=${line//\/dev\/ublkb0/$device}
    read -r -a words <<<"${line/-n 0/-n ${device##*ublkb}}"
}

# Fails if they are not as the page has them.
commands_are_there ()
{
    local sock=S device=/dev/ublkb7 words

    from_page nbd-client -unix
    [ "${words[*]}" = "nbd-client -unix S /dev/ublkb7" ] ||
        fail "${words[*]}"
    from_page nbd-client -d
    [ "${words[*]}" = "nbd-client -d /dev/ublkb7" ] || fail "${words[*]}"
    from_page nbdublk
    [ "${words[*]}" = "nbdublk /dev/ublkb7 nbd+unix:///?socket=S" ] ||
        fail "${words[*]}"
    from_page ublk del
    [ "${words[*]}" = "ublk del -n 7" ] || fail "${words[*]}"
}

# has_kernel MODULE FILE: loads it if there is none.
has_kernel ()
{
    [ -e "$2" ] || modprobe "$1" 2>/dev/null || return 1
    [ -e "$2" ]
}

# Sets 'device' to one that nobody uses.
free_nbd ()
{
    local path

    for path in /sys/block/nbd*; do
        device=/dev/${path##*/}
        if [ ! -e "$path/pid" ] && [ -b "$device" ] &&
                [ "$(cat "$path/size")" -eq 0 ]; then
            return 0
        fi
    done
    return 1
}

free_ublk ()
{
    local number=0

    while [ -e "/dev/ublkc$number" ] || [ -e "/dev/ublkb$number" ]; do
        number=$((number + 1))
    done
    device=/dev/ublkb$number
}

has_size ()
{
    [ "$(blockdev --getsize64 "$device")" = "$1" ]
}

# try_device: reads and writes; then, without it, QEMU looks at the image.
try_device ()
{
    wait_for has_size "$(stat -c %s "$tmp/disk.raw")"
    cmp "$device" "$tmp/disk.raw" || fail "$device has other data"
    make_disk "$tmp/more" $((256 * 1024)) 4096 7
    dd if="$tmp/more" of="$device" bs=64k seek=17 conv=notrunc,fsync \
        status=none || fail "$device cannot be written to"
    cp "$tmp/disk.raw" "$tmp/expected"
    dd if="$tmp/more" of="$tmp/expected" bs=64k seek=17 conv=notrunc status=none
    cmp "$device" "$tmp/expected" || fail "$device has other data once written"
}

check_image ()
{
    stop_nbdkit
    qemu-img check -q "$tmp/disk.qcow2" || fail "the image is not clean"
    qemu-img compare -q -f raw -F qcow2 "$tmp/expected" "$tmp/disk.qcow2" ||
        fail "the image has other data"
}

start ()
{
    rm -f "$tmp/disk.qcow2" "$tmp/disk.raw"
    make_standard_image
    start_nbdkit --filter="$filter" file "$tmp/disk.qcow2"
}

with_nbd ()
{
    free_nbd || { echo "not run: nbd-client, all devices are in use"; return; }
    start
    from_page nbd-client -unix
    "${words[@]}" || fail "${words[*]}"
    from_page nbd-client -d
    cleanup_fn "${words[@]}"
    try_device
    "${words[@]}" || fail "${words[*]}"
    wait_for has_size 0
    check_image
    echo "ok: nbd-client"
}

with_ublk ()
{
    local client

    free_ublk
    start
    from_page nbdublk
    "${words[@]}" >"$tmp/nbdublk.log" 2>&1 &
    client=$!
    from_page ublk del
    cleanup_fn "${words[@]}"
    wait_for test -b "$device"
    try_device
    "${words[@]}" || fail "${words[*]}"
    wait "$client" || true
    check_image
    echo "ok: nbdublk"
}

commands_are_there
if [ "$(id -u)" -ne 0 ]; then
    echo "not run: devices, which need root"
    exit 0
fi
if ! has_kernel nbd /sys/block/nbd0; then
    echo "not run: nbd-client, this kernel has no nbd"
elif [ -z "$(type -P nbd-client)" ]; then
    echo "not run: nbd-client is not installed"
else
    with_nbd
fi
if ! has_kernel ublk_drv /dev/ublk-control; then
    echo "not run: nbdublk, this kernel has no ublk"
elif [ -z "$(type -P nbdublk)" ] || [ -z "$(type -P ublk)" ]; then
    echo "not run: nbdublk or ublk is not installed"
else
    with_ublk
fi
