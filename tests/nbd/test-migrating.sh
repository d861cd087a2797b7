#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The page for users of qemu-nbd and qemu-img: what it says does the same, does,
# and no option is forgotten.  migrating.py says how pairs are marked.
#
# EVERY=1 for all pairs; by default some of them.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"

every=${EVERY:-4}
requires_qemu
requires_libnbd
requires_plugin file
for name in cow exitlast exportname fua limit offset partition; do
    requires_filter "$name"
done
skip_if_instrumented "the programs of the examples are started by others"
# They run in other folders.
ctl=$(realpath "$top_builddir/tools/qcow2ctl/qcow2ctl")
case $filter in
*/*) filter=$(realpath "$filter") ;;
esac
[ -x "$ctl" ] || skip "qcow2ctl was not built"
"$ctl" --version | grep -q json=yes || skip "qcow2ctl was built without JSON"
"$ctl" --version | grep -q encryption=yes ||
    skip "qcow2ctl was built without encryption"
page=$top_srcdir/docs/nbdkit-qcow2-migrating.pod

migrating ()
{
    "$PYTHON" "$nbddir/migrating.py" "$@"
}

# planted WHAT TEXT COMMAND...: it must fail, and say TEXT.
planted ()
{
    local what=$1 text=$2

    shift 2
    ! "$@" >"$tmp/planted" 2>&1 || fail "nobody noticed: $what"
    grep -qF -e "$text" "$tmp/planted" ||
        { cat "$tmp/planted" >&2; fail "no '$text' for: $what"; }
}

echo "options"
migrating options "$page"
sed '/^=item B<-l>, B<--load-snapshot=>/d' "$page" >"$tmp/page.pod"
planted "an option" "not have: qemu-nbd --load-snapshot" \
        migrating options "$tmp/page.pod"
sed 's/^=item B<-r>, B<--repair>/=item B<-r>/' "$page" >"$tmp/page.pod"
sed -i 's/^=item B<--merge>/=item B<--emerge>/' "$tmp/page.pod"
planted "an option of qemu-img" "not have: qemu-img bitmap --merge" \
        migrating options "$tmp/page.pod"

echo "pairs"
mkdir "$tmp/fixtures" "$tmp/fixtures/psk"
"$PYTHON" - "$tmp/fixtures/disk.raw" <<'END'
import struct
import sys
from build import pattern
disk = bytearray(pattern(4 << 20, 65536, 3))
disk[:256 << 10] = b"data" * (64 << 10)
disk[1 << 20:5 << 18] = bytes(256 << 10)
disk[512:66048] = b"A" * 65536
disk[446:462] = struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3,
                            1024, 256)
disk[462:512] = bytes(48) + b"\x55\xaa"
open(sys.argv[1], "wb").write(disk)
END
cd "$tmp/fixtures"
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
qemu-img snapshot -c before disk.qcow2
cp disk.qcow2 marked.qcow2
qemu-img bitmap --add -g 64k marked.qcow2 changed
qemu-img bitmap --add -g 64k marked.qcow2 kept
qemu-io -f qcow2 -c 'write -q -P 9 1M 200k' marked.qcow2
qemu-io -f qcow2 -c 'write -q -P 9 3M 200k' disk.qcow2
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 overlay.qcow2
qemu-io -f qcow2 -c 'write -q -P 8 2M 64k' overlay.qcow2
printf 'secret' >passphrase
"$ctl" create -q -o encrypt.format=luks,encrypt.iter-time=10 \
    --passphrase +passphrase luks.qcow2 4M
echo "alice:$(printf '5%.0s' {1..64})" >psk/keys.psk
cd "$OLDPWD"
migrating try "$page" "$filter" "$ctl" "$tmp" "$every"

# It bites.
sed 's/offset=1M$/offset=512k/; s/snapshot apply disk.qcow2 before/&2/
     s/qcow2-discard=ignore$/qcow2-discard=unmap/' "$page" >"$tmp/page.pod"
planted "another offset" "the size differs" \
        migrating try "$tmp/page.pod" "$filter" "$ctl" "$tmp" offset=512k
planted "a trim that is not ignored" "differs" \
        migrating try "$tmp/page.pod" "$filter" "$ctl" "$tmp" --discard=ignore
planted "a command that fails" "the exit status differs" \
        migrating try "$tmp/page.pod" "$filter" "$ctl" "$tmp" before2
