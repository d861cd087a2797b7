#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# All of QEMU's options for encryption: each cipher, mode and IV generator with
# some hash, in some kind of image, with random writes; then each hash, on
# which only the key slots depend.  And the legacy encryption in all kinds of
# images.
# shellcheck source=luks_matrix.sh source-path=SCRIPTDIR
source "$(dirname "$0")/luks_matrix.sh"

hashes=(md5 sha1 sha224 sha256 sha384 sha512 ripemd160)
# shellcheck disable=SC2054         # Commas are QEMU's.
kinds=(
    full: full:cluster_size=512 full:cluster_size=512,compat=0.10
    full:cluster_size=4k full:cluster_size=2M,compat=0.10
    full:extended_l2=on,cluster_size=16k full:lazy_refcounts=on
    preallocated:cluster_size=4k preallocated:compat=0.10
    preallocated:extended_l2=on preallocated:cluster_size=2M
    compressed: compressed:compat=0.10,cluster_size=4k
    compressed:extended_l2=on,cluster_size=16k
    compressed:compression_type=zstd
    snapshots: snapshots:cluster_size=512 snapshots:compat=0.10
    snapshots:extended_l2=on,cluster_size=2M
    data: data:cluster_size=4k data:extended_l2=on
    raw_data: raw_data:cluster_size=2M
)

# ways COMMAND: run it for each cipher, mode and IV generator.
ways ()
{
    local cipher mode iv ivs

    for cipher in {aes,serpent,twofish}-{128,192,256} cast5-128; do
        for mode in xts cbc ctr ecb; do
            case $cipher-$mode in
            cast5-128-xts) continue ;;  # The block is too short.
            *-192-xts) ;;
            # qemu-img crashes.
            *-192-*) continue ;;
            esac
            case $cipher-$mode in
            *-ecb) ivs="plain plain64" ;;
            # The hash must be as long as a key.
            cast5-*) ivs="plain plain64 essiv:md5" ;;
            *) ivs="plain plain64 essiv:md5 essiv:sha256" ;;
            esac
            for iv in $ivs; do
                "$1" "$cipher" "$mode" "$iv"
            done
        done
    done
}

# Neither number is a multiple of the other.
next=0
with_some_hash ()
{
    local kind=${kinds[next % ${#kinds[@]}]}

    combination "$@" "${hashes[next % ${#hashes[@]}]}" "${kind%%:*}" \
        "${kind#*:}"
    next=$((next + 1))
}

with_each_hash ()
{
    local hash

    echo "$*: each hash"
    for hash in "${hashes[@]}"; do
        key_of "$@" "$hash"
    done
}

operations=600
ways with_some_hash
for kind in "${kinds[@]}"; do
    legacy "${kind%%:*}" "${kind#*:}"
done
legacy_v1
ways with_each_hash
