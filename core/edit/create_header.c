/* SPDX-License-Identifier: BSD-3-Clause */
/* create_header.c - the header area of a new image.
 *
 * Owns      the feature name table, and which extensions a new image has.
 * Method    fill in struct q2_header_parts, which format/ encodes.  Where the
 *           first cluster is too small for the names of features they are
 *           left out: they only make messages of other programs nicer.
 * Locks     none; pure.
 * Spec      "Header", "Feature name table".
 */
#include "config.h"

#include "edit/create.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

#define V2_HEADER_LENGTH 72
#define V3_HEADER_LENGTH 112

/* Spec: "Feature name table". */
struct feature_name {
  uint8_t type, bit;
  char name[46];
};

static const struct feature_name feature_names[] = {
  { 0, 0, "dirty bit" },
  { 0, 1, "corrupt bit" },
  { 0, 2, "external data file" },
  { 0, 3, "compression type" },
  { 0, 4, "extended L2 entries" },
  { 1, 0, "lazy refcounts" },
  { 2, 0, "bitmaps" },
  { 2, 1, "raw external data" },
};
_Static_assert (sizeof feature_names[0] == 48, "entries of 48 bytes");

static void
set_features (const struct qcow2_create_options *o, struct q2_header *h)
{
  if (o->data_file.len > 0)
    h->incompatible |= Q2_INCOMPAT_DATA_FILE;
  if (o->compression != QCOW2_COMPRESSION_ZLIB)
    h->incompatible |= Q2_INCOMPAT_COMPRESSION;
  if (o->extended_l2)
    h->incompatible |= Q2_INCOMPAT_EXTENDED_L2;
  if (o->lazy_refcounts)
    h->compatible |= Q2_COMPAT_LAZY_REFCOUNTS;
  if (o->data_file_raw)
    h->autoclear |= Q2_AUTOCLEAR_DATA_RAW;
}

static void
set_fields (const struct q2_create *c, struct q2_header *h)
{
  const struct q2_geometry *const geo = &c->geo;
  const struct q2_layout *const l = &c->layout;

  *h = (struct q2_header) {
    .version = geo->version, .cluster_bits = geo->cluster_bits,
    .virtual_size = geo->virtual_size,
    /* Where there are no entries it may be anywhere but at 0. */
    .l1_offset = l->l1.first << geo->cluster_bits,
    .l1_entries = (uint32_t) geo->l1_needed,
    .refcount_table_offset = l->refcount_table.first << geo->cluster_bits,
    .refcount_table_clusters = (uint32_t) l->refcount_table.nr,
    .refcount_order = geo->refcount_order,
    .header_length = geo->version == 2 ? V2_HEADER_LENGTH : V3_HEADER_LENGTH,
    .compression = c->options->compression,
    .crypt = c->options->encryption == QCOW2_ENCRYPTION_LUKS ? Q2_CRYPT_LUKS
      : c->options->encryption == QCOW2_ENCRYPTION_AES ? Q2_CRYPT_AES
      : Q2_CRYPT_NONE,
  };
  set_features (c->options, h);
}

static int
set_names (const struct qcow2_create_options *o,
           struct q2_header_parts *parts, struct qcow2_error *err)
{
  if (o->backing_file.len > 0 &&
      (q2_header_set_backing_file (parts, o->backing_file.bytes,
                                   o->backing_file.len, err) == -1 ||
       q2_header_set_ext (parts, Q2_EXT_BACKING_FORMAT,
                          o->backing_format.bytes, o->backing_format.len,
                          err) == -1))
    return -1;
  if (o->data_file.len > 0 &&
      q2_header_set_ext (parts, Q2_EXT_DATA_FILE, o->data_file.bytes,
                         o->data_file.len, err) == -1)
    return -1;
  return 0;
}

/* Spec: "Full disk encryption header pointer". */
static int
set_luks (const struct q2_create *c, struct q2_header_parts *parts,
          struct qcow2_error *err)
{
  unsigned char pointer[16];

  if (c->layout.luks.nr == 0)
    return 0;
  store_be64 (pointer, c->layout.luks.first << c->geo.cluster_bits);
  store_be64 (pointer + 8, q2_create_luks_bytes (c->options, &c->luks));
  return q2_header_set_ext (parts, Q2_EXT_LUKS, pointer, sizeof pointer, err);
}

static int
fill_in (const struct q2_create *c, struct q2_header_parts *parts,
         uint64_t *ret_len, struct qcow2_error *err)
{
  set_fields (c, &parts->fields);
  if (set_names (c->options, parts, err) == -1 ||
      set_luks (c, parts, err) == -1)
    return -1;
  if (c->geo.version >= 3 &&
      q2_header_set_ext (parts, Q2_EXT_FEATURE_NAMES, feature_names,
                         sizeof feature_names, err) == -1)
    return -1;
  *ret_len = q2_header_encoded_len (parts, 0);
  if (*ret_len <= c->geo.cluster_size)
    return 0;
  if (q2_header_set_ext (parts, Q2_EXT_FEATURE_NAMES, NULL, 0, err) == -1)
    return -1;
  *ret_len = q2_header_encoded_len (parts, 0);
  if (*ret_len <= c->geo.cluster_size)
    return 0;
  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                  "the header with the names of other files takes %" PRIu64
                  " bytes, but has to fit into a cluster of %" PRIu64
                  "; use larger clusters or shorter names", *ret_len,
                  c->geo.cluster_size);
}

int
q2_create_header (const struct q2_create *c, unsigned char **ret_bytes,
                  uint64_t *ret_len, struct qcow2_error *err)
{
  struct q2_header_parts parts = { .unknown_fields = { NULL, 0 } };
  int r = fill_in (c, &parts, ret_len, err);

  if (r == 0 && !q2_assume (*ret_len <= c->geo.cluster_size, err))
    r = -1;
  if (r == 0) {
    /* All of the first cluster: nothing is left of what was there. */
    *ret_len = c->geo.cluster_size;
    *ret_bytes = calloc (1, *ret_len);
    if (*ret_bytes != NULL)
      q2_header_encode (&parts, 0, *ret_bytes);
  }
  q2_header_parts_free (&parts);
  if (r == 0 && *ret_bytes == NULL)
    return q2_fail_nomem (err, "the header of the new image");
  return r;
}
