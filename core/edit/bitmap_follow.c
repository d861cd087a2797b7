/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_follow.c - a set of bitmaps that is made while the disk changes.
 *
 * Owns      what of a live set is kept up, and what it needs for that.
 * Method    the set of the file is left as it is, and kept up.  Bits of it
 *           that are needed are copied from memory, where they are exact, into
 *           tables of the next set.  For those that are enabled there, and
 *           were not or are other ones, there are bits in memory, too; durable
 *           ones get clusters for all of their bits, since these are written
 *           where they are (write/bitmaps.c does that for the set of the
 *           file).  Then the tracker follows the set (track/following.h),
 *           until the header names it.
 *           If there are too many a bitmap is in use in the next set, as it
 *           would be after the next change.
 * Locks     the gate is claimed, and closed for a moment.
 */
#include "config.h"

#include "edit/bitmaps.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/buffer.h"
#include "base/error.h"
#include "track/following.h"
#include "track/tracked.h"

static struct q2_track *
track_of (const struct q2_bitmap_set *set)
{
  return &set->edit->w->track;
}

/* ---- What is kept up -------------------------------------------------- */

int
q2_bitmap_copy_make (const struct q2_bitmap_set *set,
                     const struct q2_bitmap *b, struct q2_bitmap_copy *ret,
                     struct qcow2_error *err)
{
  const uint64_t len = q2_track_bytes (track_of (set), b);

  *ret = (struct q2_bitmap_copy) { .bits = NULL };
  if (len == 0)
    return 0;
  if (q2_budget_take (q2_io_budget (&set->edit->io), len, "a bitmap", err)
      == -1)
    return -1;
  ret->bits = q2_buffer_alloc (len);
  if (ret->bits == NULL) {
    q2_budget_give (q2_io_budget (&set->edit->io), len);
    return q2_fail_nomem (err, "a bitmap");
  }
  ret->len = len;
  q2_track_copy (track_of (set), b, ret->bits);
  return 0;
}

void
q2_bitmap_copy_free (const struct q2_bitmap_set *set,
                     struct q2_bitmap_copy *copy)
{
  if (copy->bits == NULL)
    return;
  q2_buffer_free (copy->bits, copy->len);
  q2_budget_give (q2_io_budget (&set->edit->io), copy->len);
  copy->bits = NULL;
}

int
q2_bitmap_store_live (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
                      struct qcow2_error *err)
{
  struct q2_bitmap_reader reader;
  struct q2_bitmap_copy copy;
  int r;

  if (!q2_assume (set->live, err) ||
      q2_bitmap_copy_make (set, &slot->b, &copy, err) == -1)
    return -1;
  if (copy.bits == NULL)
    return 0;
  set->changed = true;
  slot->b.flags &= ~Q2_BITMAP_IN_USE;
  q2_bitmap_reader_init_memory (&reader, set->geo, &set->edit->io, &slot->b,
                                copy.bits, copy.len);
  r = q2_bitmap_merge (set, slot, &reader, 1, 0, err);
  q2_bitmap_copy_free (set, &copy);
  return r;
}

/* ---- What is going to be ---------------------------------------------- */

/* A cluster for entry 'i', with its bits. */
static int
make_cluster (struct q2_bitmap_set *set, struct q2_tracked *t, uint32_t i,
              unsigned char *buf, struct qcow2_error *err)
{
  const uint64_t size = set->geo->cluster_size, from = i * size;

  for (uint64_t at = 0; at < size; ++at)
    buf[at] = from + at < t->len ? t->bits[from + at] : 0;
  if (q2_edit_alloc (set->edit, size, Q2_META_BITMAP_BITS, &t->clusters[i],
                     err) == -1)
    return -1;
  return q2_edit_write (set->edit, buf, size, t->clusters[i],
                        Q2_META_BITMAP_BITS, err);
}

static int
fill (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
      struct q2_tracked *t, unsigned char *buf, struct qcow2_error *err)
{
  unsigned char *const table = buf + set->geo->cluster_size;

  for (uint32_t i = 0; i < t->table_entries; ++i) {
    if (make_cluster (set, t, i, buf, err) == -1)
      return -1;
    store_be64 (table + 8 * (uint64_t) i, t->clusters[i]);
  }
  return q2_bitmap_table_drop (set, slot, err) == -1 ? -1
    : q2_bitmap_table_make (set, slot, table, err);
}

/* Of a durable one. */
static int
fill_table (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
            struct q2_tracked *t, struct qcow2_error *err)
{
  struct qcow2_budget *const budget = q2_io_budget (&set->edit->io);
  const uint64_t bytes =
    set->geo->cluster_size + (uint64_t) t->table_entries * 8;
  unsigned char *buf;
  int r;

  if (q2_budget_take (budget, bytes, "the table of a bitmap", err) == -1)
    return -1;
  buf = q2_buffer_alloc (bytes);
  r = buf == NULL ? q2_fail_nomem (err, "the table of a bitmap")
    : fill (set, slot, t, buf, err);
  q2_buffer_free (buf, bytes);
  q2_budget_give (budget, bytes);
  return r;
}

static int
make_table (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
            struct q2_tracked *t, struct qcow2_error *err)
{
  if (slot->b.table_offset != 0 &&
      q2_tracked_load (track_of (set), &set->edit->io, &slot->b, t, err) == -1)
    return -1;
  if (t->durable != NULL)
    return fill_table (set, slot, t, err);
  return slot->b.table_offset != 0 ? 0
    : q2_bitmap_table_make (set, slot, NULL, err);
}

static int
make_next (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
           struct qcow2_error *err)
{
  struct q2_tracked *const t = q2_tracked_new (track_of (set), &slot->b, err);

  if (t == NULL)
    return -1;
  t->next = set->next;
  set->next = t;
  if (make_table (set, slot, t, err) == -1)
    return -1;
  t->table_offset = slot->b.table_offset;
  return 0;
}

static bool
is_next (const struct q2_bitmap_set *set, const struct q2_bitmap *b)
{
  return (b->flags & Q2_BITMAP_AUTO) && !(b->flags & Q2_BITMAP_IN_USE) &&
    b->extra_len == 0 && b->table_entries > 0 &&
    b->table_entries == q2_bitmap_nr_entries (set->geo, b) &&
    !q2_track_has (track_of (set), b);
}

int
q2_bitmap_set_make_next (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  size_t nr = 0;

  if (!q2_assume (set->live && set->next == NULL, err))
    return -1;
  for (size_t i = 0; i < set->nr; ++i)
    nr += q2_track_has (track_of (set), &set->slots[i].b);
  for (size_t i = 0; i < set->nr; ++i) {
    struct q2_bitmap_slot *const slot = &set->slots[i];

    if (!is_next (set, &slot->b))
      continue;
    if (nr >= Q2_MAX_TRACKED)
      q2_track_warn (track_of (set), &slot->b, "there are too many");
    else if (make_next (set, slot, err) == -1)
      return -1;
    ++nr;
  }
  return 0;
}

/* ---- The switch ------------------------------------------------------- */

void
q2_bitmap_set_follow (struct q2_bitmap_set *set, const struct q2_since *since)
{
  if (!q2_check (set->live && q2_gate_is_closed (&set->edit->image->gate)))
    return;
  q2_follow (track_of (set), set->next, since);
  set->next = NULL;
}

int
q2_bitmap_set_catch_up (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  return q2_follow_ready (track_of (set), &set->edit->io, (uint32_t) set->nr,
                          set->dir_offset, set->dir_bytes, err);
}

static bool
has (const void *opaque, const struct q2_track *track,
     const struct q2_tracked *t)
{
  const struct q2_bitmap_set *const set = opaque;
  const struct qcow2_name name = { t->name, t->name_len };
  const struct q2_bitmap_slot *const slot = q2_bitmap_set_find (set, &name);

  return slot != NULL && (slot->b.flags & Q2_BITMAP_AUTO) &&
    q2_tracked_is (track, t, &slot->b);
}

void
q2_bitmap_set_unfollow (struct q2_bitmap_set *set, bool switched)
{
  q2_follow_end (track_of (set), switched ? has : NULL, set);
}
