#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# openssl decrypts our writes, with a key that for LUKS comes from cryptsetup;
# so the test depends on neither QEMU nor nettle.
# shellcheck source=luks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/luks.sh"

requires_program openssl cryptsetup
make_disk "$tmp/pattern" $((3 * 1024 * 1024 + 512)) 16384

# written OPTIONS: an image to which we have written twice everywhere.
written ()
{
    encrypt $((3 * 1024 * 1024 + 512)) "$1"
    cp "$tmp/pattern" "$raw"
    # shellcheck disable=SC2119
    serve_encrypted
    nbdcopy "$raw" "$uri"
    writetool "$uri" --raw "$raw" w:1:1:51 w:1000:100k:52 z:300k:1000 \
        w:299k:1026:53 w:1M:300k:54 w:2000001:511:55
    stop_nbdkit
    judged
    concealed
}

decrypts ()             # MODE KEY
{
    local file=$image

    [ ! -e "$data" ] || file=$data
    "$PYTHON" "$nbddir/luks_openssl.py" "$image" "$file" "$raw" "$1" "$2" ||
        fail "openssl finds something else"
}

# volume_key: the key of the image's LUKS header, in hexadecimal.
volume_key ()
{
    find_header
    tail -c +$((header_at + 1)) "$image" 2>/dev/null |
        head -c "$header_bytes" >"$tmp/header" || :
    cryptsetup luksDump --batch-mode --dump-volume-key --key-file "$secret" \
        "$tmp/header" |
        sed -n '/^MK dump:/,$ { s/^MK dump://; s/[^0-9a-f]//g; p }' |
        tr -d '\n'
}

for options in compat=0.10 cluster_size=512 data_file="$data"; do
    echo "legacy, $options"
    written "$legacy,$options"
    # 13 bytes, and three of zero.
    decrypts legacy "$(od -An -v -t x1 "$secret" | tr -d ' \n')000000"
done

# luks CIPHER MODE IV[:HASH] OPTIONS
luks ()
{
    local iv_hash=''

    echo "$*"
    case $3 in
    *:*) iv_hash=,encrypt.ivgen-hash-alg=${3#*:} ;;
    esac
    written "$luks,encrypt.cipher-alg=$1,encrypt.cipher-mode=$2,encrypt.ivgen-alg=${3%:*}$iv_hash,$4"
    decrypts "$2-$3" "$(volume_key)"
}

luks aes-256 xts plain64 cluster_size=4k
luks aes-128 xts plain64 compat=0.10
luks aes-256 xts plain64 data_file="$data"
luks aes-256 cbc plain64 cluster_size=512
luks aes-128 cbc essiv:sha256 cluster_size=64k
luks aes-256 ctr plain64 cluster_size=2M

echo "what looks for plaintext finds it"
qemu-img convert -f raw -O qcow2 "$raw" "$tmp/open.qcow2"
! "$PYTHON" "$nbddir/plaintext.py" "$raw" "$tmp/open.qcow2" 2>/dev/null ||
    fail "but not in an image that is not encrypted"
