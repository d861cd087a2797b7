/* SPDX-License-Identifier: BSD-3-Clause */
/* ext.h - header extensions and feature bits of versions 2 and 3.
 *
 * Spec: "Header extensions", "Feature name table".
 */
#ifndef QCOW2_FORMAT_EXT_H
#define QCOW2_FORMAT_EXT_H

#include "format/header.h"

/* The known types of extensions. */
#define Q2_EXT_TYPE_END             UINT32_C (0x00000000)
#define Q2_EXT_TYPE_BACKING_FORMAT  UINT32_C (0xe2792aca)
#define Q2_EXT_TYPE_FEATURE_NAMES   UINT32_C (0x6803f857)
#define Q2_EXT_TYPE_BITMAPS         UINT32_C (0x23852875)
#define Q2_EXT_TYPE_LUKS            UINT32_C (0x0537be77)
#define Q2_EXT_TYPE_DATA_FILE       UINT32_C (0x44415441)
/* Our own: its data is unused room, see header_plan.h. */
#define Q2_EXT_TYPE_JUMP            UINT32_C (0x4a4d5051)

/* Bytes of type and length, before the data, which is padded to 8 bytes. */
#define Q2_EXT_HEADER_LEN 8

/* One extension.  'data' points into the walk's bytes. */
struct q2_ext {
  uint32_t type;
  uint32_t len;                 /* of the data, without padding */
  uint64_t data_off;            /* from the start of the image */
  const unsigned char *data;
};

/* Walks the extensions.  'off' is where the next one begins; after the last
 * one it is where they end: past the end marker, if there is one.
 */
struct q2_ext_walk {
  const unsigned char *bytes;   /* the first bytes of the image */
  uint64_t off, end;            /* the extensions lie before 'end' */
};

extern void q2_ext_walk_init (struct q2_ext_walk *walk, const void *bytes,
                              size_t len, const struct q2_header *header)
  __attribute__ ((__nonnull__));

/* Returns 1 and the next extension in *ret_ext, 0 after the last one, or -1
 * with *err filled in if the next one does not fit.
 */
extern int q2_ext_next (struct q2_ext_walk *walk, struct q2_ext *ret_ext,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The feature name table in the header area; 'table' is NULL if there is none.
 */
struct q2_features {
  const unsigned char *table;
  size_t len;
};

/* Walk the extensions.  Fills in the fields of *header that come from them,
 * and *ret_features, which points into 'bytes'.
 */
extern int q2_ext_decode (const void *bytes, size_t len,
                          struct q2_header *header,
                          struct q2_features *ret_features,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Where the extensions that begin at 'off' end, just past the end marker;
 * UINT64_MAX if that is not within the first 'len' bytes.
 */
extern uint64_t q2_ext_end (const void *bytes, size_t len, uint64_t off)
  __attribute__ ((__nonnull__));

/* Fail with QCOW2_ERR_UNSUPPORTED if an unknown incompatible feature bit is
 * set.  The message has the names that the image gives to the bits.
 */
extern int q2_features_check (const struct q2_header *header,
                              const struct q2_features *features,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_FORMAT_EXT_H */
