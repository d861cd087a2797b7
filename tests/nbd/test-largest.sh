#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The largest images there may be, nearly all of which are holes: they open,
# and are written to, without more work than there is in the file.
# shellcheck source=luks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/luks.sh"

requires_plugin file
skip_if_instrumented "it is about memory and work"

# image KIND: sets $image.
image ()
{
    image=$tmp/$1.qcow2
    "$PYTHON" "$nbddir/costly_images.py" "$1" "$image" ||
        skip "this file system takes no file with large holes"
}

# The server has never had more than so many MiB.
peak_is ()
{
    local peak

    peak=$(awk '/^VmHWM:/ { print int ($2 / 1024) }' "/proc/$pid/status")
    echo "$peak MiB"
    [ "$peak" -le "$1" ] || fail "$peak MiB, more than $1"
}

# Processor time that the server has had.
cpu_ticks ()
{
    awk '{ print $14 + $15 }' "/proc/$pid/stat"
}

# io OPTION URI COMMAND...: what qemu-io finds is as it should be.
io ()
{
    local found option=$1 uri=$2

    shift 2
    found=$(qemu-io "$option" -f raw "${@/#/-c}" "$uri" 2>&1) || fail "$found"
    ! grep -qi 'failed\|error' <<< "$found" || fail "$found"
}

echo "64 TiB, not closed cleanly, and the last cluster is 1 TiB into the file"
image largest
last=$(((1 << 46) - 65536))
start_nbdkit --filter="$filter" file "$image"
io -n "$uri" "read -P 0x7a $last 64k" "read -P 0 0 64k" \
    "write -P 1 0 64k" "write -P 2 32T 64k" "write -P 3 $last 512" "flush"
io -n "$uri" "read -P 1 0 64k" "read -P 2 32T 64k" "read -P 3 $last 512" \
    "read -P 0x7a $((last + 512)) 1k"
peak_is 150
[ "$(cpu_ticks)" -le $((20 * $(getconf CLK_TCK))) ] || fail "it took long"
stop_nbdkit
qemu-img check -q "$image" || fail "what QEMU says of it"
rm "$image"

echo "65536 snapshots"
image snapshots
start_nbdkit --filter="$filter" file "$image"
listed=$("$PYTHON" "$nbddir/budget_client.py" lists "$sock" 1)
echo "$listed are listed"
# There is a limit of nbdkit, and one of libnbd.
[ "$listed" -ge 9000 ] || fail "that is not what there is"
for name in s0 s65535; do
    io -r "nbd:unix:$sock:exportname=snapshot/$name" "read -P 0x7a 0 64k"
done
peak_is 250
stop_nbdkit
rm "$image"

echo "a passphrase that takes 2^22 rounds to try"
encrypt 1M "$luks,encrypt.hash-alg=sha256"
find_header
# The first slot: active, so many iterations; the salt stays.
printf '\x00\xac\x71\xf3\x00\x40\x00\x00' |
    dd of="$image" bs=1 seek=$((header_at + 208)) conv=notrunc status=none
start_nbdkit --filter="$filter" file "$image" qcow2-passphrase=+"$secret"
nbdtool fails "$uri"
first=$(cpu_ticks)
nbdtool fails "$uri"
second=$(($(cpu_ticks) - first))
echo "$first ticks, then $second"
[ "$first" -le $((120 * $(getconf CLK_TCK))) ] || fail "it took long"
# What took over half a second is not done again for a while.
[ "$first" -lt $(($(getconf CLK_TCK) * 3 / 4)) ] ||
    [ "$second" -lt $((first / 3)) ] ||
    fail "the second client causes the same work again"
grep -q 'error: qcow2: .*no key slot' "$log" ||
    fail "another message: $(grep error: "$log")"
stop_nbdkit
