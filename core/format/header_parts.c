/* SPDX-License-Identifier: BSD-3-Clause */
/* header_parts.c - the header area in parts, and back.
 *
 * Owns      the order of extensions when they are written, and the rules for
 *           unknown fields and extensions.
 * Method    loading decodes and checks first, then copies the bytes of each
 *           part.  Encoding places the parts one after another with a cursor
 *           that either counts or writes, so that the announced length is the
 *           length written.
 * Locks     none; pure.
 */
#include "config.h"

#include "format/ext.h"
#include "format/header_parts.h"
#include "format/header_span.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define UNKNOWN_FIELDS_OFFSET 105       /* after the compression type */

static const unsigned char magic[4] = { 'Q', 'F', 'I', 0xfb };

static const uint32_t ext_types[Q2_NR_KNOWN_EXTS] = {
  [Q2_EXT_BITMAPS] = Q2_EXT_TYPE_BITMAPS,
  [Q2_EXT_LUKS] = Q2_EXT_TYPE_LUKS,
  [Q2_EXT_BACKING_FORMAT] = Q2_EXT_TYPE_BACKING_FORMAT,
  [Q2_EXT_DATA_FILE] = Q2_EXT_TYPE_DATA_FILE,
  [Q2_EXT_FEATURE_NAMES] = Q2_EXT_TYPE_FEATURE_NAMES,
};

/* ---- Bytes ------------------------------------------------------------ */

/* Replaces the old bytes. */
static int
set_bytes (struct q2_bytes *b, const void *data, size_t len,
           struct qcow2_error *err)
{
  unsigned char *copy = NULL;

  if (len > 0) {
    copy = malloc (len);
    if (copy == NULL)
      return q2_fail_nomem (err, "a part of the image header");
    memcpy (copy, data, len);
  }
  free (b->data);
  b->data = copy;
  b->len = len;
  return 0;
}

static int
append_bytes (struct q2_bytes *b, const void *data, size_t len,
              struct qcow2_error *err)
{
  unsigned char *const grown =
    q2_check (b->len == 0 || b->data != NULL)
    ? realloc (b->data, b->len + len) : NULL;

  if (grown == NULL)
    return q2_fail_nomem (err, "a part of the image header");
  memcpy (grown + b->len, data, len);
  b->data = grown;
  b->len += len;
  return 0;
}

/* ---- Taking apart ----------------------------------------------------- */

void
q2_header_parts_free (struct q2_header_parts *parts)
{
  free (parts->unknown_fields.data);
  free (parts->unknown_exts.data);
  free (parts->backing_file.data);
  for (size_t i = 0; i < Q2_NR_KNOWN_EXTS; ++i)
    free (parts->ext[i].data);
  memset (parts, 0, sizeof *parts);
}

/* Keep it with its padding, as far as the area has that. */
static int
keep_unknown_ext (struct q2_header_parts *parts, const struct q2_ext *e,
                  struct qcow2_error *err)
{
  static const unsigned char zeros[8];

  if (append_bytes (&parts->unknown_exts, e->data - Q2_EXT_HEADER_LEN,
                    Q2_EXT_HEADER_LEN + (size_t) e->len, err) == -1)
    return -1;
  return append_bytes (&parts->unknown_exts, zeros,
                       q2_align_up (e->len, 8) - e->len, err);
}

static int
load_ext (struct q2_header_parts *parts, const struct q2_ext *e,
          struct qcow2_error *err)
{
  if (e->type == Q2_EXT_TYPE_JUMP)
    return 0;
  for (unsigned i = 0; i < Q2_NR_KNOWN_EXTS; ++i) {
    if (ext_types[i] == e->type) {
      parts->has_ext[i] = true;
      return set_bytes (&parts->ext[i], e->data, e->len, err);
    }
  }
  return keep_unknown_ext (parts, e, err);
}

static int
load_parts (struct q2_header_parts *parts, const unsigned char *bytes,
            size_t len, struct qcow2_error *err)
{
  const struct q2_header *const h = &parts->fields;
  struct q2_ext_walk walk;
  struct q2_ext e;
  int r;

  if (h->header_length > UNKNOWN_FIELDS_OFFSET &&
      set_bytes (&parts->unknown_fields, bytes + UNKNOWN_FIELDS_OFFSET,
                 h->header_length - UNKNOWN_FIELDS_OFFSET, err) == -1)
    return -1;
  if (set_bytes (&parts->backing_file, bytes + h->backing_file.offset,
                 h->backing_file.len, err) == -1)
    return -1;
  q2_ext_walk_init (&walk, bytes, len, h);
  while ((r = q2_ext_next (&walk, &e, err)) == 1) {
    if (load_ext (parts, &e, err) == -1)
      return -1;
  }
  return r;
}

int
q2_header_parts_load (struct q2_header_parts *parts, const void *bytes,
                      size_t len, struct qcow2_error *err)
{
  struct q2_geometry geo;

  memset (parts, 0, sizeof *parts);
  if (q2_header_decode (bytes, len, &parts->fields, &geo, err) == -1)
    return -1;
  if (parts->fields.version < 2)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, 4,
                    "the header of a version 1 image cannot be changed; "
                    "convert the image to version 3");
  if (load_parts (parts, bytes, len, err) == 0)
    return 0;
  q2_header_parts_free (parts);
  return -1;
}

int
q2_header_parts_copy (struct q2_header_parts *parts,
                      const struct q2_header_parts *from,
                      struct qcow2_error *err)
{
  struct q2_header_parts copy = { .fields = from->fields };
  int r = set_bytes (&copy.unknown_fields, from->unknown_fields.data,
                     from->unknown_fields.len, err);

  if (r == 0)
    r = set_bytes (&copy.unknown_exts, from->unknown_exts.data,
                   from->unknown_exts.len, err);
  if (r == 0)
    r = set_bytes (&copy.backing_file, from->backing_file.data,
                   from->backing_file.len, err);
  for (size_t i = 0; i < Q2_NR_KNOWN_EXTS && r == 0; ++i) {
    copy.has_ext[i] = from->has_ext[i];
    r = set_bytes (&copy.ext[i], from->ext[i].data, from->ext[i].len, err);
  }
  if (r == -1)
    q2_header_parts_free (&copy);
  *parts = copy;
  return r;
}

/* ---- Changing --------------------------------------------------------- */

int
q2_header_set_ext (struct q2_header_parts *parts, enum q2_known_ext ext,
                   const void *data, size_t len, struct qcow2_error *err)
{
  if (!q2_assume (ext < Q2_NR_KNOWN_EXTS && len <= UINT32_MAX, err))
    return -1;
  if (set_bytes (&parts->ext[ext], data, data ? len : 0, err) == -1)
    return -1;
  parts->has_ext[ext] = data != NULL;
  return 0;
}

int
q2_header_set_bitmaps (struct q2_header_parts *parts, uint32_t nr,
                       uint64_t dir_off, uint64_t dir_bytes,
                       struct qcow2_error *err)
{
  unsigned char data[24] = { 0 };

  store_be32 (data, nr);
  store_be64 (data + 8, dir_bytes);
  store_be64 (data + 16, dir_off);
  if (q2_header_set_ext (parts, Q2_EXT_BITMAPS, nr > 0 ? data : NULL,
                         sizeof data, err) == -1)
    return -1;
  if (nr > 0)
    parts->fields.autoclear |= Q2_AUTOCLEAR_BITMAPS;
  else
    parts->fields.autoclear &= ~Q2_AUTOCLEAR_BITMAPS;
  return 0;
}

int
q2_header_set_backing_file (struct q2_header_parts *parts, const void *name,
                            size_t len, struct qcow2_error *err)
{
  if (len > Q2_MAX_BACKING_NAME)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 16,
                    "backing file name too long: %zu bytes, at most %u are "
                    "allowed", len, Q2_MAX_BACKING_NAME);
  if (set_bytes (&parts->backing_file, name, len, err) == -1)
    return -1;
  return len > 0 ? 0
    : q2_header_set_ext (parts, Q2_EXT_BACKING_FORMAT, NULL, 0, err);
}

/* ---- Putting together ------------------------------------------------- */

/* Writes, or only counts if bytes is NULL. */
struct cursor {
  unsigned char *bytes;
  uint64_t off;
  uint64_t spare_off;           /* 0: none, or it has been reached */
  bool impossible;
};

static void
put (struct cursor *c, const void *data, size_t len)
{
  if (c->bytes && len > 0)
    memcpy (c->bytes + c->off, data, len);
  c->off += len;
}

static void
put_ext_header (struct cursor *c, uint32_t type, uint32_t len)
{
  unsigned char header[Q2_EXT_HEADER_LEN];

  store_be32 (header, type);
  store_be32 (header + 4, len);
  put (c, header, sizeof header);
}

/* Go on in the spare room.  The bytes in between become the data of an
 * extension of an unknown type.
 */
static void
jump (struct cursor *c)
{
  const uint64_t data_off = c->off + Q2_EXT_HEADER_LEN;

  if (data_off > Q2_HEADER_SECTOR) {
    c->impossible = true;
    return;
  }
  (void) q2_check (c->spare_off >= data_off &&
                   q2_is_aligned (c->spare_off, Q2_HEADER_SECTOR));
  put_ext_header (c, Q2_EXT_TYPE_JUMP, (uint32_t) (c->spare_off - data_off));
  /* Not quite spare_off, if the header's length is no multiple of 8. */
  c->off = data_off + q2_align_up (c->spare_off - data_off, 8);
  c->spare_off = 0;
}

/* Before 'len' bytes are put: do they still fit into the first sector, with
 * the jump or the end that comes after them?
 */
static void
jump_if_full (struct cursor *c, uint64_t len)
{
  if (c->spare_off != 0 &&
      c->off + len + Q2_EXT_HEADER_LEN > Q2_HEADER_SECTOR)
    jump (c);
}

static void
put_ext (struct cursor *c, uint32_t type, const struct q2_bytes *data)
{
  static const unsigned char zeros[8];
  const uint64_t padded = q2_align_up (data->len, 8);

  jump_if_full (c, Q2_EXT_HEADER_LEN + padded);
  put_ext_header (c, type, (uint32_t) data->len);
  put (c, data->data, data->len);
  put (c, zeros, padded - data->len);
}

/* Each in one piece, in their old order. */
static void
put_unknown_exts (struct cursor *c, const struct q2_bytes *exts)
{
  (void) q2_check (q2_is_aligned (exts->len, 8));       /* with padding */
  for (size_t off = 0; off < exts->len;) {
    const uint64_t len = Q2_EXT_HEADER_LEN +
      q2_align_up (load_be32 (exts->data + off + 4), 8);

    assert (len <= exts->len - off);
    jump_if_full (c, len);
    put (c, exts->data + off, len);
    off += len;
  }
}

static void
put_exts (struct cursor *c, const struct q2_header_parts *parts)
{
  for (unsigned i = 0; i < Q2_NR_KNOWN_EXTS; ++i) {
    if (parts->has_ext[i])
      put_ext (c, ext_types[i], &parts->ext[i]);
  }
  put_unknown_exts (c, &parts->unknown_exts);
  jump_if_full (c, 0);
  put_ext_header (c, Q2_EXT_TYPE_END, 0);
}

/* Returns where it ends, and in *ret_name_off where the name begins. */
static uint64_t
place (const struct q2_header_parts *parts, uint64_t spare_off,
       unsigned char *bytes, uint64_t *ret_name_off)
{
  struct cursor c = {
    .bytes = bytes, .off = parts->fields.header_length,
    .spare_off = spare_off,
  };

  put_exts (&c, parts);
  *ret_name_off = 0;
  if (c.impossible)
    return UINT64_MAX;
  if (parts->backing_file.len > 0) {
    if (c.spare_off != 0)
      c.off = c.spare_off;
    *ret_name_off = c.off;
    put (&c, parts->backing_file.data, parts->backing_file.len);
  }
  return c.off;
}

uint64_t
q2_header_encoded_len (const struct q2_header_parts *parts,
                       uint64_t spare_off)
{
  uint64_t name_off;

  return place (parts, spare_off, NULL, &name_off);
}

static void
put_span (const struct q2_header *h, enum q2_header_span span,
          unsigned char *p)
{
  struct q2_header_bytes b;

  q2_header_encode_span (h, span, &b);
  (void) q2_check (b.len <= sizeof b.bytes);
  memcpy (p + b.off, b.bytes, b.len);
}

static void
encode_v2_fields (const struct q2_header_parts *parts, unsigned char *p,
                  uint64_t name_off)
{
  const struct q2_header *const h = &parts->fields;

  memcpy (p, magic, sizeof magic);
  store_be32 (p + 4, h->version);
  store_be64 (p + 8, name_off);
  store_be32 (p + 16, (uint32_t) parts->backing_file.len);
  store_be32 (p + 20, h->cluster_bits);
  store_be64 (p + 24, h->virtual_size);
  store_be32 (p + 32, (uint32_t) h->crypt);
  store_be32 (p + 36, h->l1_entries);
  store_be64 (p + 40, h->l1_offset);
  put_span (h, Q2_SPAN_REFCOUNT_TABLE, p);
  store_be32 (p + 60, h->nr_snapshots);
  store_be64 (p + 64, h->snapshots_offset);
}

static void
encode_v3_fields (const struct q2_header_parts *parts, unsigned char *p)
{
  const struct q2_header *const h = &parts->fields;

  put_span (h, Q2_SPAN_FEATURES, p);
  store_be32 (p + 96, h->refcount_order);
  store_be32 (p + 100, h->header_length);
  if (h->header_length >= UNKNOWN_FIELDS_OFFSET)
    p[104] = (unsigned char) h->compression;
  if (h->header_length > UNKNOWN_FIELDS_OFFSET &&
      parts->unknown_fields.len > 0)
    memcpy (p + UNKNOWN_FIELDS_OFFSET, parts->unknown_fields.data,
            q2_min (parts->unknown_fields.len,
                    h->header_length - UNKNOWN_FIELDS_OFFSET));
}

void
q2_header_encode (const struct q2_header_parts *parts, uint64_t spare_off,
                  unsigned char *bytes)
{
  uint64_t name_off;
  const uint64_t end = place (parts, spare_off, bytes, &name_off);

  assert (end != UINT64_MAX);
  encode_v2_fields (parts, bytes, name_off);
  if (parts->fields.version >= 3)
    encode_v3_fields (parts, bytes);
}
