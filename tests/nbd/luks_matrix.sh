# SPDX-License-Identifier: BSD-3-Clause
# luks_matrix.sh - one combination of encryption options in both directions:
# QEMU writes and we read, we write and QEMU reads, QEMU writes again and we
# read; sourced by the tests of many combinations.
# shellcheck shell=bash
# shellcheck source=luks.sh source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/luks.sh"

# Not a multiple of any cluster size but 512.
disk_size=$((5 * 1024 * 1024 + 5 * 512))
make_disk "$tmp/pattern" "$disk_size" 16384
make_disk "$tmp/small-pattern" $((256 * 1024)) 4096
operations=150

# ---- Kinds of images: the disk before we write ------------------------------

make_full ()            # OPTIONS
{
    encrypt "$disk_size" "$1"
    fill "$tmp/pattern"
}

# Clusters that were never written are noise, but subclusters are not.
make_preallocated ()
{
    local noise

    encrypt "$disk_size" "$1,preallocation=metadata"
    with_key 'write -q -P 33 1M 300k'
    what_qemu_reads
    noise=$(head -c 1M "$raw" | tr -d '\0' | wc -c)
    case $1 in
    *extended_l2=on*) [ "$noise" -eq 0 ] ;;
    # In ECB mode it is one block repeated, of which some bytes may be 0.
    *) [ "$noise" -gt 250000 ] ;;
    esac || broken "of the first 1M QEMU reads $noise bytes that are not 0"
}

# qemu-img refuses to compress and encrypt; qemu-io compresses without
# encrypting, and only unallocated clusters.
make_compressed ()
{
    encrypt "$disk_size" "$1"
    by_qemu "write -q -c -s $tmp/pattern 0 2M" "write -q -P 34 3M 512k" \
        "write -q -c -P 35 4M 1M"
    [ "$(compressed)" -gt 0 ] || fail "nothing has been compressed"
}

make_snapshots ()
{
    make_full "$1"
    snapshot one
    by_qemu 'write -q -P 36 1M 1M' 'write -q -z 2M 300k'
    snapshot two
    by_qemu 'write -q -P 37 1500k 1M'
}

snapshot ()             # NAME
{
    cp "$raw" "$tmp/snapshot-$1"
    qemu-img snapshot "${key[@]}" --image-opts -c "$1" "$(opened)"
}

# With data_file_raw all of the disk is noise at first.
make_data ()
{
    encrypt "$disk_size" "$1,data_file=$data"
    fill "$tmp/pattern"
}

make_raw_data ()
{
    encrypt "$disk_size" "$1,data_file=$data,data_file_raw=on"
    with_key 'write -q -P 38 1M 300k'
    what_qemu_reads
}

# ---- Checks afterwards ------------------------------------------------------

# The number of compressed clusters.
compressed ()
{
    qemu-img check --output=json "${key[@]}" --image-opts "$(opened)" |
        sed -n 's/.*"compressed-clusters": \([0-9]*\).*/\1/p' | grep . ||
        echo 0
}

snapshots_kept ()
{
    local file name

    for file in "$tmp"/snapshot-*; do
        [ -e "$file" ] || continue
        name=${file##*-}
        qemu-img convert "${key[@]}" --image-opts -O raw -l "$name" \
            "$(opened)" "$tmp/copy"
        cmp "$tmp/copy" "$file" || fail "QEMU finds snapshot $name changed"
        rm "$tmp/copy"
        nbdcopy "$(export_uri "snapshot/$name")" "$tmp/copy"
        cmp "$tmp/copy" "$file" || fail "we read snapshot $name differently"
    done
}

# ---- One combination ----------------------------------------------------------

# The combinations so far.
declare -A seen

# options_of CIPHER MODE IV[:HASH] HASH: qemu-img create's.
options_of ()
{
    local iv=${3%:*} iv_hash=

    [ "$iv" = "$3" ] || iv_hash=,encrypt.ivgen-hash-alg=${3#*:}
    echo "$luks,encrypt.cipher-alg=$1,encrypt.cipher-mode=$2,encrypt.ivgen-alg=$iv$iv_hash,encrypt.hash-alg=$4"
}

saw ()                  # CIPHER MODE IV[:HASH] HASH
{
    local value

    for value in "$1" "$2" "${3%:*}" "$4"; do
        # shellcheck disable=SC2034     # By who sources this.
        seen[$value]=1
    done
}

# through KIND OPTIONS SEED: make an image, and let QEMU and us write to it.
through ()
{
    local kind=$1 options=$2 seed=$3 cluster before
    local -a torn=()

    # Legacy AES uses that mode, too.
    [[ $options != *mode=cbc* && $options != *format=aes* ]] || torn=(--torn)

    rm -f "$tmp"/snapshot-*
    "make_$kind" "$options"
    before=$(compressed)
    cluster=$(qemu-img info "$image" | sed -n 's/^cluster_size: //p')

    serve_encrypted
    same_over_nbd
    "$PYTHON" "$nbddir/write_model.py" "$raw" "$uri" --seed "$seed" \
        --operations "$operations" --connections 3 --cluster "$cluster" \
        "${torn[@]}"
    same_over_nbd
    stop_nbdkit
    judged
    concealed
    [ "$(compressed)" -le "$before" ] || fail "we have compressed something"

    by_qemu "write -q -P 39 $((seed % 100 * 1536)) 70000" \
        "write -q -z $((seed % 90 * 7 * 512)) 200k" \
        "write -q -P 40 $((seed % 80 * 11 * 400)) 1234" \
        "write -q -P 41 2M $((2 * 1024 * 1024))"
    serve_encrypted -r
    same_over_nbd
    snapshots_kept
    stop_nbdkit
    judged
}

# combination CIPHER MODE IV[:HASH] HASH KIND [qemu-img create's options]
number=0
combination ()
{
    echo "$*"
    saw "$@"
    number=$((number + 1))
    through "$5" "$(options_of "$@")${6:+,$6}" $number
}

# legacy KIND OPTIONS: the obsolete method, whose key is the passphrase.
legacy ()
{
    echo "legacy AES: $*"
    number=$((number + 1))
    through "$1" "$legacy${2:+,$2}" $number
}

# Version 1 is only read.
legacy_v1 ()
{
    local round

    echo "legacy AES: version 1"
    driver=qcow
    encrypt "$disk_size" "$legacy"
    fill "$tmp/pattern"
    for round in 1 2; do
        serve_encrypted
        same_over_nbd
        check_read_only
        stop_nbdkit
        judged
        concealed
        [ "$round" -eq 2 ] || by_qemu 'write -q -P 43 100k 70000' \
            'write -q -P 44 3000001 1234'
    done
    driver=qcow2
}

# key_of CIPHER MODE IV[:HASH] HASH: a shorter test, of the key only.
key_of ()
{
    saw "$@"
    encrypt 256k "$(options_of "$@"),cluster_size=4k"
    fill "$tmp/small-pattern"
    serve_encrypted
    writetool "$uri" --raw "$raw" w:1000:3000:66 w:128k:64k:67 z:5:5000
    same_over_nbd
    stop_nbdkit
    judged
    concealed
}
