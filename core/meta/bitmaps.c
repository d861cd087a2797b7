/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmaps.c - the directory of persistent bitmaps of an image.
 *
 * Owns      reading the directory, and the flag in it that says that a
 *           bitmap was not stored after the last write.
 * Method    the directory is read as a whole: at most 64 MiB, and no more
 *           than the file has.  It is decoded twice, so that a broken entry
 *           is found before anything is done about those in front of it.
 * Locks     none; the caller is alone with the image.
 * Does not  read or write a bitmap, or flush.
 * Spec      "Bitmap directory": entries are aligned to 8 bytes, so their
 *           flags never cross a sector, and each changes at once.
 */
#include "config.h"

#include "meta/bitmaps.h"

#include "base/be.h"
#include "base/buffer.h"
#include "base/error.h"

#include <inttypes.h>

/* Entries [p, p+len) at 'host_off'; fn may be NULL.  Returns what ended it.
 */
static int
walk_entries (const struct q2_geometry *geo, const struct q2_header *h,
              const unsigned char *p, q2_bitmap_fn fn, void *opaque,
              struct qcow2_error *err)
{
  const uint64_t len = h->bitmap_dir_bytes;
  uint64_t pos = 0;

  for (uint32_t i = 0; i < h->nr_bitmaps; ++i) {
    const uint64_t host_off = h->bitmap_dir_offset + pos;
    struct q2_bitmap b;
    int r = 0;

    if (q2_bitmap_decode (geo, p + pos, len - pos, host_off, &b, err) == -1)
      return -1;
    if (fn != NULL)
      r = fn (opaque, &b, host_off, err);
    if (r != 0)
      return r;
    pos += b.entry_len;
  }
  if (pos != len)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BROKEN,
                           h->bitmap_dir_offset,
                           "the bitmap directory at offset 0x%" PRIx64 " has "
                           "more than its %u entries", h->bitmap_dir_offset,
                           h->nr_bitmaps);
  return 0;
}

int
q2_bitmaps_read (const struct q2_io *io, const struct q2_header *h,
                 struct q2_bitmap_dir *ret, struct qcow2_error *err)
{
  const uint64_t len = h->nr_bitmaps > 0 ? h->bitmap_dir_bytes : 0;
  const uint64_t file_end = q2_align_up (q2_io_size (io), 8);
  struct q2_bitmap_dir dir = { .len = len };

  if (len > 0 && (h->bitmap_dir_offset > file_end ||
                  len > file_end - h->bitmap_dir_offset))
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BROKEN,
                           h->bitmap_dir_offset,
                           "the bitmap directory at offset 0x%" PRIx64
                           " does not end inside the file",
                           h->bitmap_dir_offset);
  if (q2_budget_take (q2_io_budget (io), len, "the bitmap directory", err)
      == -1)
    return -1;
  dir.bytes = q2_buffer_alloc (len ? len : 1);
  if (dir.bytes == NULL) {
    q2_budget_give (q2_io_budget (io), len);
    return q2_fail_nomem (err, "the bitmap directory");
  }
  if (len > 0 && q2_io_read (io, dir.bytes, len, h->bitmap_dir_offset,
                             QCOW2_IO_HEADER, err) == -1) {
    q2_bitmaps_free (io, &dir);
    return -1;
  }
  *ret = dir;
  return 0;
}

void
q2_bitmaps_free (const struct q2_io *io, struct q2_bitmap_dir *dir)
{
  if (dir->bytes == NULL)
    return;
  q2_buffer_free (dir->bytes, dir->len ? dir->len : 1);
  q2_budget_give (q2_io_budget (io), dir->len);
  *dir = (struct q2_bitmap_dir) { .len = 0 };
}

int
q2_bitmaps_walk (const struct q2_io *io, const struct q2_header *h,
                 const struct q2_geometry *geo, q2_bitmap_fn fn,
                 void *opaque, struct qcow2_error *err)
{
  struct q2_bitmap_dir dir;
  int r;

  if (h->nr_bitmaps == 0)
    return 0;
  if (q2_bitmaps_read (io, h, &dir, err) == -1)
    return -1;
  r = walk_entries (geo, h, dir.bytes, NULL, NULL, err);
  if (r == 0)
    r = walk_entries (geo, h, dir.bytes, fn, opaque, err);
  q2_bitmaps_free (io, &dir);
  return r == -1 ? -1 : 0;
}

struct marking {
  const struct q2_io *io;
  struct q2_overlap *overlap;
  q2_bitmap_kept_fn is_kept;
  const void *opaque;
};

/* Nobody has to keep a bitmap up that is disabled: it stays as true as it is.
 */
static int
mark_one (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
          struct qcow2_error *err)
{
  const struct marking *const m = opaque;
  const uint64_t flags_off = host_off + Q2_BITMAP_FLAGS_OFF;
  unsigned char flags[4];

  if (!(b->flags & Q2_BITMAP_AUTO) || (b->flags & Q2_BITMAP_IN_USE) ||
      m->is_kept (m->opaque, b))
    return 0;
  store_be32 (flags, b->flags | Q2_BITMAP_IN_USE);
  if (q2_overlap_check (m->overlap, flags_off, sizeof flags,
                        Q2_META_BITMAP_DIRECTORY, err) == -1)
    return -1;
  return q2_io_write (m->io, flags, sizeof flags, flags_off, QCOW2_IO_HEADER,
                      err);
}

int
q2_bitmaps_mark_in_use (const struct q2_io *io, const struct q2_header *h,
                        const struct q2_geometry *geo,
                        struct q2_overlap *overlap,
                        q2_bitmap_kept_fn is_kept, const void *opaque,
                        struct qcow2_error *err)
{
  struct marking m = { io, overlap, is_kept, opaque };

  if (!(h->autoclear & Q2_AUTOCLEAR_BITMAPS))
    return 0;
  return q2_bitmaps_walk (io, h, geo, mark_one, &m, err);
}
