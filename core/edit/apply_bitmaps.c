/* SPDX-License-Identifier: BSD-3-Clause */
/* apply_bitmaps.c - bitmaps of a disk that is going to be what a snapshot has.
 *
 * Owns      what has to be in them: the difference of the two disks.
 * Method    the tables of both are compared as for a view of the difference,
 *           which needs no data; what differs is noted in memory, a bit for
 *           each granule, of larger granules if the disk is very large.  Each
 *           bitmap that is enabled and true gets new bits: its own, and those.
 *           If the disk changes its size the others get tables for that, too;
 *           what is behind the old end has changed.  One that is not true
 *           stays as it is, and one that nobody can keep up is marked as in
 *           use.  The set is switched to by whoever switches the header.
 * Locks     the gate is closed.
 */
#include "config.h"

#include "edit/apply_bitmaps.h"

#include "view/bitmap_view.h"
#include "view/diff.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>

#define MAX_RUNS 64

/* Tables that are loaded together, if the host is slow. */
#define PRELOAD 64

/* ---- What differs ------------------------------------------------------ */

/* All of it is of the disk as it is, up to the shorter end. */
static int
note_runs (const struct q2_apply_bitmaps *a, struct q2_mask *mask,
           const struct q2_io *io, uint64_t *off, uint64_t end,
           struct qcow2_error *err)
{
  struct q2_mask_run run[MAX_RUNS];
  struct q2_mask_runs runs = { run, 0, MAX_RUNS };

  if (mask->ops->runs (mask, io, *off, end - *off, true, &runs, err) == -1)
    return -1;
  if (!q2_assume (runs.nr > 0, err))
    return -1;
  for (size_t i = 0; i < runs.nr; ++i) {
    if (!q2_assume (run[i].len > 0 && run[i].len <= end - *off, err))
      return -1;
    if (run[i].set)
      q2_since_note (a->diff, run[i].len, *off);
    *off += run[i].len;
  }
  return 0;
}

static int
note_all (const struct q2_apply_bitmaps *a, struct q2_mask *mask,
          uint64_t end, struct qcow2_error *err)
{
  const struct q2_io *const io = &a->set.edit->io;
  const uint64_t span = (uint64_t) PRELOAD << a->old_geo->l1_shift;
  uint64_t off = 0;

  while (off < end) {
    const uint64_t next = end - off > span ? off + span : end;

    if (q2_progress_add (a->progress, 0, a->cancelled, err) == -1)
      return -1;
    if (q2_io_is_slow (io) && mask->ops->preload != NULL)
      mask->ops->preload (mask, io, off, next - off);
    while (off < next)
      if (note_runs (a, mask, io, &off, next, err) == -1)
        return -1;
  }
  return 0;
}

static bool
is_resized (const struct q2_apply_bitmaps *a)
{
  return a->old_geo->virtual_size != a->new_geo->virtual_size;
}

/* Whether somebody asks what differs. */
static bool
is_difference_needed (const struct q2_apply_bitmaps *a)
{
  bool needed = is_resized (a);

  for (size_t i = 0; i < a->set.nr; ++i)
    needed |= (a->set.slots[i].b.flags & Q2_BITMAP_AUTO) != 0;
  return needed;
}

static int
find_difference (struct q2_apply_bitmaps *a,
                 const struct q2_found_snapshot *found,
                 struct qcow2_error *err)
{
  struct q2_edit *const e = a->set.edit;
  const uint64_t was = a->old_geo->virtual_size;
  const uint64_t is = a->new_geo->virtual_size;
  struct q2_mask *mask;
  int r;

  a->diff = q2_since_new (a->new_geo, q2_bitmap_set_finest (&a->set),
                          q2_io_budget (&e->io), err);
  if (a->diff == NULL)
    return -1;
  if (Q2_PLANTED (Q2_PLANT_APPLY_FORGET))
    return 0;
  mask = q2_diff_since (e->image, e->io.host, found, err);
  if (mask == NULL)
    return -1;
  r = note_all (a, mask, q2_min (was, is), err);
  mask->ops->free (mask);
  if (is > was)
    q2_since_note (a->diff, is - was, was);
  return r;
}

/* ---- One bitmap --------------------------------------------------------- */

static int
fail_resize (const struct q2_bitmap *b, const char *what, const char *why,
             struct qcow2_error *err)
{
  char text[80];

  return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED,
                         QCOW2_ADVICE_REMOVE_BITMAP, QCOW2_NO_OFFSET,
                         "%s: it is of a disk of another size, and the bitmap "
                         "'%s' cannot be made for that: %s", what,
                         q2_printable (text, sizeof text, b->name,
                                       b->name_len), why);
}

static int
check_resize (const struct q2_apply_bitmaps *a, const struct q2_bitmap *b,
              const char *untrue, const char *what, struct qcow2_error *err)
{
  if (untrue != NULL)
    return fail_resize (b, what, untrue, err);
  if (a->new_geo->virtual_size == 0)
    return fail_resize (b, what, "a disk of 0 bytes cannot have one", err);
  return q2_bitmap_nr_entries (a->new_geo, b) << a->new_geo->cluster_bits <=
    Q2_BITMAP_MAX_BYTES ? 0
    : fail_resize (b, what, "it would be larger than the format allows", err);
}

/* New bits, and a table for the new disk; the old ones are dropped then. */
static int
make_bits (struct q2_apply_bitmaps *a, struct q2_bitmap_slot *slot,
           struct qcow2_error *err)
{
  const bool keep = slot->b.flags & Q2_BITMAP_AUTO;
  struct q2_bitmap_reader readers[2] = { { .geo = NULL } };
  struct q2_bitmap_slot new = *slot;
  const struct q2_io *const io = &a->set.edit->io;
  int r;

  new.made = false;
  new.b.table_offset = 0;
  new.b.table_entries =
    (uint32_t) q2_bitmap_nr_entries (a->new_geo, &slot->b);
  r = q2_bitmap_reader_init (&readers[0], a->old_geo, io, &slot->b, err);
  if (r == 0) {
    q2_bitmap_reader_init_memory (&readers[1], a->new_geo, io, &a->diff->like,
                                  (const unsigned char *) a->diff->bits,
                                  a->diff->len);
    a->set.geo = a->new_geo;
    r = q2_bitmap_merge (&a->set, &new, readers, keep ? 2 : 1, 0, err);
    a->set.geo = a->old_geo;
  }
  q2_bitmap_reader_destroy (&readers[0]);
  if (r == 0)
    r = q2_bitmap_table_drop (&a->set, slot, err);
  if (r == 0)
    *slot = new;
  a->set.changed = true;
  return r;
}

static int
carry (struct q2_apply_bitmaps *a, struct q2_bitmap_slot *slot,
       const char *what, struct qcow2_error *err)
{
  const struct qcow2_image *const image = a->set.edit->image;
  const char *untrue;
  struct q2_header h;

  /* Those that were kept up end with this disk. */
  if (q2_bitmap_store_tracked (&a->set, slot, err) == -1)
    return -1;
  h = q2_image_header (image);
  untrue = q2_bitmap_why_untrue (image, &h, &slot->b);
  if (is_resized (a) && check_resize (a, &slot->b, untrue, what, err) == -1)
    return -1;
  if (untrue == NULL)
    return is_resized (a) || ((slot->b.flags & Q2_BITMAP_AUTO) && a->diff->any)
      ? make_bits (a, slot, err) : 0;
  /* As before a guest's write (ORDER-7). */
  if ((slot->b.flags & (Q2_BITMAP_AUTO | Q2_BITMAP_IN_USE)) == Q2_BITMAP_AUTO)
    {
      slot->b.flags |= Q2_BITMAP_IN_USE;
      a->set.changed = true;
    }
  return 0;
}

/* ------------------------------------------------------------------------ */

static int
carry_all (struct q2_apply_bitmaps *a, const char *what,
           struct qcow2_error *err)
{
  for (size_t i = 0; i < a->set.nr; ++i)
    if (carry (a, &a->set.slots[i], what, err) == -1)
      return -1;
  return q2_bitmap_set_prepare (&a->set, err);
}

int
q2_apply_bitmaps_prepare (struct q2_apply_bitmaps *a, struct q2_edit *e,
                          const struct q2_found_snapshot *found,
                          const struct q2_geometry *new_geo, const char *what,
                          struct qcow2_error *err)
{
  a->old_geo = e->w->geo;
  a->new_geo = new_geo;
  a->any = q2_image_header (e->image).nr_bitmaps > 0;
  if (!a->any)
    return 0;
  if (q2_bitmap_set_init (&a->set, e, err) == -1)
    return -1;
  e->aside = false;             /* what is read next is the disk's */
  if (is_difference_needed (a) && find_difference (a, found, err) == -1)
    return -1;
  e->aside = true;
  return carry_all (a, what, err);
}

void
q2_apply_bitmaps_free (struct q2_apply_bitmaps *a)
{
  q2_since_free (a->diff);
  if (a->any)
    q2_bitmap_set_destroy (&a->set);
  a->diff = NULL;
  a->any = false;
}

void
q2_apply_bitmaps_finish (struct q2_apply_bitmaps *a)
{
  if (!a->any)
    return;
  q2_bitmap_set_finish (&a->set);
  q2_track_forget (&a->set.edit->w->track);
}
