/* SPDX-License-Identifier: BSD-3-Clause */
/* ext.c - walks header extensions, names feature bits.
 *
 * Owns      the extension types, and the rules for each of them.
 * Method    the area runs from the end of the header to the backing file name,
 *           or to the end of the first cluster.  Unknown types are skipped:
 *           they are optional by definition.
 * Locks     none; pure.
 */
#include "config.h"

#include "format/bitmap.h"
#include "format/ext.h"
#include "format/luks.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FEATURE_NAME_LEN 48     /* type, bit, 46 bytes of name */

static int
decode_bitmaps (const struct q2_ext *e, struct q2_header *h,
                struct qcow2_error *err)
{
  uint32_t count;
  uint64_t dir_bytes, dir_off;

  if (e->len != 24)
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off,
                    "invalid bitmaps extension: its length is %u, not 24",
                    e->len);
  /* A writer that does not know bitmaps has changed the image, so the bitmaps
   * and this extension are meaningless.
   */
  h->stale_bitmaps = !(h->autoclear & Q2_AUTOCLEAR_BITMAPS);
  if (h->stale_bitmaps)
    return 0;

  count = load_be32 (e->data);
  dir_bytes = load_be64 (e->data + 8);
  dir_off = load_be64 (e->data + 16);
  if (count == 0 || count > Q2_BITMAPS_MAX)
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off,
                    "invalid bitmaps extension: %u bitmaps, it must have 1 "
                    "to %u", count, Q2_BITMAPS_MAX);
  if (load_be32 (e->data + 4) != 0)
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off + 4,
                    "invalid bitmaps extension: the reserved field is not 0");
  if (dir_bytes > Q2_BITMAPS_MAX_DIR_BYTES)
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off + 8,
                    "invalid bitmaps extension: a bitmap directory of "
                    "%" PRIu64 " bytes is too large", dir_bytes);
  if (!q2_is_aligned (dir_off, UINT64_C (1) << h->cluster_bits))
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off + 16,
                    "invalid bitmaps extension: directory offset 0x%" PRIx64
                    " is not a multiple of the cluster size", dir_off);
  h->nr_bitmaps = count;
  h->bitmap_dir_offset = dir_off;
  h->bitmap_dir_bytes = dir_bytes;
  return 0;
}

static int
decode_luks (const struct q2_ext *e, struct q2_header *h,
             struct qcow2_error *err)
{
  if (h->crypt != Q2_CRYPT_LUKS)
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off,
                    "the image has an encryption header, but its encryption "
                    "method is not LUKS");
  if (e->len != 16)
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off,
                    "invalid encryption header extension: its length is %u, "
                    "not 16", e->len);
  if (!q2_is_aligned (load_be64 (e->data), UINT64_C (1) << h->cluster_bits))
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off,
                    "encryption header offset 0x%" PRIx64 " is not a "
                    "multiple of the cluster size", load_be64 (e->data));
  h->luks_offset = load_be64 (e->data);
  h->luks_bytes = load_be64 (e->data + 8);
  if (h->luks_bytes > Q2_LUKS_MAX_BYTES ||
      h->luks_offset > INT64_MAX - h->luks_bytes)
    return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off,
                    "the LUKS header at offset 0x%" PRIx64 " is said to have "
                    "%" PRIu64 " bytes, more than any can need",
                    h->luks_offset, h->luks_bytes);
  return 0;
}

static int
decode_one (const struct q2_ext *e, struct q2_header *h,
            struct q2_features *features, struct qcow2_error *err)
{
  switch (e->type) {
  case Q2_EXT_TYPE_BACKING_FORMAT:
    if (e->len >= 16)
      return q2_fail (err, QCOW2_ERR_CORRUPT, e->data_off,
                      "the backing format name is too long: %u bytes, at "
                      "most 15 are allowed", e->len);
    h->backing_format = (struct q2_name) { e->data_off, e->len };
    return 0;
  case Q2_EXT_TYPE_FEATURE_NAMES:
    *features = (struct q2_features) { e->data, e->len };
    return 0;
  case Q2_EXT_TYPE_BITMAPS:
    return decode_bitmaps (e, h, err);
  case Q2_EXT_TYPE_LUKS:
    return decode_luks (e, h, err);
  case Q2_EXT_TYPE_DATA_FILE:
    h->data_file = (struct q2_name) { e->data_off, e->len };
    return 0;
  default:
    return 0;
  }
}

void
q2_ext_walk_init (struct q2_ext_walk *walk, const void *bytes, size_t len,
                  const struct q2_header *h)
{
  walk->bytes = bytes;
  walk->off = h->header_length;
  walk->end = q2_min (len, h->backing_file.offset ? h->backing_file.offset
                      : UINT64_C (1) << h->cluster_bits);
}

int
q2_ext_next (struct q2_ext_walk *walk, struct q2_ext *ret_ext,
             struct qcow2_error *err)
{
  struct q2_ext e;

  if (walk->off >= walk->end || walk->end - walk->off < Q2_EXT_HEADER_LEN)
    return 0;                   /* no room for another extension */
  e.type = load_be32 (walk->bytes + walk->off);
  e.len = load_be32 (walk->bytes + walk->off + 4);
  e.data_off = walk->off + Q2_EXT_HEADER_LEN;
  if (e.type == Q2_EXT_TYPE_END) {
    walk->off = walk->end = e.data_off;
    return 0;
  }
  if (e.len > walk->end - e.data_off)
    return q2_fail (err, QCOW2_ERR_CORRUPT, walk->off,
                    "header extension too large: type 0x%08x has %u bytes, "
                    "but only %" PRIu64 " are left", e.type, e.len,
                    walk->end - e.data_off);
  e.data = walk->bytes + e.data_off;
  walk->off = e.data_off + q2_align_up (e.len, 8);
  *ret_ext = e;
  return 1;
}

int
q2_ext_decode (const void *bytes, size_t len, struct q2_header *h,
               struct q2_features *ret_features, struct qcow2_error *err)
{
  struct q2_ext_walk walk;
  struct q2_ext e = { .type = Q2_EXT_TYPE_END };
  int r;

  q2_ext_walk_init (&walk, bytes, len, h);
  while ((r = q2_ext_next (&walk, &e, err)) == 1) {
    if (decode_one (&e, h, ret_features, err) == -1)
      return -1;
  }
  return r;
}

uint64_t
q2_ext_end (const void *bytes, size_t len, uint64_t off)
{
  const unsigned char *const p = bytes;

  while (off < len && len - off >= Q2_EXT_HEADER_LEN) {
    const uint32_t type = load_be32 (p + off);

    off += Q2_EXT_HEADER_LEN;
    if (type == Q2_EXT_TYPE_END)
      return off;
    off += q2_align_up (load_be32 (p + off - 4), 8);
  }
  return UINT64_MAX;
}

/* ---- Feature bits --------------------------------------------------- */

/* The name the image gives an incompatible feature bit, or NULL. */
static const unsigned char *
find_feature_name (const struct q2_features *features, unsigned bit)
{
  for (size_t i = 0; i + FEATURE_NAME_LEN <= features->len;
       i += FEATURE_NAME_LEN) {
    const unsigned char *const entry = features->table + i;

    if (entry[0] == 0 && entry[1] == bit && entry[2] != '\0')
      return entry + 2;
  }
  return NULL;
}

int
q2_features_check (const struct q2_header *h,
                   const struct q2_features *features,
                   struct qcow2_error *err)
{
  const uint64_t unknown = h->incompatible & ~Q2_INCOMPAT_KNOWN;
  char list[300] = "";
  size_t n = 0;

  if (unknown == 0)
    return 0;
  for (unsigned bit = 0; bit < 64 && n < sizeof list; ++bit) {
    const unsigned char *name;
    char text[64];

    if (!(unknown & (UINT64_C (1) << bit)))
      continue;
    name = find_feature_name (features, bit);
    if (name)
      q2_printable (text, sizeof text, name,
                    strnlen ((const char *) name, FEATURE_NAME_LEN - 2));
    else
      snprintf (text, sizeof text, "unknown incompatible feature bit %u",
                bit);
    n += (size_t) snprintf (list + n, sizeof list - n, "%s%s",
                            n ? ", " : "", text);
  }
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, 72,
                  "unsupported qcow2 feature(s): %s", list);
}
