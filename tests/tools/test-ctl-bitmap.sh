#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl bitmap add, remove, clear, enable, disable, merge: QEMU agrees with
# each step.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program qemu-io
requires_program jq

img=$tmp/disk.qcow2

# Name, granularity and flags of each, by QEMU.
bitmaps ()
{
    qemu-img info --output=json "$img" |
        jq -r '."format-specific".data.bitmaps // [] | .[] |
               "\(.name) \(.granularity) \(.flags | join ("+"))"' |
        paste -sd ,
}

# are TEXT: that is what there is, and the image is clean.
are ()
{
    local found

    qemu-img check -q "$img" || fail "qemu-img check of $img"
    found=$(bitmaps)
    [ "$found" = "$1" ] || fail "there are '$found', not '$1'"
}

# marked NAME: bytes of the disk that it marks, by QEMU.
marked ()
{
    qcow2_map=$("$ctl" map --bitmap "$1" --output json "$img")
    jq '[.[] | select(.present) | .length] | add // 0' <<< "$qcow2_map"
}

qemu-img create -q -f qcow2 "$img" 16M
works bitmap add "$img" a
works bitmap add -g 4k --disabled "$img" 'b c'
are 'a 65536 auto,b c 4096 '
qemu-io -c 'write -q 0 10k' -c 'write -q 1M 64k' "$img"
are 'a 65536 auto,b c 4096 '
works bitmap merge "$img" 'b c' a
works bitmap disable "$img" a
works bitmap enable "$img" 'b c'
are 'a 65536 ,b c 4096 auto'
if has_json; then
    [ "$(marked 'b c')" = 131072 ] || fail "'b c' marks $(marked 'b c') bytes"
fi
works bitmap clear "$img" a
if has_json; then
    [ "$(marked a)" = 0 ] || fail "a marks $(marked a) bytes"
fi

# From another image.
qemu-img create -q -f qcow2 "$tmp/other.qcow2" 16M
qemu-img bitmap --add -g 512 "$tmp/other.qcow2" fine
qemu-io -c 'write -q 8M 512' "$tmp/other.qcow2"
works bitmap merge -b "$tmp/other.qcow2" -F qcow2 "$img" a fine
if has_json; then
    [ "$(marked a)" = 65536 ] || fail "a marks $(marked a) bytes"
fi
fails 5 "no bitmap with the name 'none'" \
      bitmap merge -b "$tmp/other.qcow2" "$img" a none
fails 1 "only a qcow2 image has bitmaps" \
      bitmap merge -b "$tmp/other.qcow2" -F raw "$img" a fine
fails 1 'is for --source-file' bitmap merge -F qcow2 "$img" a 'b c'

# What cannot be.
fails 5 "no bitmap with the name 'x'" bitmap remove "$img" x
fails 5 "the name 'a' already" bitmap add "$img" a
fails 1 'not 3000' bitmap add -g 3000 "$img" x
fails 1 'granularity' bitmap add -g 0 "$img" x
fails 1 'which bitmap' bitmap remove "$img"
fails 1 'without a name' bitmap remove --broken "$img" a
fails 1 'is for --broken' bitmap remove --dry-run "$img" a
are 'a 65536 ,b c 4096 auto'
qemu-img create -q -f qcow2 -o compat=0.10 "$tmp/old.qcow2" 1M
fails 1 'version 2' bitmap add "$tmp/old.qcow2" a

# One that QEMU has left in use: the flags are at byte 12 of the first entry.
dir=$(od -An -v -t x1 "$img" -N 65536 | tr -d ' \n' |
          awk '{ i = index($0, "2385287500000018")
                 print substr($0, i + 16 + 32, 16) }')
entry=$((16#$dir))
printf '\003' | dd of="$img" bs=1 seek=$((entry + 15)) conv=notrunc status=none
fails 1 "can only be removed: it is marked as in use" bitmap enable "$img" a

# One that is broken: QEMU does not open the image any more.
printf '\017' | dd of="$img" bs=1 seek=$((entry + 15)) conv=notrunc status=none
! qemu-img info "$img" > /dev/null 2>&1 || fail "QEMU opens it"
fails 1 'bitmap remove --broken' bitmap add "$img" x
works bitmap remove --broken --dry-run "$img"
grep -q 'unknown flags' "$out" || fail "--dry-run does not say why"
! qemu-img info "$img" > /dev/null 2>&1 || fail "QEMU opens it"
works bitmap remove --broken "$img"
grep -q 'Removed: 1;' "$out" || fail "it does not say how many"
[ "$(bitmaps)" = 'b c 4096 auto' ] || fail "there are $(bitmaps)"
works bitmap remove --broken "$img"
grep -q 'No bitmap is broken' "$out" || fail "it finds another one"
works check --repair leaks "$img"
are 'b c 4096 auto'
works bitmap remove "$img" 'b c'
are ''
echo "ok"
