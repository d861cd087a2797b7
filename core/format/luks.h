/* SPDX-License-Identifier: BSD-3-Clause */
/* luks.h - the LUKS header of an encrypted image.
 *
 * It lies in clusters of the image that the header extension names, followed
 * by the key material of its slots.  All its offsets count from its own start.
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
/* All known writers use 4000; this bounds memory. */
#define Q2_LUKS_MAX_STRIPES 16000

/* The longest header that ext.c accepts.  Eight slots of the most stripes and
 * the longest key take 8 MB; QEMU's headers have 2.  A writer keeps a list of
 * these clusters.
 */
#define Q2_LUKS_MAX_BYTES (UINT64_C (16) << 20)

/* Bound for the work of opening one image, in rounds of q2_pbkdf2_rounds.
 * LUKS has no upper limit, so a header could ask for years.  The fastest
 * processors do about ten million rounds a second, and slots are made to take
 * one to two seconds: eight slots of 20 million rounds are well within the
 * bound.  The slowest processors, or SHA-512, do about a million, so no image
 * takes more than some five minutes of one processor.  The fuzzer, which would
 * take that for a hang, is built with less.
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
  size_t key_bytes;             /* a length that the spec takes */
  unsigned char digest[Q2_LUKS_DIGEST]; /* of the key, to verify it */
  unsigned char digest_salt[Q2_LUKS_SALT];
  uint32_t digest_iterations;   /* > 0 */
  struct q2_luks_slot slots[Q2_LUKS_SLOTS];
};

/* Decode the Q2_LUKS_HEADER bytes of a header at 'host_off' in the image file.
 * The header and all of its key material have 'luks_bytes' bytes.  On success
 * the key material of active slots lies after the header, within those bytes,
 * and does not overlap.  Fails with QCOW2_ERR_UNSUPPORTED or
 * QCOW2_ERR_CORRUPT.
 */
extern int q2_luks_decode (const void *bytes, uint64_t host_off,
                           uint64_t luks_bytes, struct q2_luks *ret_luks,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The fields of such a header as they are, for people to look at; false if
 * these bytes are none.
 */
extern bool q2_luks_describe (const void *bytes, struct qcow2_luks *ret_luks)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_FORMAT_LUKS_H */
