#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients and images can neither forge lines of the log nor fill it: after some
# lines of a kind further ones are counted, and no other line is lost.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

requires_plugin pattern
cd "$images"
lines=20                # of a kind, as in filter/lines.c

# connects NAME...: connections that must be refused; names may have Python's
# escapes.
connects ()
{
    "$PYTHON" - "$sock" "$@" <<'END'
import os
import sys
import nbd
for text in sys.argv[2:]:
    handle = nbd.NBD()
    handle.set_export_name(
        os.fsdecode(text.encode().decode("unicode_escape").encode("latin-1")))
    try:
        handle.connect_unix(sys.argv[1])
    except nbd.Error:
        continue
    raise SystemExit(f"{text!r} was accepted")
END
}

# reads_badly NUMBER OFFSET: NUMBER reads that fail.
reads_badly ()
{
    "$PYTHON" - "$sock" "$@" <<'END'
import sys
import nbd
handle = nbd.NBD()
handle.connect_unix(sys.argv[1])
for i in range(int(sys.argv[2])):
    try:
        handle.pread(512, int(sys.argv[3]))
    except nbd.Error:
        continue
    raise SystemExit("a read of a broken table worked")
handle.shutdown()
END
}

# unforged: no line of the log begins like the injected text, and none of ours
# has a control character.
unforged ()
{
    ! grep -a -n '^nbdkit: forged\|^forged' "$log" >&2 || fail "a forged line"
    ! grep -a 'qcow2: ' "$log" | LC_ALL=C grep -a -n '[[:cntrl:]]' >&2 ||
        fail "a control character"
    grep -a -q 'qcow2: .*forged' "$log" || fail "no line: $(cat "$log")"
}

echo "names of exports, where it is not known what they mean"
start_nbdkit --filter="$filter" pattern size=1M
connects 'disk\nforged: all is well' 'a\rnbdkit: forged' '\x1b[2Jforged' \
    '\xc2\x9bforged' 'long\n'"$(printf 'forged%.0s' {1..600})"
unforged
awk 'length > 2000 { exit 1 }' "$log" || fail "a very long line"
connects 'a\xc3\xbcb'
grep -q $'qcow2: a\xc3\xbcb: ' "$log" || fail "UTF-8 is escaped: $(cat "$log")"
stop_nbdkit

echo "names of files in a folder"
mkdir folder
echo nothing >"folder/"$'a\nforged: b'
start_nbdkit --filter="$filter" file dir=folder
connects 'a\nforged: b' 'a\nforged: b/snapshot/x\nforged'
nbdinfo --list "nbd+unix:///?socket=$sock" >/dev/null 2>&1 || true
unforged
stop_nbdkit
rm -r folder

echo "names of views"
new_image 1M
mv "$tmp/disk.qcow2" one.qcow2
start_nbdkit --filter="$filter" file one.qcow2
connects 'snapshot/x\nforged' 'diff/x\nforged..' 'bitmap/\rforged'
unforged
stop_nbdkit

echo "names in images"
truncate -s 1M base.raw
qemu-img create -q -f qcow2 -b base.raw -F raw named.qcow2 1M
set_names named.qcow2 --backing 'x\nforged' --format raw
start_nbdkit --filter="$filter" file named.qcow2
connects ''
unforged
stop_nbdkit
set_names named.qcow2 --backing 'base.raw' --format 'r\nforged'
start_nbdkit --filter="$filter" file named.qcow2 qcow2-follow=.
connects ''
unforged
stop_nbdkit

echo "a flood of errors: the first of them, then how many there were"
qemu-img create -q -f qcow2 -o cluster_size=64k broken.qcow2 1G
"$PYTHON" - broken.qcow2 <<'END'
import struct
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(40)
    l1 = struct.unpack(">Q", file.read(8))[0]
    file.seek(l1)
    file.write(struct.pack(">Q", 1 << 63 | 0x10200))
END
start_nbdkit -r --filter="$filter" file broken.qcow2
reads_badly 500 0
reads_badly 500 65536
number=$(grep -c 'broken.qcow2: .*L2 table' "$log")
[ "$number" = $lines ] || fail "$number lines for 1000 errors"
[ "$(grep -c 'more messages like these are only counted' "$log")" = 1 ] ||
    fail "not said"

echo "nothing else is lost in it"
connects 'snapshot/none'
grep -q 'snapshot/none: ' "$log" || fail "lost: $(cat "$log")"

echo "what is left out is summed up in the end"
stop_nbdkit
grep -q "broken.qcow2: $((1000 - lines)) more messages like these were left out; the last one: .*L2 table" \
    "$log" || fail "no sum: $(cat "$log")"

echo "names that are made up do not make more lines"
start_nbdkit --filter="$filter" pattern size=1M
"$PYTHON" - "$sock" <<'END'
import sys
import nbd
for i in range(1200):
    handle = nbd.NBD()
    handle.set_export_name(f"name-{i}")
    try:
        handle.connect_unix(sys.argv[1])
    except nbd.Error:
        pass
END
said=$(grep -c 'qcow2: name-' "$log")
[ "$said" -le 600 ] || fail "$said lines for 1200 names"
stop_nbdkit
left_out=$(sed -n 's/.* other lines: \([0-9]*\) more messages.*/\1/p' "$log")
[ $((left_out + said)) -ge 1200 ] || fail "$said and $left_out of 1200"
