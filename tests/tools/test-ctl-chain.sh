#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Images that stand on other files: qcow2ctl's map and measure of chains, data
# files and encrypted images are qemu-img's, info --chain lists the same files,
# and nothing is opened that was not allowed.
# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"

requires_qemu
requires_program jq strace
has_json || skip "qcow2ctl was built without jansson"

cd "$tmp"
compare=("$PYTHON" "$toolsdir/compare.py" "$ctl")

# A raw base that is shorter, with a hole; two overlays of other clusters.
truncate -s 3M base.raw
head -c 1M /dev/urandom | dd of=base.raw bs=64k seek=8 conv=notrunc \
                             status=none
qemu-img create -q -f qcow2 -b base.raw -F raw -o cluster_size=64k \
         middle.qcow2 5M
qemu-io -f qcow2 -c 'write 0 200k' -c 'write -z 1M 128k' \
        -c 'write -c 4M 64k' middle.qcow2 > /dev/null
qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 \
         -o cluster_size=128k,extended_l2=on top.qcow2 8M
qemu-io -f qcow2 -c 'write 100k 40k' -c 'write -z 3M 128k' \
        -c 'write 7M 1M' top.qcow2 > /dev/null
"${compare[@]}" map --follow=. middle.qcow2 top.qcow2
"${compare[@]}" measure --follow=. middle.qcow2 top.qcow2
"${compare[@]}" map --backing=middle.qcow2 --backing=base.raw top.qcow2

# A data file.
qemu-img create -q -f qcow2 -o data_file=data.raw with.qcow2 4M
qemu-io -f qcow2 -c 'write 1M 128k' with.qcow2 > /dev/null
"${compare[@]}" info with.qcow2 top.qcow2 middle.qcow2
"${compare[@]}" map --data-file=data.raw with.qcow2
"${compare[@]}" check with.qcow2 top.qcow2 middle.qcow2
works map with.qcow2            # the tables alone will do

# Without a file it is not known what is zeros: what a bitmap marks is data, and
# what differs cannot be told.
qemu-img bitmap --add with.qcow2 b
qemu-io -f qcow2 -c 'write -q -P 5 0 64k' with.qcow2
works --output json map --bitmap b with.qcow2
jq -e '.[0] | .data and (.zero | not) and .length == 65536' "$out" > /dev/null ||
    { cat "$out" >&2; fail "without the data file, data is taken for zeros"; }
qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 marked.qcow2
qemu-img bitmap --add marked.qcow2 b
qemu-io -f qcow2 -c 'write -q -P 5 0 64k' marked.qcow2
works empty -q --follow . marked.qcow2
qemu-img snapshot -c a marked.qcow2
qemu-io -f qcow2 -c 'write -q -z 0 64k' marked.qcow2
fails 1 'cannot be told what differs.*--backing' map --diff a.. marked.qcow2
works --output json map --diff a.. --follow . marked.qcow2
jq -e '.[0] | .present and .zero and .length == 65536' "$out" > /dev/null ||
    { cat "$out" >&2; fail "zeros over the backing file are no difference"; }

# The chain, as QEMU lists it.
theirs=$(qemu-img info --output json --backing-chain top.qcow2 |
             jq -c '[.[] | [.format, ."virtual-size", ."cluster-size"]]')
works --output json info --chain --follow . top.qcow2
cp "$out" chain.json
works info -f qcow2 --output=json --backing-chain --follow . top.qcow2
cmp -s "$out" chain.json || fail "--backing-chain is not --chain"
ours=$(jq -c '[.[] | [.format, ."virtual-size", ."cluster-size"]]' "$out")
[ "$ours" = "$theirs" ] || fail "the chain is $ours, QEMU's is $theirs"

# One that comes back to itself.
qemu-img create -q -f qcow2 -u -b b.qcow2 -F qcow2 a.qcow2 1M
qemu-img create -q -f qcow2 -u -b a.qcow2 -F qcow2 b.qcow2 1M
fails 1 'its own backing file|already in the chain' info --chain --follow . \
      a.qcow2
fails 1 '(its own|already in use)' map --follow . a.qcow2

# Encrypted: info and check need no passphrase, map does.
printf 'secret' > passphrase
qemu-img create -q -f qcow2 --object secret,id=s,file=passphrase \
         -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \
         luks.qcow2 1M || skip "qemu-img cannot encrypt"
qemu-img create -q -f qcow2 --object secret,id=s,file=passphrase \
         -o "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10" \
         -o "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv" \
         -o "encrypt.ivgen-hash-alg=sha256" essiv.qcow2 1M
"${compare[@]}" info luks.qcow2 essiv.qcow2
works check luks.qcow2
fails 1 'give its passphrase with --passphrase' map luks.qcow2
if "$ctl" --version | grep -q encryption=yes; then
    works map --passphrase +passphrase luks.qcow2
    fails 1 'check --passphrase' map --passphrase wrong luks.qcow2
    works map --passphrase -7 luks.qcow2 7< passphrase
    fails 5 'cannot be opened: No such file' map --passphrase +none luks.qcow2
    "$PYTHON" "$toolsdir/ask.py" "$(cat passphrase)" \
              "$ctl" map --passphrase - luks.qcow2
fi

# A path that is not absolute begins where there is no folder any more.
mkdir gone
(cd gone && rmdir ../gone &&
     fails 5 'x: the current directory: No such' map --backing x \
           "$tmp/top.qcow2")

# A sanitizer's look for leaks is in strace's way.
[ -z "$instrumented" ] || exit 0

# Nothing but the image is opened without a word that allows it.
for command in info 'info -U' check map; do
    # shellcheck disable=SC2086
    strace -f -e trace=open,openat,openat2 -o trace "$ctl" $command top.qcow2 \
           > /dev/null 2>&1 || skip "strace does not work here"
    grep -q 'top\.qcow2' trace || fail "the image is not in the trace"
    ! grep -E 'middle\.qcow2|base\.raw' trace ||
        fail "$command opens what the image names"
done
echo "ok"
