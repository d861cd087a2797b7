/* SPDX-License-Identifier: BSD-3-Clause */
/* header_parts.h - the header area taken apart to be changed, and put
 * together again.
 *
 * q2_header_encode is the mirror of q2_header_decode.  Unknown fields and
 * extensions, and the backing file name, keep every byte.  Of a known
 * extension that occurs more than once only the last one, which counts, is
 * kept.
 *
 * Spec: "Header", "Header extensions", "Backing file name".
 */
#ifndef QCOW2_FORMAT_HEADER_PARTS_H
#define QCOW2_FORMAT_HEADER_PARTS_H

#include "format/header.h"

/* Bytes that reach the disk all or not at all. */
#define Q2_HEADER_SECTOR 512u

/* Known extensions, in the order in which they are written.  Those that change
 * most often come first, so that they lie in the first sector.
 */
enum q2_known_ext {
  Q2_EXT_BITMAPS,
  Q2_EXT_LUKS,
  Q2_EXT_BACKING_FORMAT,
  Q2_EXT_DATA_FILE,
  Q2_EXT_FEATURE_NAMES,
};
#define Q2_NR_KNOWN_EXTS 5

/* An allocated string of bytes; data is NULL if there are none. */
struct q2_bytes {
  unsigned char *data;
  size_t len;
};

struct q2_header_parts {
  /* The numbers of the header.  Those that come from extensions, and the
   * places of names, are ignored when encoding.
   */
  struct q2_header fields;
  struct q2_bytes unknown_fields;       /* from byte 105 on */
  struct q2_bytes ext[Q2_NR_KNOWN_EXTS];
  bool has_ext[Q2_NR_KNOWN_EXTS];       /* an extension may be empty */
  struct q2_bytes unknown_exts;         /* whole, padded, in their order */
  struct q2_bytes backing_file;
};

/* Take the header area apart; 'bytes' as for q2_header_decode.  Versions other
 * than 2 and 3 fail.  On success the caller frees the parts.
 */
extern int q2_header_parts_load (struct q2_header_parts *parts,
                                 const void *bytes, size_t len,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern int q2_header_parts_copy (struct q2_header_parts *parts,
                                 const struct q2_header_parts *from,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern void q2_header_parts_free (struct q2_header_parts *parts)
  __attribute__ ((__nonnull__));

/* Replace or add an extension; without data, remove it. */
extern int q2_header_set_ext (struct q2_header_parts *parts,
                              enum q2_known_ext ext, const void *data,
                              size_t len, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 5), __warn_unused_result__));

/* The bitmaps extension and its autoclear bit; nr == 0 removes both. */
extern int q2_header_set_bitmaps (struct q2_header_parts *parts, uint32_t nr,
                                  uint64_t dir_off, uint64_t dir_bytes,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The name of the backing file, 1 to 1023 bytes; len == 0 removes it and the
 * backing format.
 */
extern int q2_header_set_backing_file (struct q2_header_parts *parts,
                                       const void *name, size_t len,
                                       struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4), __warn_unused_result__));

/* The number of bytes of the encoded area.  spare_off == 0: extensions follow
 * the header and the backing file name follows them, as QEMU writes it.  Else
 * spare_off is a multiple of 512: extensions that do not fit into the first
 * sector, and the name in any case, lie from there on.  Returns UINT64_MAX if
 * the header leaves no room in the first sector for a jump.
 */
extern uint64_t q2_header_encoded_len (const struct q2_header_parts *parts,
                                       uint64_t spare_off)
  __attribute__ ((__nonnull__));

/* Encode into 'bytes', which has q2_header_encoded_len bytes, all zero. */
extern void q2_header_encode (const struct q2_header_parts *parts,
                              uint64_t spare_off, unsigned char *bytes)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_FORMAT_HEADER_PARTS_H */
