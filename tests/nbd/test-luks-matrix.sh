#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Options for encryption, and kinds of encrypted images: QEMU and we write in
# turns, and read each other's writes.  It covers each cipher, key size, mode,
# IV generator and hash, and each mode for each cipher;
# test-luks-matrix-long.sh has all combinations.
# shellcheck source=luks_matrix.sh source-path=SCRIPTDIR
source "$(dirname "$0")/luks_matrix.sh"

combination aes-256 xts plain64 sha256 full
combination aes-128 xts plain sha1 full cluster_size=512,compat=0.10
combination aes-192 xts essiv:sha256 sha512 snapshots cluster_size=4k
combination aes-128 cbc essiv:md5 md5 full cluster_size=4k,compat=0.10
combination aes-256 cbc plain64 sha224 compressed
combination aes-256 cbc essiv:sha256 sha256 full extended_l2=on,cluster_size=16k
combination aes-256 ctr plain64 sha384 snapshots extended_l2=on,cluster_size=2M
combination aes-128 ecb plain sha256 preallocated cluster_size=4k
combination aes-256 xts plain64 sha256 preallocated extended_l2=on
combination aes-256 xts plain64 sha256 data
combination aes-256 ctr plain sha1 raw_data cluster_size=4k
combination serpent-128 xts plain64 md5 full cluster_size=512
combination serpent-192 xts plain sha224 full cluster_size=2M,compat=0.10
combination serpent-256 cbc essiv:sha256 sha512 snapshots compat=0.10
combination serpent-256 ctr essiv:md5 sha1 full lazy_refcounts=on,refcount_bits=8
combination serpent-128 ecb plain64 sha256 full
combination twofish-128 cbc essiv:md5 ripemd160 full
combination twofish-192 xts essiv:md5 sha384 compressed cluster_size=4k
combination twofish-256 ctr plain sha256 full refcount_bits=1
combination twofish-128 ecb essiv:sha256 sha512 full cluster_size=512
combination cast5-128 cbc plain64 ripemd160 compressed compat=0.10
combination cast5-128 ctr essiv:md5 sha224 full
combination cast5-128 ecb plain sha384 preallocated cluster_size=512

legacy full compat=0.10,cluster_size=512
legacy snapshots extended_l2=on,cluster_size=16k
legacy preallocated cluster_size=4k
legacy compressed compat=0.10
legacy data cluster_size=64k
legacy_v1

echo "several clients write to parts of the same sectors"
for options in cluster_size=512 cluster_size=64k; do
    encrypt 1M "$luks,$options"
    serve_encrypted
    "$PYTHON" "$nbddir/parts.py" "$uri" "$raw" 20
    same_over_nbd
    stop_nbdkit
    judged
done

for value in {aes,serpent,twofish}-{128,192,256} cast5-128 \
        ecb cbc ctr xts plain plain64 essiv \
        md5 sha1 sha224 sha256 sha384 sha512 ripemd160; do
    [ -n "${seen[$value]:-}" ] || broken "no image with $value"
done
