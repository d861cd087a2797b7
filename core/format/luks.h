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

/* ---- Writing ---------------------------------------------------------- */

/* Material of a slot begins at multiples of this, as cryptsetup and QEMU have
 * it.
 */
#define Q2_LUKS_ALIGN 4096
#define Q2_LUKS_STRIPES 4000

/* Bytes of a new header with all of its key material, for keys of that length;
 * and where the material of its slots lies.
 */
extern uint64_t q2_luks_bytes (size_t key_bytes) __attribute__ ((__const__));
extern uint64_t q2_luks_material_off (size_t key_bytes, unsigned nr)
  __attribute__ ((__const__));

/* Encode a new header; slots that are not active have no key.  'uuid' has 16
 * random bytes.
 */
extern void q2_luks_encode (const struct q2_luks *luks,
                            const unsigned char uuid[16],
                            unsigned char ret_bytes[Q2_LUKS_HEADER])
  __attribute__ ((__nonnull__));

/* A piece of a header; 'off' counts from its start. */
struct q2_luks_bytes {
  uint32_t off, len;
  unsigned char bytes[40];
};

/* What to write to make a slot active, in this order, each durably before the
 * next: its parameters, and then the word that says that it is.  A slot may
 * lie across two sectors, but no word does.
 */
extern void q2_luks_encode_parameters (unsigned nr,
                                       const struct q2_luks_slot *slot,
                                       struct q2_luks_bytes *ret)
  __attribute__ ((__nonnull__));
extern void q2_luks_encode_state (unsigned nr, bool active,
                                  struct q2_luks_bytes *ret)
  __attribute__ ((__nonnull__));

/* The place of the material of slot 'nr', which is not active, in a header of
 * that many bytes: ret_slot->material_off, material_bytes and stripes.  Fails
 * with QCOW2_ERR_UNSUPPORTED if it has none where a key could be.
 */
extern int q2_luks_free_slot (const void *bytes, uint64_t host_off,
                              uint64_t luks_bytes, const struct q2_luks *luks,
                              unsigned nr, struct q2_luks_slot *ret_slot,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_FORMAT_LUKS_H */
