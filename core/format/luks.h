/* SPDX-License-Identifier: BSD-3-Clause */
/* luks.h - the LUKS header of an encrypted image.
 *
 * It lies in clusters of the image that the header extension names, with the
 * key material of its slots behind it.  All its offsets count from its own
 * start.
 *
 * Spec: "Full disk encryption header pointer"; LUKS on-disk format 1.2.3,
 * "PHDR".
 */
#ifndef QCOW2_FORMAT_LUKS_H
#define QCOW2_FORMAT_LUKS_H

#include "format/cipher_spec.h"

#define Q2_LUKS_HEADER 592      /* bytes */
#define Q2_LUKS_SLOTS 8
#define Q2_LUKS_SALT 32
#define Q2_LUKS_DIGEST 20
/* All that is known to exist has 4000; this bounds memory. */
#define Q2_LUKS_MAX_STRIPES 16000

/* The longest header that ext.c accepts.  Eight slots of the most stripes and
 * the longest key take 8 MB; QEMU's headers have 2.  Whoever writes to the
 * image keeps a list of these clusters.
 */
#define Q2_LUKS_MAX_BYTES (UINT64_C (16) << 20)

/* Bound for the work of opening one image, in rounds of q2_pbkdf2_rounds.
 * LUKS has no upper limit of its own, so a header could ask for years.  The
 * fastest processors make about ten million rounds a second, and slots are
 * made to take one to two seconds: eight slots of 20 million are well
 * within.  The slowest, or SHA-512, make about a million; so nothing takes
 * more than some five minutes of one processor.  The fuzzer, which takes
 * that for a hang, is built with less.
 */
#ifndef Q2_LUKS_MAX_ROUNDS
#define Q2_LUKS_MAX_ROUNDS (UINT64_C (1) << 28)
#endif

struct q2_luks_slot {
  bool active;                  /* if not, the rest is 0 */
  uint32_t iterations;          /* > 0 */
  uint32_t stripes;             /* > 0 */
  unsigned char salt[Q2_LUKS_SALT];
  uint64_t material_off;        /* bytes, from the start of the header */
  size_t material_bytes;        /* a multiple of 512 */
};

struct q2_luks {
  struct q2_cipher_spec spec;
  enum q2_hash hash;
  size_t key_bytes;             /* one that the spec takes */
  unsigned char digest[Q2_LUKS_DIGEST]; /* of the key: tells if it is right */
  unsigned char digest_salt[Q2_LUKS_SALT];
  uint32_t digest_iterations;   /* > 0 */
  struct q2_luks_slot slots[Q2_LUKS_SLOTS];
};

/* Decode the header whose Q2_LUKS_HEADER bytes these are; it lies at
 * 'host_off' in the image file, and the header with all of its key material
 * has 'luks_bytes' bytes.  What is decoded obeys every rule: the key material
 * of active slots lies behind the header, in those bytes, and does not
 * overlap.  Fails with QCOW2_ERR_UNSUPPORTED or QCOW2_ERR_CORRUPT.
 */
extern int q2_luks_decode (const void *bytes, uint64_t host_off,
                           uint64_t luks_bytes, struct q2_luks *ret_luks,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_FORMAT_LUKS_H */
