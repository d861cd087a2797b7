/* SPDX-License-Identifier: BSD-3-Clause */
/* header.c - decodes and checks the fixed part of the header.
 *
 * Owns      the header fields of all three versions and the rules that hold
 *           between them.  ext.c owns the extensions.
 * Method    read every field at its offset in the specification, then check
 *           each against its limits, then derive the geometry.  An error
 *           names the byte offset of the field it is about.
 * Locks     none; pure.
 */
#include "config.h"

#include "format/ext.h"
#include "format/header.h"

#include "format/foreign.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

#define V1_HEADER_LENGTH 48
#define V2_HEADER_LENGTH 72
#define V3_MIN_HEADER_LENGTH 104
#define MAX_SNAPSHOTS 65536

static const unsigned char magic[4] = { 'Q', 'F', 'I', 0xfb };

bool
q2_header_has_magic (const void *head)
{
  return memcmp (head, magic, sizeof magic) == 0;
}

size_t
q2_header_area (const void *head, size_t len)
{
  const unsigned char *p = head;
  const uint32_t version = load_be32 (p + 4), bits = load_be32 (p + 20);
  const uint64_t name_off = load_be64 (p + 8);
  uint64_t cluster_size, need;

  if (!q2_header_has_magic (p) || version < 2 ||
      bits < Q2_MIN_CLUSTER_BITS || bits > Q2_MAX_CLUSTER_BITS)
    return Q2_HEADER_PROBE;
  cluster_size = UINT64_C (1) << bits;
  if (cluster_size <= len)
    return cluster_size;
  need = q2_ext_end (head, len,
                     version == 2 ? V2_HEADER_LENGTH : load_be32 (p + 100));
  if (name_off != 0)
    need = name_off > cluster_size ? cluster_size
      : q2_max (need, name_off + load_be32 (p + 16));
  return q2_min (q2_max (need, Q2_HEADER_PROBE), cluster_size);
}

static int
check_magic (const unsigned char *p, size_t len, struct q2_header *h,
             struct qcow2_error *err)
{
  if (!q2_header_has_magic (p)) {
    enum qcow2_advice advice;
    const char *const what = q2_foreign_describe (p, len, &advice);

    return q2_fail_advise (err, QCOW2_ERR_FORMAT, advice, 0,
                           "not a qcow2 image: %s", what);
  }
  h->version = load_be32 (p + 4);
  if (h->version < 1 || h->version > 3)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, 4,
                    "unsupported qcow2 version %u: versions 1, 2 and 3 are "
                    "known", h->version);
  return 0;
}

/* ---- Version 1 ------------------------------------------------------ */

static int
decode_v1 (const unsigned char *p, struct q2_header *h,
           struct q2_geometry *ret_geo, struct qcow2_error *err)
{
  struct q2_geometry_params params;
  const uint32_t crypt = load_be32 (p + 36);

  h->backing_file.offset = load_be64 (p + 8);
  h->backing_file.len = h->backing_file.offset ? load_be32 (p + 16) : 0;
  h->virtual_size = load_be64 (p + 24);
  h->cluster_bits = p[32];
  h->l2_bits = p[33];
  h->l1_offset = load_be64 (p + 40);
  h->header_length = V1_HEADER_LENGTH;
  h->compression = QCOW2_COMPRESSION_ZLIB;

  if (crypt > Q2_CRYPT_AES)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 36,
                    "unsupported encryption method %u in a version 1 image",
                    crypt);
  h->crypt = (enum q2_crypt) crypt;
  if (h->backing_file.len > Q2_MAX_BACKING_NAME)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 16,
                    "backing file name too long: %u bytes, at most 1023 are "
                    "allowed", h->backing_file.len);
  if (h->virtual_size < 2)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 24,
                    "virtual disk size %" PRIu64 " is too small: a version 1 "
                    "image has at least 2 bytes", h->virtual_size);

  params = (struct q2_geometry_params) {
    .version = 1, .virtual_size = h->virtual_size,
    .cluster_bits = h->cluster_bits, .l2_bits = h->l2_bits,
  };
  if (q2_geometry_init (ret_geo, &params, err) == -1)
    return -1;
  h->l1_entries = (uint32_t) ret_geo->l1_needed;
  return 0;
}

/* ---- Versions 2 and 3 ----------------------------------------------- */

static int
decode_v2_fields (const unsigned char *p, struct q2_header *h,
                  struct qcow2_error *err)
{
  const uint32_t crypt = load_be32 (p + 32);

  h->backing_file.offset = load_be64 (p + 8);
  h->backing_file.len = h->backing_file.offset ? load_be32 (p + 16) : 0;
  h->cluster_bits = load_be32 (p + 20);
  h->virtual_size = load_be64 (p + 24);
  h->l1_entries = load_be32 (p + 36);
  h->l1_offset = load_be64 (p + 40);
  h->refcount_table_offset = load_be64 (p + 48);
  h->refcount_table_clusters = load_be32 (p + 56);
  h->nr_snapshots = load_be32 (p + 60);
  h->snapshots_offset = load_be64 (p + 64);
  h->refcount_order = 4;
  h->header_length = V2_HEADER_LENGTH;
  h->compression = QCOW2_COMPRESSION_ZLIB;

  if (crypt > Q2_CRYPT_LUKS)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 32,
                    "unsupported encryption method %u: 0 (none), 1 (AES) and "
                    "2 (LUKS) are known", crypt);
  h->crypt = (enum q2_crypt) crypt;
  return 0;
}

static int
decode_compression_type (const unsigned char *p, struct q2_header *h,
                         struct qcow2_error *err)
{
  const unsigned type = h->header_length > V3_MIN_HEADER_LENGTH ? p[104] : 0;
  const bool flagged = h->incompatible & Q2_INCOMPAT_COMPRESSION;

  if (type > QCOW2_COMPRESSION_ZSTD)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, 104,
                    "unknown compression type %u: 0 (zlib) and 1 (zstd) are "
                    "known", type);
  if (flagged != (type != 0))
    return q2_fail (err, QCOW2_ERR_CORRUPT, 72,
                    "the compression type incompatible feature bit must %sbe "
                    "set with compression type %u", flagged ? "not " : "",
                    type);
  h->compression = (enum qcow2_compression) type;
  return 0;
}

/* The length must be known before any field after byte 104 is used. */
static int
decode_v3_fields (const unsigned char *p, struct q2_header *h,
                  struct qcow2_error *err)
{
  h->incompatible = load_be64 (p + 72);
  h->compatible = load_be64 (p + 80);
  h->autoclear = load_be64 (p + 88);
  h->refcount_order = load_be32 (p + 96);
  h->header_length = load_be32 (p + 100);

  if (h->header_length < V3_MIN_HEADER_LENGTH)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 100,
                    "qcow2 header too short: %u bytes, version 3 has at "
                    "least %u", h->header_length, V3_MIN_HEADER_LENGTH);
  if (h->header_length > UINT64_C (1) << h->cluster_bits)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 100,
                    "qcow2 header length %u exceeds the cluster size",
                    h->header_length);
  return 0;
}

static int
check_table (const struct q2_geometry *geo, const char *what,
             unsigned field_off, uint64_t host_off, uint64_t bytes,
             struct qcow2_error *err)
{
  if (!q2_is_aligned (host_off, geo->cluster_size) ||
      host_off > INT64_MAX - bytes)
    return q2_fail (err, QCOW2_ERR_CORRUPT, field_off,
                    "%s offset invalid: 0x%" PRIx64 " is not a multiple of "
                    "the cluster size, or too large", what, host_off);
  return 0;
}

static int
check_refcount_table (const struct q2_geometry *geo,
                      const struct q2_header *h, struct qcow2_error *err)
{
  const uint64_t bytes =
    (uint64_t) h->refcount_table_clusters << geo->cluster_bits;

  if (h->refcount_table_clusters == 0)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR, 56,
                           "image does not contain a reference count table");
  if (bytes > Q2_MAX_REFCOUNT_TABLE_BYTES)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 56,
                    "reference count table too large: %u clusters, at most "
                    "8 MiB are allowed", h->refcount_table_clusters);
  return check_table (geo, "reference count table", 48,
                      h->refcount_table_offset, bytes, err);
}

static int
check_l1 (const struct q2_geometry *geo, const struct q2_header *h,
          struct qcow2_error *err)
{
  if (h->l1_entries > Q2_MAX_L1_BYTES / 8)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 36,
                    "active L1 table too large: %u entries, at most 32 MiB "
                    "are allowed", h->l1_entries);
  if (h->l1_entries < geo->l1_needed)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 36,
                    "L1 table is too small: %u entries, a disk of %" PRIu64
                    " bytes needs %" PRIu64, h->l1_entries,
                    geo->virtual_size, geo->l1_needed);
  return check_table (geo, "active L1 table", 40, h->l1_offset,
                      (uint64_t) h->l1_entries * 8, err);
}

/* Who hears of faults that a check can do without; NULL if nobody can. */
struct tolerance {
  q2_header_fault_fn fault;
  void *opaque;
};

/* Whether a fault may be passed over. */
static bool
tolerate (const struct tolerance *t, const struct qcow2_error *err)
{
  if (t == NULL || err->kind != QCOW2_ERR_CORRUPT)
    return false;
  if (t->fault != NULL)
    t->fault (t->opaque, err);
  return true;
}

static int
check_snapshots (const struct q2_geometry *geo, const struct q2_header *h,
                 struct qcow2_error *err)
{
  if (h->nr_snapshots > MAX_SNAPSHOTS)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 60,
                    "snapshot table too large: %u snapshots, at most %u are "
                    "allowed", h->nr_snapshots, MAX_SNAPSHOTS);
  /* The smallest entry of the snapshot table has 40 bytes. */
  return check_table (geo, "snapshot table", 64, h->snapshots_offset,
                      (uint64_t) h->nr_snapshots * 40, err);
}

static int
check_tables (const struct q2_geometry *geo, struct q2_header *h,
              const struct tolerance *t, struct qcow2_error *err)
{
  if (check_refcount_table (geo, h, err) == -1) {
    if (!tolerate (t, err))
      return -1;
    h->refcount_table_clusters = 0;
  }
  if (check_snapshots (geo, h, err) == -1) {
    if (!tolerate (t, err))
      return -1;
    h->lost_snapshots = h->nr_snapshots > 0;
    h->nr_snapshots = 0;
  }
  return check_l1 (geo, h, err);
}

/* The first fault ends the extensions, so that those behind it are lost. */
static int
decode_extensions (const void *bytes, size_t len, struct q2_header *h,
                   const struct tolerance *t, struct qcow2_error *err)
{
  struct q2_features features = { 0 };

  if (q2_ext_decode (bytes, len, h, &features, err) == -1) {
    if (h->crypt == Q2_CRYPT_LUKS || !tolerate (t, err))
      return -1;
    h->lost_bitmaps = h->autoclear & Q2_AUTOCLEAR_BITMAPS;
    h->nr_bitmaps = 0;
  }
  return q2_features_check (h, &features, err);
}

static int
check_backing_name (const struct q2_header *h, struct qcow2_error *err)
{
  const uint64_t cluster_size = UINT64_C (1) << h->cluster_bits;
  const struct q2_name *name = &h->backing_file;

  if (name->offset > cluster_size)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 8,
                    "invalid backing file offset 0x%" PRIx64 ": the name "
                    "must lie in the first cluster", name->offset);
  if (name->len > q2_min (Q2_MAX_BACKING_NAME, cluster_size - name->offset))
    return q2_fail (err, QCOW2_ERR_CORRUPT, 16,
                    "backing file name too long: %u bytes, at most 1023 are "
                    "allowed and it must end in the first cluster",
                    name->len);
  return 0;
}

/* Check everything that must hold before extensions can be decoded. */
static int
decode_v2_v3 (const unsigned char *p, struct q2_header *h,
              struct q2_geometry *ret_geo, struct qcow2_error *err)
{
  struct q2_geometry_params params;

  if (decode_v2_fields (p, h, err) == -1)
    return -1;
  if (h->cluster_bits < Q2_MIN_CLUSTER_BITS ||
      h->cluster_bits > Q2_MAX_CLUSTER_BITS)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, 20,
                    "unsupported cluster size 2^%u: qcow2 has 2^%u to 2^%u "
                    "bytes", h->cluster_bits, Q2_MIN_CLUSTER_BITS,
                    Q2_MAX_CLUSTER_BITS);
  if (h->version >= 3 && (decode_v3_fields (p, h, err) == -1))
    return -1;
  if (check_backing_name (h, err) == -1)
    return -1;

  params = (struct q2_geometry_params) {
    .version = h->version, .virtual_size = h->virtual_size,
    .cluster_bits = h->cluster_bits,
    .extended_l2 = h->incompatible & Q2_INCOMPAT_EXTENDED_L2,
    .data_file = h->incompatible & Q2_INCOMPAT_DATA_FILE,
    .refcount_order = h->refcount_order,
  };
  return q2_geometry_init (ret_geo, &params, err);
}

static int
decode (const void *bytes, size_t len, struct q2_header *ret_header,
        struct q2_geometry *ret_geo, const struct tolerance *t,
        struct qcow2_error *err)
{
  struct q2_header h = { 0 };
  struct q2_geometry geo;

  if (check_magic (bytes, len, &h, err) == -1)
    return -1;
  if (h.version == 1) {
    if (decode_v1 (bytes, &h, &geo, err) == -1)
      return -1;
  }
  else {
    if (decode_v2_v3 (bytes, &h, &geo, err) == -1 ||
        decode_extensions (bytes, len, &h, t, err) == -1 ||
        (h.version >= 3 && decode_compression_type (bytes, &h, err) == -1) ||
        check_tables (&geo, &h, t, err) == -1)
      return -1;
    if ((h.autoclear & Q2_AUTOCLEAR_DATA_RAW) &&
        !(h.incompatible & Q2_INCOMPAT_DATA_FILE))
      return q2_fail (err, QCOW2_ERR_CORRUPT, 88,
                      "autoclear bit 1 (raw external data) is set, which "
                      "requires a data file, but the image has none");
  }
  *ret_header = h;
  *ret_geo = geo;
  return 0;
}

int
q2_header_decode (const void *bytes, size_t len,
                  struct q2_header *ret_header, struct q2_geometry *ret_geo,
                  struct qcow2_error *err)
{
  return decode (bytes, len, ret_header, ret_geo, NULL, err);
}

int
q2_header_decode_faulty (const void *bytes, size_t len,
                         struct q2_header *ret_header,
                         struct q2_geometry *ret_geo,
                         q2_header_fault_fn fault, void *opaque,
                         struct qcow2_error *err)
{
  const struct tolerance t = { fault, opaque };

  return decode (bytes, len, ret_header, ret_geo, &t, err);
}
