/* SPDX-License-Identifier: BSD-3-Clause */
/* header.h - the image header and its extensions, decoded and checked.
 *
 * Decoding accepts exactly what QEMU accepts.
 *
 * Spec: "Header", "Header padding and extension", "Feature name table",
 * "Bitmaps extension", "Full disk encryption header pointer".
 */
#ifndef QCOW2_FORMAT_HEADER_H
#define QCOW2_FORMAT_HEADER_H

#include "format/geometry.h"

/* Incompatible feature bits. */
#define Q2_INCOMPAT_DIRTY         (UINT64_C (1) << 0)
#define Q2_INCOMPAT_CORRUPT       (UINT64_C (1) << 1)
#define Q2_INCOMPAT_DATA_FILE     (UINT64_C (1) << 2)
#define Q2_INCOMPAT_COMPRESSION   (UINT64_C (1) << 3)
#define Q2_INCOMPAT_EXTENDED_L2   (UINT64_C (1) << 4)
#define Q2_INCOMPAT_KNOWN         (UINT64_C (0x1f))
/* Compatible and autoclear feature bits. */
#define Q2_COMPAT_LAZY_REFCOUNTS  (UINT64_C (1) << 0)
#define Q2_AUTOCLEAR_BITMAPS      (UINT64_C (1) << 0)
#define Q2_AUTOCLEAR_DATA_RAW     (UINT64_C (1) << 1)

#define Q2_MAX_BACKING_NAME 1023u

enum q2_crypt { Q2_CRYPT_NONE, Q2_CRYPT_AES, Q2_CRYPT_LUKS };

/* The place of a name in the header area: bytes [offset, offset+len) of the
 * image.  len == 0: there is none.
 */
struct q2_name {
  uint64_t offset;
  uint32_t len;
};

struct q2_header {
  unsigned version;
  unsigned cluster_bits;
  unsigned l2_bits;                 /* version 1 only */
  uint64_t virtual_size;
  uint64_t l1_offset;
  uint32_t l1_entries;              /* as stored; version 1: as many as
                                       needed */
  uint64_t refcount_table_offset;
  uint32_t refcount_table_clusters;
  unsigned refcount_order;
  uint32_t nr_snapshots;
  uint64_t snapshots_offset;
  uint64_t incompatible, compatible, autoclear;
  uint32_t header_length;
  enum q2_crypt crypt;
  enum qcow2_compression compression;
  struct q2_name backing_file;
  struct q2_name backing_format;    /* from here on: from extensions */
  struct q2_name data_file;
  uint32_t nr_bitmaps;              /* 0: none, or meaningless ones */
  uint64_t bitmap_dir_offset, bitmap_dir_bytes; /* if nr_bitmaps > 0 */
  bool stale_bitmaps;               /* there are bitmaps, but meaningless */
  uint64_t luks_offset, luks_bytes; /* 0: no encryption header */
  bool lost_snapshots, lost_bitmaps;    /* q2_header_decode_faulty: there are,
                                           but nobody knows where */
  uint64_t number;                  /* of those that the open image has had:
                                       meta/superblock.h; 0 elsewhere */
};

/* Whether a file that begins with these 4 bytes claims to be an image. */
extern bool q2_header_has_magic (const void *head)
  __attribute__ ((__nonnull__));

/* The number of bytes from the start of the image that q2_header_decode needs.
 * 'head' has the first 'len' of them: at least Q2_HEADER_PROBE, filled up with
 * zeros if the file is shorter.  The result is all of the first cluster if
 * 'len' covers it, else up to the end of the extensions and the backing file
 * name.  It is at most a cluster and at least Q2_HEADER_PROBE; exactly that if
 * the bytes make no sense.
 */
#define Q2_HEADER_PROBE 512
extern size_t q2_header_area (const void *head, size_t len)
  __attribute__ ((__nonnull__));

/* Decode and check the header and its extensions, and derive the geometry.
 * 'bytes' has the first 'len' bytes of the image, at least as many as
 * q2_header_area returns.
 */
extern int q2_header_decode (const void *bytes, size_t len,
                             struct q2_header *ret_header,
                             struct q2_geometry *ret_geo,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What is wrong with a field. */
typedef void (*q2_header_fault_fn) (void *opaque,
                                    const struct qcow2_error *err);

/* The same for a check: faulty fields that it can do without are reported to
 * 'fault' (NULL: nobody), and the part of the image that they are about is
 * taken for missing: the refcount table, all snapshots, all bitmaps.
 */
extern int q2_header_decode_faulty (const void *bytes, size_t len,
                                    struct q2_header *ret_header,
                                    struct q2_geometry *ret_geo,
                                    q2_header_fault_fn fault, void *opaque,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 3, 4, 7), __warn_unused_result__));

#endif /* QCOW2_FORMAT_HEADER_H */
