/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_view.c - lists the persistent bitmaps of an image, and opens them.
 *
 * Owns      the rules for trusting a bitmap.
 * Method    a bitmap marks changes since a client's last copy of the disk.
 *           One that missed a write would lead to a copy that is silently
 *           wrong, so bitmaps that may be stale are refused, with a remedy in
 *           the message.  A disabled bitmap is a fixed set of bits, which
 *           writes do not make stale.
 * Locks     none: it reads only constant fields of the image, and whether the
 *           image has been written to, an atomic.  For the message of a
 *           bitmap that is refused it goes through the gate.
 */
#include "config.h"

#include "view/bitmap_view.h"
#include "view/view.h"

#include "meta/bitmaps.h"

#include "base/assume.h"
#include "base/error.h"

#include <inttypes.h>

/* The disk may be growing: what counts is the size that the header has. */
static bool
fits (const struct qcow2_image *image, const struct q2_header *h,
      const struct q2_bitmap *b)
{
  struct q2_geometry geo = q2_geometry_copy (&image->geo);

  geo.virtual_size = h->virtual_size;
  return b->table_entries == q2_bitmap_nr_entries (&geo, b);
}

const char *
q2_bitmap_why_unusable (const struct qcow2_image *image,
                        const struct q2_header *h, const struct q2_bitmap *b)
{
  if (q2_writer_is_for_disk (&image->writer) && (b->flags & Q2_BITMAP_AUTO))
    return "the image has been written to since it was opened";
  return q2_bitmap_why_untrue (image, h, b);
}

const char *
q2_bitmap_why_untrue (const struct qcow2_image *image,
                      const struct q2_header *h, const struct q2_bitmap *b)
{
  if (b->flags & Q2_BITMAP_IN_USE)
    return "it is marked as in use: whoever wrote to the image has not stored "
      "it";
  if (b->extra_len > 0)
    return "it has extra data, of a kind that is not known";
  return fits (image, h, b) ? NULL : "its size does not fit the disk";
}

/* ---- Opening -------------------------------------------------------- */

struct search {
  struct qcow2_image *image;
  const struct q2_io *io;
  const struct qcow2_name *name;
  struct q2_bitmap_moment when;
  bool found;
  struct q2_mask *mask;
};

/* It is true, but somewhere else than a view could read it, or not for long.
 * As for a list of bitmaps: see qcow2_list_bitmaps_kept.
 */
static bool
is_kept_up (struct qcow2_image *image, const struct q2_bitmap *b)
{
  bool kept;

  if (!(b->flags & Q2_BITMAP_AUTO))
    return false;
  q2_gate_enter (&image->gate);
  atomic_fetch_add (&image->idle.changes, 1);
  kept = q2_writer_keeps_bitmap (&image->writer, b);
  q2_gate_leave (&image->gate);
  return kept;
}

static int
refuse (const struct search *search, const struct q2_bitmap *b,
        uint64_t host_off, const char *why, struct qcow2_error *err)
{
  char text[200];

  q2_printable (text, sizeof text, b->name, b->name_len);
  if (is_kept_up (search->image, b))
    return q2_fail_advise (err, QCOW2_ERR_REFUSED, QCOW2_ADVICE_END_BITMAP,
                           host_off,
                           "the bitmap '%s' is enabled, so each write to the "
                           "disk changes it", text);
  return q2_fail_advise (err, QCOW2_ERR_REFUSED, QCOW2_ADVICE_NEW_BITMAP,
                         host_off,
                         "the bitmap '%s' does not tell what has changed: %s",
                         text, why);
}

static int
open_one (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
          struct qcow2_error *err)
{
  struct search *const search = opaque;
  const char *why;

  if (!q2_name_is (search->name, b->name, b->name_len))
    return 0;
  search->found = true;
  why = q2_bitmap_why_unusable (search->image, &search->when.header, b);
  if (why != NULL)
    return refuse (search, b, host_off, why, err);
  search->mask = q2_bits_new (search->image, search->io, b, &search->when,
                              err);
  return search->mask == NULL ? -1 : 1;
}

static int
fail_not_found (const struct search *search, struct qcow2_error *err)
{
  char text[200];

  q2_printable (text, sizeof text, search->name->bytes, search->name->len);
  if (q2_image_header (search->image).stale_bitmaps)
    return q2_fail_advise (err, QCOW2_ERR_REFUSED, QCOW2_ADVICE_NEW_BITMAP,
                           QCOW2_NO_OFFSET,
                           "the bitmaps of the image, '%s' or not, mean "
                           "nothing any more: a program that does not know "
                           "bitmaps has written to it", text);
  return q2_fail_advise (err, QCOW2_ERR_NOT_FOUND, QCOW2_ADVICE_LIST_BITMAPS,
                         QCOW2_NO_OFFSET, "the image has no bitmap with the "
                         "name '%s'", text);
}

static struct q2_mask *
open_mask (struct qcow2_image *image, const struct q2_io *io,
           const struct qcow2_name *name, struct qcow2_error *err)
{
  struct search search = {
    .image = image, .io = io, .name = name,
    .when = { q2_image_header (image),
              q2_writer_disk_epoch (&image->writer) },
  };
  int r = q2_bitmaps_walk (io, &search.when.header, &image->geo, open_one,
                           &search, err);

  if (r == 0 && !search.found)
    r = fail_not_found (&search, err);
  return r == -1 ? NULL : search.mask;
}

/* Bits are for a disk of the present size. */
static struct qcow2_image *
open_snapshot (struct qcow2_image *image, const struct qcow2_io *host,
               const struct q2_found_snapshot *found, struct qcow2_error *err)
{
  const uint64_t size = q2_image_info (image).virtual_size;

  if (found->s.disk_size == size)
    return q2_snapshot_open (image, host, found, err);
  q2_fail (err, QCOW2_ERR_REFUSED, found->host_off,
           "the disk of the snapshot has %" PRIu64 " bytes, but the bitmap is "
           "for one of %" PRIu64, found->s.disk_size, size);
  return NULL;
}

struct qcow2_image *
q2_bitmap_open (struct qcow2_image *image, const struct qcow2_io *host,
                const struct qcow2_name *name, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  struct qcow2_image *base = image;
  struct q2_bitmap_at at;
  struct q2_mask *mask;

  if (q2_bitmap_at_find (image, host, name, &at, err) == -1)
    return NULL;
  mask = open_mask (image, &io, at.found ? &at.bitmap : name, err);
  if (mask == NULL)
    return NULL;
  if (at.found)
    base = open_snapshot (image, host, &at.snapshot, err);
  if (base == NULL) {
    mask->ops->free (mask);
    return NULL;
  }
  return q2_mask_open (image, base, mask,
                       "it is a part of a disk, shown by a bitmap", err);
}
