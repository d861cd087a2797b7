#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Prints tests/unit/cipher_vectors.h: what other implementations make of
the same sectors.

The ciphers are libgcrypt's, and where libcrypto (OpenSSL) has them too both
must agree; hashes and PBKDF2 are hashlib's, but libgcrypt's where OpenSSL
leaves them out.  How IVs are made is written down here a second time.

    python3 tests/unit/cipher-vectors.py > tests/unit/cipher_vectors.h
"""

import ctypes
import ctypes.util
import hashlib
import struct

SECTOR = 512
SECTORS = 37
FIRST = 0x1FFFFFFF0             # its lower 32 bits wrap within 37 sectors
SECRETS = (0, 1, 63, 64, 65, 200)   # lengths, of and around HMAC's blocks
DERIVED = 150

gcrypt = ctypes.CDLL(ctypes.util.find_library("gcrypt"))
crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
gcrypt.gcry_check_version(None)

ALGS = {("aes", 16): 7, ("aes", 24): 8, ("aes", 32): 9,
        ("serpent", 16): 304, ("serpent", 24): 305, ("serpent", 32): 306,
        ("twofish", 16): 303, ("twofish", 32): 10, ("cast5", 16): 3}
MODES = {"ecb": 1, "cbc": 3, "ctr": 6, "xts": 13}
GCRY_MDS = {"md5": 1, "sha1": 2, "ripemd160": 3, "sha256": 8, "sha384": 9,
            "sha512": 10, "sha224": 11, "sm3": 326}


def check(r):
    if r != 0:
        raise OSError(f"libgcrypt: error {r & 0xffff}")


def gcry_encrypt(alg, key_len, mode, key, iv, plain):
    handle = ctypes.c_void_p()
    out = ctypes.create_string_buffer(len(plain))
    check(gcrypt.gcry_cipher_open(ctypes.byref(handle), ALGS[alg, key_len],
                                  MODES[mode], 0))
    check(gcrypt.gcry_cipher_setkey(handle, key, ctypes.c_size_t(len(key))))
    if mode == "ctr":
        check(gcrypt.gcry_cipher_setctr(handle, iv,
                                        ctypes.c_size_t(len(iv))))
    elif mode != "ecb":
        check(gcrypt.gcry_cipher_setiv(handle, iv, ctypes.c_size_t(len(iv))))
    check(gcrypt.gcry_cipher_encrypt(
        handle, out, ctypes.c_size_t(len(plain)), plain,
        ctypes.c_size_t(len(plain))))
    gcrypt.gcry_cipher_close(handle)
    return out.raw


def openssl_encrypt(key_len, mode, key, iv, plain):
    try:
        kind = getattr(crypto, f"EVP_aes_{key_len * 8}_{mode}")
    except AttributeError:
        return None             # aes-192-xts
    kind.restype = ctypes.c_void_p
    crypto.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
    ctx = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    out = ctypes.create_string_buffer(len(plain) + 32)
    n = ctypes.c_int()
    assert crypto.EVP_EncryptInit_ex(ctx, ctypes.c_void_p(kind()), None, key,
                                     iv) == 1
    crypto.EVP_CIPHER_CTX_set_padding(ctx, 0)
    assert crypto.EVP_EncryptUpdate(ctx, out, ctypes.byref(n), plain,
                                    len(plain)) == 1
    assert n.value == len(plain)
    crypto.EVP_CIPHER_CTX_free(ctx)
    return out.raw[:len(plain)]


def encrypt(alg, key_len, mode, key, iv, plain):
    result = gcry_encrypt(alg, key_len, mode, key, iv, plain)
    if alg == "aes":
        other = openssl_encrypt(key_len, mode, key, iv, plain)
        assert other is None or other == result
    return result


def digest(name, data):
    alg = GCRY_MDS[name]
    n = gcrypt.gcry_md_get_algo_dlen(alg)
    out = ctypes.create_string_buffer(n)
    gcrypt.gcry_md_hash_buffer(alg, out, data, ctypes.c_size_t(len(data)))
    if name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512"):
        assert hashlib.new(name, data).digest() == out.raw
    return out.raw


def pbkdf2(name, secret, salt, iterations, n):
    out = ctypes.create_string_buffer(n)
    check(gcrypt.gcry_kdf_derive(
        secret, ctypes.c_size_t(len(secret)), 34, GCRY_MDS[name], salt,
        ctypes.c_size_t(len(salt)), ctypes.c_ulong(iterations),
        ctypes.c_size_t(n), out))
    if name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512"):
        assert hashlib.pbkdf2_hmac(name, secret, salt, iterations,
                                   n) == out.raw
    return out.raw


def make_iv(alg, key, iv, block, sector):
    if iv == "plain":
        return struct.pack("<Q", sector & 0xffffffff).ljust(block, b"\0")
    plain = struct.pack("<Q", sector).ljust(block, b"\0")
    if not iv.startswith("essiv:"):
        return plain
    salt = digest(iv[6:], key)
    return gcry_encrypt(alg, len(salt), "ecb", salt, plain, plain)


def byte_string(n, a, b):
    return bytes((i * a + (i >> 8) * 31 + b) & 0xff for i in range(n))


def vector(alg, key_len, mode):
    name, _, iv = mode.partition("-")
    block = 8 if alg == "cast5" else 16
    key = byte_string(key_len * (2 if name == "xts" else 1), 29, 5)
    plain = byte_string(SECTORS * SECTOR, 7, 1)
    out = b"".join(
        encrypt(alg, key_len, name, key,
                make_iv(alg, key, iv or "plain64", block, FIRST + i),
                plain[i * SECTOR:(i + 1) * SECTOR])
        for i in range(SECTORS))
    print(f'  {{ "{alg}", "{mode}", {len(key)},')
    print_hex(out)


def print_hex(data):
    data = hashlib.sha256(data).digest()
    print(f'    "{data[:16].hex()}"')
    print(f'    "{data[16:].hex()}" }},')


def main():
    print("/* SPDX-License-Identifier: BSD-3-Clause */")
    print("/* cipher_vectors.h - known answers, made by cipher-vectors.py. */")
    print("#ifndef CIPHER_VECTORS_H\n#define CIPHER_VECTORS_H\n")
    print(f"#define VECTOR_SECTORS {SECTORS}")
    print(f"#define VECTOR_FIRST UINT64_C (0x{FIRST:x})\n")
    print("/* The SHA-256 of the sectors. */")
    print("static const struct {")
    print("  const char *name, *mode;\n  size_t key_bytes;")
    print("  const char *sha256;\n} vectors[] = {")
    for (alg, key_len) in ALGS:
        vector(alg, key_len, "ecb")
        for mode in ("cbc", "ctr") + (() if alg == "cast5" else ("xts",)):
            vector(alg, key_len, f"{mode}-plain64")
            vector(alg, key_len, f"{mode}-essiv:md5")
            if alg != "cast5":
                vector(alg, key_len, f"{mode}-essiv:sha256")
                vector(alg, key_len, f"{mode}-essiv:sm3")
        vector(alg, key_len, "cbc-plain")
    print("};\n")
    print(f"#define DERIVED_BYTES {DERIVED}\n#define DERIVED_ITERATIONS 3\n")
    print("/* The SHA-256 of what PBKDF2 makes of secret_len times 's' and a\n"
          " * salt of 32 bytes.\n */")
    print("static const struct {")
    print("  const char *hash;\n  size_t secret_len;")
    print("  const char *sha256;\n} derived[] = {")
    for name in GCRY_MDS:
        for secret_len in SECRETS:
            print(f'  {{ "{name}", {secret_len},')
            print_hex(pbkdf2(name, b"s" * secret_len, byte_string(32, 11, 3),
                             3, DERIVED))
    print("};\n")
    print("#endif /* CIPHER_VECTORS_H */")


if __name__ == "__main__":
    main()
