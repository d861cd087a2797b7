#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Opening an image for writing, reading from it and asking about it writes
# nothing: not a byte, not a time, whatever a writer would have to prepare.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

image=$tmp/disk.qcow2

probe ()
{
    nbdinfo "$uri" >/dev/null
    nbdinfo --list "$uri" >/dev/null
    nbdinfo --map "$uri" >/dev/null
    nbdtool read "$uri" 0 65536 >/dev/null
    # Connected for longer than an idle image waits.
    [ $# -eq 0 ] || { start_client f; sleep 6; finish_client; }
    # Nothing to make durable.
    writetool "$uri" f
}

# unchanged WHAT [probe's argument]: probed, it is what it was.
unchanged ()
{
    local what=$1 times

    shift
    cp "$image" "$tmp/before"
    times=$(stat -c '%s %b %y %z' "$image")
    start_nbdkit --filter="$filter" file "$image"
    probe "$@"
    stop_nbdkit
    cmp "$image" "$tmp/before" || fail "$what: it was written to"
    [ "$(stat -c '%s %b %y %z' "$image")" = "$times" ] ||
        fail "$what: it was touched"
}

new_image 64M
unchanged "an empty image" longer
qemu-io -f qcow2 -c 'write -q -P 1 1M 8M' "$image"
unchanged "data"
qemu-img snapshot -c one "$image"
qemu-img bitmap --add --enable "$image" bitmap
unchanged "snapshots and bitmaps"
qemu-img create -q -f qcow2 -o lazy_refcounts=on "$image" 64M
unchanged "lazy refcounts"
qemu-io -f qcow2 -c 'write -q -P 1 1M 8M' -c 'flush' -c 'abort' "$image" \
    >/dev/null 2>&1 || true
[ "$(od -An -tu1 -j 79 -N 1 "$image" | tr -d ' ')" = 1 ] ||
    broken "qemu-io left no dirty image"
unchanged "an image that was not closed"
qemu-img create -q -f qcow2 -o compat=0.10 "$image" 64M
unchanged "version 2"

echo "unknown autoclear bits"
qemu-img create -q -f qcow2 "$image" 64M
printf '\200' | dd of="$image" bs=1 seek=88 conv=notrunc status=none
unchanged "autoclear"
# A write clears them, so that the test means something.
start_nbdkit --filter="$filter" file "$image"
writetool "$uri" w:0:512:1
stop_nbdkit
[ "$(od -An -tu1 -j 88 -N 1 "$image" | tr -d ' ')" = 0 ] ||
    fail "a write did not clear an unknown autoclear bit"
qemu-img check -q "$image" || fail "not clean"
