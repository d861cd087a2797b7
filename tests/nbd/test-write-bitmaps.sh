#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Bitmaps of images that are written to: QEMU reads the disabled ones
# unchanged; a client sees the present disk through one.  QEMU refuses enabled
# ones that we have not kept up, and reads exact bits of those that we have; of
# durable ones also after the server was killed.
# shellcheck source=writing.sh source-path=SCRIPTDIR
source "$(dirname "$0")/writing.sh"

image=$tmp/disk.qcow2

requires nbdinfo --version

# bits_of IMAGE NAME: QEMU's map of the bitmap, lines "offset length bit".
bits_of ()
{
    nbdinfo --map="qemu:dirty-bitmap:$2" -- \
        [ qemu-nbd -r -f qcow2 -B "$2" "$1" ] | awk '{ print $1, $2, $3 }'
}

# byte_at URI OFFSET: as a number.
byte_at ()
{
    nbdtool read "$1" "$2" 1 | od -An -tu1 | tr -d ' '
}

echo "bitmaps as QEMU has made them"
new_image 64M
qemu-img bitmap --add -g 64k "$image" frozen
qemu-img bitmap --add -g 512 "$image" empty
writes=(-c 'write -q -P 1 1M 192k' -c 'write -q -P 2 40M 64k')
qemu-io -f qcow2 "${writes[@]}" "$image"
qemu-io -f raw "${writes[@]}" "$tmp/disk.raw"
qemu-img bitmap --disable "$image" frozen
qemu-img bitmap --disable "$image" empty
qemu-img bitmap --add -g 64k "$image" enabled
before=$(bits_of "$image" frozen)
[ "$(grep -c ' 1$' <<<"$before")" -eq 2 ] || fail "QEMU's bits: $before"

echo "a client writes, another one looks through a bitmap"
start_nbdkit --filter="$filter" file "$image" qcow2-bitmaps=invalidate
view=$(export_uri bitmap/frozen)
[ "$(byte_at "$view" $((1 << 20)))" = 1 ] || fail "the view before"
nbdtool map "$view" >"$tmp/map"
writetool "$uri" --raw "$tmp/disk.raw" w:1M:64k:7 w:8M:128k:8 z:40M:64k
[ "$(byte_at "$view" $((1 << 20)))" = 7 ] || fail "the view is not of the disk of now"
[ "$(byte_at "$view" $((8 << 20)))" = 0 ] || fail "the view shows more than the bitmap"
# The same parts; one of them is zeros now, and no hole.
sed "s/^$((40 << 20)) 65536 0\$/$((40 << 20)) 65536 2/" "$tmp/map" > "$tmp/want"
! cmp -s "$tmp/map" "$tmp/want" || { cat "$tmp/map"; fail "40M is not marked"; }
nbdtool map "$view" | cmp - "$tmp/want" || fail "the map has changed"
nbdtool fails "$(export_uri bitmap/enabled)" >/dev/null
stop_nbdkit
check_image

echo "and QEMU finds them as they were"
after=$(bits_of "$image" frozen)
[ "$after" = "$before" ] || fail "the bits have changed: $after"
qemu-img info "$image" >"$tmp/info"
[ "$(grep -c 'in-use' "$tmp/info")" -eq 1 ] ||
    fail "not only the enabled one is in use: $(cat "$tmp/info")"
qemu-img bitmap --merge frozen "$image" empty
[ "$(bits_of "$image" empty | awk '$3 == 1 { n += $2 } END { print n }')" \
    -eq $((256 << 10)) ] || fail "merging"
qemu-img bitmap --clear "$image" frozen
qemu-img bitmap --enable "$image" frozen
if qemu-img bitmap --enable "$image" enabled 2>/dev/null; then
    fail "QEMU takes the bitmap that was not kept up to date"
fi
qemu-img bitmap --remove "$image" enabled
check_image

echo "bits in a cluster that the disk has, too: it is not written to"
new_image 64M
qemu-img bitmap --add -g 512 "$image" enabled
qemu-io -f qcow2 -c 'write -q -P 1 1M 64k' "$image"
qemu-io -f raw -c 'write -q -P 1 1M 64k' "$tmp/disk.raw"
"$PYTHON" - "$image" <<'END'
import sys
from struct import pack, unpack
with open(sys.argv[1], "r+b") as file:
    image = file.read()

    def get(at):
        return unpack(">Q", image[at:at + 8])[0] & 0xfffffffffffe00

    def put(at, form, value):
        file.seek(at)
        file.write(pack(form, value))

    table = get(get(image.index(pack(">I", 0x23852875)) + 24))
    bits, block = get(table), get(get(48))
    entry = get(get(40)) + 8 * 16       # of an L2 table
    data = get(entry)
    put(table, ">Q", data)
    put(entry, ">Q", data)              # not COPIED
    put(block + 2 * (data >> 16), ">H", 2)
    put(block + 2 * (bits >> 16), ">H", 0)
END
start_nbdkit --filter="$filter" file "$image" qcow2-bitmaps=durable
writetool "$uri" --raw "$tmp/disk.raw" w:8M:64k:7 w:40M:64k:8
has_logged "bitmap 'enabled' is marked as in use.*shared"
stop_nbdkit
check_image

# ones IMAGE NAME: how many bytes of the disk have their bit set.
ones ()
{
    bits_of "$1" "$2" | awk '$3 == 1 { n += $2 } END { print n + 0 }'
}

none_in_use ()
{
    qemu-img info "$image" >"$tmp/info"
    ! grep in-use "$tmp/info" || fail "a bitmap is in use $1"
}

for mode in lazy durable; do
    echo "$mode: exact for QEMU when the last client has left"
    new_image 64M
    qemu-img bitmap --add -g 64k "$image" enabled
    qemu-img bitmap --add -g 512 "$image" fine
    start_nbdkit --filter="$filter" file "$image" qcow2-bitmaps=$mode
    writetool "$uri" --raw "$tmp/disk.raw" w:1M:64k:7 w:8M:1k:8 z:40M:128k
    stop_nbdkit
    check_image
    none_in_use "after the end"
    [ "$(bits_of "$image" enabled |
        awk '$3 == 1 { printf "%d+%d ", $1, $2 }')" = \
        "1048576+65536 8388608+65536 41943040+131072 " ] ||
        fail "coarse: $(bits_of "$image" enabled)"
    [ "$(bits_of "$image" fine |
        awk '$3 == 1 { printf "%d+%d ", $1, $2 }')" = \
        "1048576+65536 8388608+1024 41943040+131072 " ] ||
        fail "fine: $(bits_of "$image" fine)"

    qemu-io -f qcow2 -c 'write -q -P 9 20M 64k' "$image"
    qemu-io -f raw -c 'write -q -P 9 20M 64k' "$tmp/disk.raw"
    start_nbdkit --filter="$filter" file "$image" qcow2-bitmaps=$mode
    writetool "$uri" --raw "$tmp/disk.raw" w:30M:64k:7
    stop_nbdkit
    check_image
    [ "$(ones "$image" enabled)" -eq $((384 << 10)) ] ||
        fail "after QEMU has written: $(bits_of "$image" enabled)"

    start_nbdkit --filter="$filter" file "$image" qcow2-bitmaps=$mode
    writetool "$uri" --raw "$tmp/disk.raw" w:50M:64k:7
    kill_nbdkit
    none_in_use "although the last client had left"
    [ "$(ones "$image" enabled)" -eq $((448 << 10)) ] ||
        fail "after a kill: $(bits_of "$image" enabled)"
done

# killed MODE: the server is killed while a client is there, which has written
# 64 KiB at 5M.
killed ()
{
    : >"$tmp/written"               # not what the last one has said
    mkfifo "$tmp/commands"
    start_nbdkit --filter="$filter" file "$image" qcow2-bitmaps="$1"
    qemu-io -f raw "$uri" <"$tmp/commands" >"$tmp/written" 2>&1 &
    client=$!
    exec 3>"$tmp/commands"
    echo 'write -P 3 5M 64k' >&3
    for ((i = 0; i < 300; ++i)); do
        ! grep -q 'wrote 65536' "$tmp/written" || break
        sleep 0.1
    done
    grep -q 'wrote 65536' "$tmp/written" || fail "$(cat "$tmp/written")"
    kill_nbdkit
    exec 3>&-
    wait "$client" || :
    rm "$tmp/commands"
}

echo "killed in the middle: lazy ones are in use, durable ones true"
killed lazy
qemu-img info "$image" >"$tmp/info"
[ "$(grep -c 'in-use' "$tmp/info")" -eq 2 ] || fail "$(cat "$tmp/info")"
qemu-img bitmap --remove "$image" enabled
qemu-img bitmap --remove "$image" fine
qemu-img bitmap --add -g 64k "$image" enabled
qemu-img bitmap --add -g 512 "$image" fine
killed durable
none_in_use "after a kill"
qemu-img check -q "$image" || [ $? -eq 3 ] || fail "check after a kill"
for name in enabled fine; do
    bits_of "$image" "$name" >"$tmp/bits"
    # The zone of 4 MiB, and nothing else.
    [ "$(awk '$3 == 1 { printf "%d+%d ", $1, $2 }' "$tmp/bits")" = \
        "4194304+4194304 " ] || fail "$name after a kill: $(cat "$tmp/bits")"
done

echo "and QEMU goes on with them, and we after it"
qemu-io -f qcow2 -c 'write -q -P 9 20M 64k' "$image"
none_in_use "after QEMU"
[ "$(ones "$image" enabled)" -eq $(((4 << 20) + (64 << 10))) ] ||
    fail "QEMU's: $(bits_of "$image" enabled)"
killed durable
[ "$(ones "$image" fine)" -eq $(((4 << 20) + (64 << 10))) ] ||
    fail "the second kill: $(bits_of "$image" fine)"
