#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl create of encrypted images, and key add, change, list, remove: QEMU
# and cryptsetup open what they should, and nothing else.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program qemu-io
"$ctl" --version | grep -q encryption=yes || skip "built without nettle"

img=$tmp/disk.qcow2
printf one > "$tmp/one"
printf two > "$tmp/two"
printf three > "$tmp/three"

# opens PASSPHRASE [METHOD]: QEMU, and the disk reads as it was written.
opens ()
{
    qemu-io --object "secret,id=s,data=$1" --image-opts \
        "driver=qcow2,encrypt.key-secret=s,file.filename=$img" \
        -c 'read -P 7 64k 64k' > "$tmp/io" 2>&1 &&
        ! grep -q 'verification failed' "$tmp/io"
}

write ()
{
    qemu-io --object secret,id=s,data=one --image-opts \
        "driver=qcow2,encrypt.key-secret=s,file.filename=$img" \
        -c 'read -q -P 0 0 1M' -c 'write -q -P 7 64k 64k' ||
        fail "QEMU cannot write to what was made"
}

fast=encrypt.iter-time=10
for options in encrypt.format=luks,$fast encrypt.format=aes \
    encrypt.format=luks,encrypt.cipher-alg=serpent-256,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.hash-alg=sha1,$fast \
    encrypt.format=luks,compat=0.10,cluster_size=4k,$fast \
    encrypt.format=luks,preallocation=metadata,$fast
do
    rm -f "$img"
    works create -q -o "$options" --passphrase "+$tmp/one" "$img" 4M
    write
    opens one || fail "$options: QEMU does not read it"
done

rm -f "$img"
works create -q -o "encrypt.format=luks,$fast" --passphrase "+$tmp/one" "$img" 4M
write
works key add --iter-time 10 --passphrase "+$tmp/one" \
    --new-passphrase "+$tmp/two" "$img"
grep -q '^Key slot 1 is active$' "$out" || fail "it does not say which slot"
opens one || fail "the passphrase of before does not open it"
opens two || fail "the new passphrase does not open it"
works key change --iter-time 10 --passphrase "+$tmp/two" \
    --new-passphrase "+$tmp/three" "$img"
opens one || fail "another passphrase has been removed"
opens three || fail "the new passphrase does not open it"
! opens two || fail "the old passphrase opens it"
works key list "$img"
[ "$(awk '$2 == "yes" { print $1 }' "$out" | paste -sd ,)" = 0,2 ] ||
    { cat "$out" >&2; fail "other slots"; }
works key remove --slot 0 "$img"
! opens one || fail "a passphrase that was removed opens it"
opens three || fail "another one was removed"
if has_json; then
    works --output json key list "$img"
    jq -e '.slots | map(select(.active)) | length == 1' "$out" > /dev/null ||
        fail "the list in JSON"
fi

fails 1 'no key slot would be left.*--force' key remove \
    --passphrase "+$tmp/three" "$img"
fails 1 'passphrase' key add --passphrase "+$tmp/one" \
    --new-passphrase "+$tmp/two" "$img"
fails 1 'is the old one' key change --passphrase "+$tmp/three" \
    --new-passphrase "+$tmp/three" "$img"
fails 1 'missing' key add --new-passphrase "+$tmp/two" "$img"
fails 1 'either --slot or' key remove "$img"
fails 1 '0 to 7' key remove --slot 8 "$img"
fails 5 'not in use' key remove --slot 5 "$img"
opens three || fail "a refusal has changed something"
works key remove --force --passphrase "+$tmp/three" "$img"
! opens three || fail "it opens although no key is left"

rm -f "$img"
fails 1 'needs --passphrase' create -o encrypt.format=luks "$img" 1M
fails 1 'is for an encrypted image' create --passphrase "+$tmp/one" "$img" 1M
fails 1 'object of QEMU' create -o encrypt.key-secret=s "$img" 1M
fails 1 "no cipher 'rot13'" create -o encrypt.format=luks,encrypt.cipher-alg=rot13 \
    --passphrase "+$tmp/one" "$img" 1M
[ ! -e "$img" ] || fail "a failure leaves a file"
works create -q "$img" 1M
fails 1 'not encrypted with LUKS' key list "$img"
fails 1 'not encrypted with LUKS' key add --passphrase "+$tmp/one" \
    --new-passphrase "+$tmp/two" "$img"

# What is somebody else's is not removed: see sources.c.
echo "a file that somebody else has filled meanwhile stays"
for ((i = 0; i < 10; i++)); do
    rm -f "$tmp/race"
    for ((k = 0; k < 3; k++)); do
        "$ctl" create -q "$tmp/race" 1M > /dev/null 2>&1 &
    done
    wait
    [ -e "$tmp/race" ] || fail "three at once, and there is no image"
    qemu-img check -q "$tmp/race" || fail "three at once, and no good image"
done

# Where the disk is, and how large a copy would be, needs the passphrase: both
# say what QEMU says.
echo "map and measure"
enc=$tmp/enc.qcow2
for format in luks,encrypt.iter-time=10 aes; do
    rm -f "$enc"
    qemu-img create -q -f qcow2 --object secret,id=s,data=one \
             -o "encrypt.format=$format,encrypt.key-secret=s" "$enc" 8M
    of=(--object 'secret,id=s,data=one' --image-opts
        "driver=qcow2,encrypt.key-secret=s,file.filename=$enc")
    qemu-io "${of[@]}" -c 'write -q -P 1 0 256k' -c 'write -q -z 1M 128k' \
            -c 'write -q -P 3 3M 64k'
    if command -v jq > /dev/null && "$ctl" --version | grep -q json=yes; then
        parts='[.[] | [.start, .length, .zero, .data, .offset]]'
        works --output json map --passphrase "+$tmp/one" "$enc"
        [ "$(jq -c "$parts" "$out")" = \
          "$(qemu-img map --output json "${of[@]}" | jq -c "$parts")" ] ||
            { cat "$out"; fail "$format: map is not what QEMU says"; }
        works --output json measure --passphrase "+$tmp/one" "$enc"
        [ "$(jq -cS . "$out")" = \
          "$(qemu-img measure --output json -O qcow2 "${of[@]}" | jq -cS .)" \
        ] || { cat "$out"; fail "$format: measure is not what QEMU says"; }
    fi
    fails 1 'passphrase' map "$enc" < /dev/null
done
