/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_table.c - tables of bitmaps, and the clusters of bits they refer to.
 *
 * Owns      which clusters are released when a bitmap loses its table.
 * Method    what is to be released is claimed first, before anything is
 *           changed: each of its clusters is in the overlap set, as a table or
 *           as bits, or the edit fails.  After the switch only clusters are
 *           released that still are of that class, and then they are no more;
 *           so one that is named twice is released once.
 * Locks     none of its own: the gate is closed.
 * Spec      "Bitmap table".
 */
#include "config.h"

#include "edit/bitmaps.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

#define PIECE 4096
#define ZEROS (UINT64_C (64) << 10)

/* Entries of all tables, some of which may be one table. */
#define MAX_LOOKING (UINT64_C (1) << 30)

int
q2_bitmap_table_walk (const struct q2_io *io,
                      const struct q2_bitmap_table *t, q2_bitmap_entry_fn fn,
                      void *opaque, struct qcow2_error *err)
{
  const uint64_t len = (uint64_t) t->entries * 8;
  unsigned char buf[PIECE];

  for (uint64_t off = 0; off < len; off += PIECE) {
    const uint64_t n = q2_min (len - off, PIECE);

    if (q2_io_read (io, buf, n, t->offset + off, QCOW2_IO_HEADER, err) == -1)
      return -1;
    for (uint64_t i = 0; i < n; i += 8) {
      const uint64_t entry = load_be64 (buf + i);

      if (entry != 0 && fn (opaque, (off + i) / 8, entry, err) == -1)
        return -1;
    }
  }
  return 0;
}

/* ---- Making ----------------------------------------------------------- */

static int
write_zeros (struct q2_bitmap_set *set, uint64_t len, uint64_t host_off,
             struct qcow2_error *err)
{
  static const unsigned char zeros[ZEROS];

  for (uint64_t done = 0; done < len; done += ZEROS)
    if (q2_edit_write (set->edit, zeros, q2_min (len - done, ZEROS),
                       host_off + done, Q2_META_BITMAP_TABLE, err) == -1)
      return -1;
  return 0;
}

int
q2_bitmap_table_make (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
                      const unsigned char *entries, struct qcow2_error *err)
{
  const uint64_t len = (uint64_t) slot->b.table_entries * 8;
  uint64_t host_off;

  /* Who has one drops it first, or it is released by nobody. */
  if (!q2_assume (slot->b.table_offset == 0, err) ||
      q2_edit_alloc (set->edit, len, Q2_META_BITMAP_TABLE, &host_off, err)
      == -1 ||
      (entries == NULL ? write_zeros (set, len, host_off, err)
       : q2_edit_write (set->edit, entries, len, host_off,
                        Q2_META_BITMAP_TABLE, err)) == -1)
    return -1;
  slot->b.table_offset = host_off;
  slot->made = true;
  return 0;
}

/* ---- Where they are --------------------------------------------------- */

/* What an entry refers to, or 0 if that cannot be a cluster of bits. */
static uint64_t
cluster_of (const struct q2_bitmap_set *set, uint64_t entry)
{
  const uint64_t host_off = q2_bitmap_table_cluster (entry);

  return q2_bitmap_table_is_valid (set->geo, entry) &&
    host_off < q2_io_size (&set->edit->io) ? host_off : 0;
}

static bool
is_in_file (const struct q2_bitmap_set *set, const struct q2_bitmap_table *t)
{
  const uint64_t size = q2_align_up (q2_io_size (&set->edit->io), 8);

  return t->offset <= size && (uint64_t) t->entries * 8 <= size - t->offset;
}

/* ---- Sharing ---------------------------------------------------------- */

int
q2_bitmap_claim_alone (const struct q2_bitmap_set *set,
                       struct q2_overlap *mine, uint64_t host_off,
                       uint64_t len, enum q2_meta_class class,
                       struct qcow2_error *err)
{
  const uint64_t size = set->geo->cluster_size;

  if (!q2_assume (len > 0 && q2_is_aligned (host_off, size), err))
    return -1;
  for (uint64_t off = host_off; off < host_off + len; off += size) {
    if (q2_overlap_class (mine, off) != Q2_META_NONE)
      return q2_fail_advise (err, QCOW2_ERR_CORRUPT,
                             QCOW2_ADVICE_REMOVE_BROKEN, off,
                             "bitmaps share the cluster at offset 0x%" PRIx64,
                             off);
    if (q2_overlap_check (set->edit->w->overlap, off, 1, class, err) == -1 ||
        q2_overlap_add (mine, off, 1, class, err) == -1)
      return -1;
  }
  return 0;
}

struct looking {
  struct q2_bitmap_set *set;
  struct q2_overlap *mine;
  struct q2_work work;
};

static int
look_at_entry (void *opaque, uint64_t index, uint64_t entry,
               struct qcow2_error *err)
{
  struct looking *const l = opaque;
  const uint64_t host_off = cluster_of (l->set, entry);

  (void) index;
  if (q2_work_do (&l->work, 1, err) == -1)
    return -1;
  return host_off == 0 ? 0
    : q2_bitmap_claim_alone (l->set, l->mine, host_off, 1,
                             Q2_META_BITMAP_BITS, err);
}

static int
look_at_tables (struct looking *l, struct qcow2_error *err)
{
  for (size_t i = 0; i < l->set->nr; ++i) {
    const struct q2_bitmap_slot *const slot = &l->set->slots[i];
    const struct q2_bitmap_table t = {
      slot->b.table_offset, slot->b.table_entries, slot->made,
    };

    if (t.offset == 0 || t.made || !is_in_file (l->set, &t))
      continue;
    if (q2_work_do (&l->work, t.entries, err) == -1 ||
        q2_bitmap_claim_alone (l->set, l->mine, t.offset,
                               (uint64_t) t.entries * 8,
                               Q2_META_BITMAP_TABLE, err) == -1 ||
        q2_bitmap_table_walk (&l->set->edit->io, &t, look_at_entry, l, err)
        == -1)
      return -1;
  }
  return 0;
}

/* Before the first of them loses its table.  As a rule it is known. */
static int
check_alone (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  const struct q2_writer *const w = set->edit->w;
  struct qcow2_budget *const budget = q2_io_budget (&set->edit->io);
  struct looking l = {
    .set = set, .work = q2_work_begin (budget, MAX_LOOKING,
                                       "looking at all bitmaps"),
  };

  if (set->alone || (w->bitmaps_known && !w->bitmaps_share))
    return 0;
  l.mine = q2_overlap_new (set->geo->cluster_bits, budget, err);
  if (l.mine == NULL)
    return -1;
  set->alone = look_at_tables (&l, err) == 0;
  q2_work_end (&l.work);
  q2_overlap_free (l.mine);
  return set->alone ? 0 : -1;
}

/* ---- Dropping --------------------------------------------------------- */

static int
claim_bits (void *opaque, uint64_t index, uint64_t entry,
            struct qcow2_error *err)
{
  const struct q2_bitmap_set *const set = opaque;
  const uint64_t host_off = cluster_of (set, entry);

  (void) index;
  return host_off == 0 ? 0
    : q2_overlap_add (set->edit->w->overlap, host_off,
                      set->geo->cluster_size, Q2_META_BITMAP_BITS, err);
}

static int
claim (struct q2_bitmap_set *set, const struct q2_bitmap_table *t,
       struct qcow2_error *err)
{
  if (!is_in_file (set, t))
    return 0;                   /* nothing of it is released */
  if (q2_overlap_add (set->edit->w->overlap, t->offset,
                      (uint64_t) t->entries * 8, Q2_META_BITMAP_TABLE, err)
      == -1)
    return -1;
  return q2_bitmap_table_walk (&set->edit->io, t, claim_bits, set, err);
}

static int
note_dropped (struct q2_bitmap_set *set, const struct q2_bitmap_table *t,
              struct qcow2_error *err)
{
  if (!q2_assume (set->nr_dropped <= set->max_dropped && !set->edit->switched,
                  err))
    return -1;
  if (set->nr_dropped == set->max_dropped) {
    const size_t max = set->max_dropped > 0 ? 2 * set->max_dropped : 16;
    struct q2_bitmap_table *const dropped =
      realloc (set->dropped, max * sizeof *dropped);

    if (dropped == NULL)
      return q2_fail_nomem (err, "the tables of bitmaps");
    set->dropped = dropped;
    set->max_dropped = max;
  }
  set->dropped[set->nr_dropped++] = *t;
  return 0;
}

int
q2_bitmap_table_drop (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
                      struct qcow2_error *err)
{
  const struct q2_bitmap_table t = {
    slot->b.table_offset, slot->b.table_entries, slot->made,
  };

  if (t.offset == 0)
    return 0;
  if (!t.made && check_alone (set, err) == -1)
    return -1;
  if ((!t.made && claim (set, &t, err) == -1) ||
      note_dropped (set, &t, err) == -1)
    return -1;
  slot->b.table_offset = 0;
  slot->made = false;
  return 0;
}

/* ---- Releasing -------------------------------------------------------- */

/* One without a refcount has none that could be taken. */
static bool
is_counted (const struct q2_edit *e, uint64_t cluster)
{
  struct qcow2_error ignored;
  uint64_t uncounted;

  return q2_space_find_uncounted (e->w->space, &e->io, cluster, 1,
                                  &uncounted, &ignored) == 0 &&
    uncounted != cluster;
}

static void
release (struct q2_bitmap_set *set, uint64_t host_off, uint64_t len,
         enum q2_meta_class class)
{
  struct q2_edit *const e = set->edit;
  const unsigned bits = set->geo->cluster_bits;

  if (!q2_check (q2_is_aligned (host_off, set->geo->cluster_size)))
    return;
  for (uint64_t off = host_off; off < host_off + len;
       off += set->geo->cluster_size)
    if (q2_overlap_class (e->w->overlap, off) == class &&
        is_counted (e, off >> bits))
      q2_edit_let_go (e, off >> bits, 1);
}

static int
release_bits (void *opaque, uint64_t index, uint64_t entry,
              struct qcow2_error *err)
{
  struct q2_bitmap_set *const set = opaque;
  const uint64_t host_off = cluster_of (set, entry);

  (void) index;
  (void) err;
  if (host_off != 0)
    release (set, host_off, 1, Q2_META_BITMAP_BITS);
  return 0;
}

static void
release_table (struct q2_bitmap_set *set, const struct q2_bitmap_table *t)
{
  struct qcow2_error why;

  if (!is_in_file (set, t))
    q2_writer_log (set->edit->w, QCOW2_LOG_WARNING, "space of a bitmap is "
                   "leaked, since its table is not in the file",
                   QCOW2_ADVICE_CHECK);
  else if (q2_bitmap_table_walk (&set->edit->io, t, release_bits, set, &why)
           == -1)
    q2_writer_log (set->edit->w, QCOW2_LOG_WARNING, why.text,
                   QCOW2_ADVICE_CHECK);
  else
    release (set, t->offset, (uint64_t) t->entries * 8,
             Q2_META_BITMAP_TABLE);
}

void
q2_bitmap_set_release (struct q2_bitmap_set *set, uint64_t old_dir_offset)
{
  for (size_t i = 0; i < set->nr_dropped; ++i)
    release_table (set, &set->dropped[i]);
  if (old_dir_offset != 0)
    release (set, old_dir_offset, set->old.len, Q2_META_BITMAP_DIRECTORY);
}
