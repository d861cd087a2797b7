/* SPDX-License-Identifier: BSD-3-Clause */
/* resize_bitmaps.c - bitmaps for a disk of another size.
 *
 * Owns      what the directory of bitmaps says together with the new size.
 * Method    the format demands that a bitmap has a bit for each part of the
 *           disk, and no more entries in its table than that takes.  So a
 *           bitmap gets a new table, where the number changes, and a new
 *           cluster of bits where the shorter of both disks ends, if bits are
 *           set behind it; the other clusters of bits are taken over.  A new
 *           directory names them, and the header names that in the moment in
 *           which it has the new size.
 * Locks     none: see resize.c.
 * Spec      "Bitmaps": "Bitmap table", "Bitmap data".
 */
#include "config.h"

#include "edit/resize.h"

#include "meta/bitmaps.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ALL_ONES UINT64_C (1)   /* a table entry without a cluster */

struct job {
  struct q2_resize *r;
  unsigned char *dir;           /* the new one */
  bool changed;
};

/* One bitmap. */
struct table {
  unsigned char *entries;       /* as many as the longer of both has */
  uint64_t old_nr, new_nr;
  uint64_t kept;                /* bits that both have */
  bool changed;
};

static uint64_t
entries_for (const struct q2_geometry *geo, const struct q2_bitmap *b)
{
  const uint64_t bits = q2_ceil_shift (geo->virtual_size,
                                       b->granularity_bits);

  return q2_max (q2_ceil_shift (bits, geo->cluster_bits + 3), 1);
}

/* ---- Bits ------------------------------------------------------------- */

static void
clear_from (unsigned char *bits, uint64_t len, uint64_t from)
{
  if (from % 8 != 0)
    bits[from / 8] &= (unsigned char) ((1u << from % 8) - 1);
  memset (bits + (from + 7) / 8, 0, len - (from + 7) / 8);
}

static bool
are_any_from (const unsigned char *bits, uint64_t len, uint64_t from)
{
  if (from % 8 != 0 && bits[from / 8] >> from % 8 != 0)
    return true;
  for (uint64_t i = (from + 7) / 8; i < len; ++i)
    if (bits[i] != 0)
      return true;
  return false;
}

/* The cluster of bits in which the shorter disk ends: a new one, if any bit is
 * set behind that.
 */
static int
cut_bits (struct q2_resize *r, unsigned char *entry, uint64_t kept,
          unsigned char *bits, bool *ret_changed, struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;
  const uint64_t len = r->old_geo.cluster_size;
  const uint64_t value = load_be64 (entry);
  const uint64_t old = q2_bitmap_table_cluster (value);
  uint64_t new;

  if (value == 0)
    return 0;
  if (old == 0)
    memset (bits, 0xff, len);
  else if (q2_io_read (&e->io, bits, len, old, QCOW2_IO_HEADER, err) == -1)
    return -1;
  if (!are_any_from (bits, len, kept))
    return 0;
  clear_from (bits, len, kept);
  if (q2_edit_alloc (e, len, Q2_META_BITMAP_BITS, &new, err) == -1 ||
      q2_edit_write (e, bits, len, new, Q2_META_BITMAP_BITS, err) == -1 ||
      (old != 0 && q2_resize_note_old (r, old, len, err) == -1))
    return -1;
  store_be64 (entry, new);
  *ret_changed = true;
  return 0;
}

/* ---- Tables ----------------------------------------------------------- */

static int
check_entry (const struct q2_resize *r, uint64_t value, uint64_t host_off,
             struct qcow2_error *err)
{
  const uint64_t cluster = q2_bitmap_table_cluster (value);

  if ((cluster == 0 && value <= ALL_ONES) ||
      (value == cluster && q2_is_aligned (cluster, r->old_geo.cluster_size)))
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR, host_off,
                         "the entry of a bitmap table at offset 0x%" PRIx64
                         " is invalid", host_off);
}

/* Entries behind the end of the shorter disk. */
static int
drop_entries (struct q2_resize *r, struct table *t, uint64_t first,
              struct qcow2_error *err)
{
  for (uint64_t i = first; i < t->old_nr; ++i) {
    unsigned char *const entry = t->entries + 8 * i;
    const uint64_t cluster = q2_bitmap_table_cluster (load_be64 (entry));

    if (cluster != 0 &&
        q2_resize_note_old (r, cluster, r->old_geo.cluster_size, err) == -1)
      return -1;
    t->changed |= load_be64 (entry) != 0;
    store_be64 (entry, 0);
  }
  return 0;
}

static int
change_table (struct q2_resize *r, const struct q2_bitmap *b,
              struct table *t, struct qcow2_error *err)
{
  const unsigned shift = r->old_geo.cluster_bits + 3;
  const uint64_t last = t->kept >> shift;
  const uint64_t rest = t->kept & ((UINT64_C (1) << shift) - 1);
  unsigned char *bits;
  int result = 0;

  for (uint64_t i = 0; i < t->old_nr; ++i)
    if (check_entry (r, load_be64 (t->entries + 8 * i),
                     b->table_offset + 8 * i, err) == -1)
      return -1;
  if (rest != 0 && last < t->old_nr) {
    bits = malloc (r->old_geo.cluster_size);
    if (bits == NULL)
      return q2_fail_nomem (err, "a bitmap");
    result = cut_bits (r, t->entries + 8 * last, rest, bits, &t->changed, err);
    free (bits);
  }
  return result == -1 ? -1 : drop_entries (r, t, last + (rest != 0), err);
}

static int
load_table (const struct q2_resize *r, const struct q2_bitmap *b,
            struct table *t, struct qcow2_error *err)
{
  const uint64_t old_bits = q2_ceil_shift (r->old_geo.virtual_size,
                                           b->granularity_bits);
  const uint64_t new_bits = q2_ceil_shift (r->new_geo.virtual_size,
                                           b->granularity_bits);

  *t = (struct table) {
    .old_nr = b->table_entries, .new_nr = entries_for (&r->new_geo, b),
    .kept = q2_min (old_bits, new_bits),
  };
  t->changed = t->old_nr != t->new_nr;
  t->entries = calloc (q2_max (t->old_nr, t->new_nr), 8);
  if (t->entries == NULL)
    return q2_fail_nomem (err, "a bitmap table");
  return q2_io_read (&r->edit.io, t->entries, t->old_nr * 8, b->table_offset,
                     QCOW2_IO_HEADER, err);
}

/* ---- Pins ------------------------------------------------------------- */

struct pinned {
  const struct q2_resize *r;
  struct qcow2_image *image;
};

static int
check_pin (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
           struct qcow2_error *err)
{
  const struct pinned *const p = opaque;
  struct q2_pins *const pins = &p->image->pins;
  char name[80];
  bool pinned;

  if (b->table_entries == entries_for (&p->r->new_geo, b))
    return 0;
  q2_mutex_lock (&pins->lock);
  pinned = q2_is_pinned_locked (p->image, b->table_offset);
  q2_mutex_unlock (&pins->lock);
  return pinned ?
    q2_fail_advise (err, QCOW2_ERR_BUSY, QCOW2_ADVICE_CLOSE_VIEWS, host_off,
                    "the disk cannot change its size while a bitmap of it is "
                    "open that needs another table then: \"%s\"",
                    q2_printable (name, sizeof name, b->name, b->name_len))
    : 0;
}

int
q2_resize_check_pins (struct q2_resize *r, struct qcow2_image *image,
                      const struct qcow2_io *host, struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (image);
  const struct q2_io io = q2_image_io (image, host);
  struct pinned p = { r, image };
  bool any, merged;

  q2_mutex_lock (&image->pins.lock);
  any = q2_is_any_pinned_locked (image, Q2_PINNED_BITMAP);
  merged = q2_is_any_pinned_locked (image, Q2_PINNED_SOURCE);
  q2_mutex_unlock (&image->pins.lock);
  if (merged)
    return q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET,
                    "the disk cannot change its size while a bitmap of it is "
                    "merged into one of another image");
  return any ? q2_bitmaps_walk (&io, &h, &r->old_geo, check_pin, &p, err) : 0;
}

/* ---- The directory ---------------------------------------------------- */

static int
check_bitmap (const struct q2_resize *r, const struct q2_bitmap *b,
              uint64_t host_off, struct qcow2_error *err)
{
  const uint64_t bytes = entries_for (&r->new_geo, b)
    << r->new_geo.cluster_bits;
  char name[80];

  q2_printable (name, sizeof name, b->name, b->name_len);
  if (b->flags & Q2_BITMAP_IN_USE)
    return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED,
                           QCOW2_ADVICE_REMOVE_BITMAP, host_off,
                           "the disk cannot change its size while the bitmap "
                           "\"%s\" is marked as in use: what is in it is not "
                           "known", name);
  if (bytes > Q2_BITMAP_MAX_BYTES ||
      (uint64_t) b->table_entries << r->old_geo.cluster_bits >
      Q2_BITMAP_MAX_BYTES)
    return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED,
                           QCOW2_ADVICE_REMOVE_BITMAP, host_off,
                           "the bitmap \"%s\" with a bit for each %" PRIu64
                           " bytes would be larger than the format allows",
                           name, UINT64_C (1) << b->granularity_bits);
  return 0;
}

static int
write_table (struct q2_resize *r, const struct q2_bitmap *b,
             const struct table *t, unsigned char *dir_entry,
             struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;
  uint64_t host_off;

  if (q2_edit_alloc (e, t->new_nr * 8, Q2_META_BITMAP_TABLE, &host_off, err)
      == -1 ||
      q2_edit_write (e, t->entries, t->new_nr * 8, host_off,
                     Q2_META_BITMAP_TABLE, err) == -1 ||
      q2_resize_note_old (r, b->table_offset, t->old_nr * 8, err) == -1)
    return -1;
  store_be64 (dir_entry, host_off);
  store_be32 (dir_entry + 8, (uint32_t) t->new_nr);
  return 0;
}

static int
change_bitmap (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
               struct qcow2_error *err)
{
  struct job *const job = opaque;
  struct q2_resize *const r = job->r;
  const uint64_t in_dir =
    host_off - q2_writer_header (r->edit.w).bitmap_dir_offset;
  struct table t;
  int result;

  if (check_bitmap (r, b, host_off, err) == -1)
    return -1;
  result = load_table (r, b, &t, err);
  if (result == 0)
    result = change_table (r, b, &t, err);
  if (result == 0 && t.changed)
    result = write_table (r, b, &t, job->dir + in_dir, err);
  job->changed |= t.changed;
  free (t.entries);
  return result;
}

static int
change_directory (struct job *job, const struct q2_header *h,
                  struct qcow2_error *err)
{
  struct q2_resize *const r = job->r;
  struct q2_edit *const e = &r->edit;

  if (q2_io_read (&e->io, job->dir, h->bitmap_dir_bytes, h->bitmap_dir_offset,
                  QCOW2_IO_HEADER, err) == -1 ||
      q2_bitmaps_walk (&e->io, h, &r->old_geo, change_bitmap, job, err) == -1)
    return -1;
  if (!job->changed)
    return 0;
  if (q2_edit_alloc (e, h->bitmap_dir_bytes, Q2_META_BITMAP_DIRECTORY,
                     &r->dir_off, err) == -1 ||
      q2_edit_write (e, job->dir, h->bitmap_dir_bytes, r->dir_off,
                     Q2_META_BITMAP_DIRECTORY, err) == -1)
    return -1;
  r->nr_bitmaps = h->nr_bitmaps;
  r->dir_bytes = h->bitmap_dir_bytes;
  return q2_resize_note_old (r, h->bitmap_dir_offset, h->bitmap_dir_bytes,
                             err);
}

int
q2_resize_bitmaps (struct q2_resize *r, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (r->edit.w);
  struct job job = { .r = r };
  int result;

  if (h.nr_bitmaps == 0)
    return 0;
  job.dir = malloc (h.bitmap_dir_bytes + 1);
  if (job.dir == NULL)
    return q2_fail_nomem (err, "the bitmap directory");
  result = change_directory (&job, &h, err);
  free (job.dir);
  return result;
}
