/* SPDX-License-Identifier: BSD-3-Clause */
/* tree.c - all that an L1 table refers to: more or fewer references to it.
 *
 * Owns      the walk through a tree of tables, and flags that tell whether an
 *           entry is alone.
 * Method    L2 tables are read in pieces.  Of each piece the clusters are
 *           listed first, so that an entry that cannot be fails before any
 *           reference of its piece has changed.  A table is lowered after what
 *           it refers to: when nobody has it any more its bytes are gone.
 * Locks     the gate is closed, or, where others write, sharing.lock.
 */
#include "config.h"

#include "edit/tree_impl.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PIECE (UINT64_C (64) << 10)
#define SECTOR UINT64_C (512)

#define MAX_PAUSE_NS 20000000

/* ---- The L1 table ------------------------------------------------------ */

int
q2_tree_init (struct q2_tree *t, struct q2_edit *e, uint64_t nr,
              struct qcow2_error *err)
{
  *t = (struct q2_tree) { .edit = e, .nr = nr, .tables.nr = nr };
  if (!q2_assume (nr * 8 <= Q2_MAX_L1_BYTES, err) ||
      q2_budget_take (q2_io_budget (&e->io), nr * 9 + PIECE, "an L1 table",
                      err) == -1)
    return -1;
  t->charge = nr * 9 + PIECE;
  t->tables.l1 = calloc (nr + 1, 8);
  t->tables.shared = calloc (nr / 8 + 1, 1);
  t->buf = malloc (PIECE);
  return t->tables.l1 != NULL && t->tables.shared != NULL && t->buf != NULL
    ? 0 : q2_fail_nomem (err, "an L1 table");
}

int
q2_tree_load (struct q2_tree *t, struct q2_edit *e, uint64_t host_off,
              uint64_t stored, uint64_t nr, struct qcow2_error *err)
{
  uint64_t *l1;

  if (q2_tree_init (t, e, q2_max (nr, stored), err) == -1)
    return -1;
  t->host_off = host_off;
  t->stored = stored;
  l1 = t->tables.l1;
  if (stored > 0 && q2_io_read (&e->io, l1, stored * 8, host_off, QCOW2_IO_L1,
                                err) == -1)
    return -1;
  for (uint64_t i = 0; i < stored; ++i)
    l1[i] = load_be64 (&l1[i]);
  return 0;
}

void
q2_tree_free (struct q2_tree *t)
{
  if (t->edit == NULL)
    return;
  q2_budget_give (q2_io_budget (&t->edit->io), t->charge);
  q2_frees_destroy (&t->runs);
  q2_frees_destroy (&t->pending);
  free (t->buf);
  free (t->tables.shared);
  free (t->tables.l1);
}

uint64_t
q2_tree_tables (const struct q2_tree *t)
{
  uint64_t n = 0;

  for (uint64_t i = 0; i < t->nr; ++i)
    n += q2_tree_table (t, i) != 0;
  return n;
}

int
q2_tree_write_l1 (struct q2_tree *t, enum q2_meta_class class,
                  uint64_t *ret_host_off, struct qcow2_error *err)
{
  const uint64_t per_piece = PIECE / 8;
  const uint64_t all = t->nr + t->nr_new;

  if (q2_edit_alloc (t->edit, all * 8, class, ret_host_off, err) == -1)
    return -1;
  for (uint64_t i = 0; i < all; i += per_piece) {
    const uint64_t n = q2_min (all - i, per_piece);

    for (uint64_t k = 0; k < n; ++k)
      store_be64 (t->buf + 8 * k, q2_tree_table (t, i + k));
    if (q2_edit_write (t->edit, t->buf, 8 * n, *ret_host_off + 8 * i, class,
                       err) == -1)
      return -1;
  }
  return 0;
}

/* ---- The walk ---------------------------------------------------------- */

static int
fail_table (uint64_t table, struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR, table,
                         "the L2 table at offset 0x%" PRIx64 " is not "
                         "aligned, or not in the file", table);
}

int
q2_tree_walk (struct q2_tree *t, uint64_t table, q2_tree_piece_fn fn,
              uint64_t *left, struct qcow2_error *err)
{
  const struct q2_io *const io = &t->edit->io;
  const uint64_t size = t->edit->w->geo->l2_table_size;

  if (!q2_assume (table != 0 && size % q2_min (size, PIECE) == 0, err))
    return -1;
  if (!q2_is_aligned (table, size) || table >= q2_io_size (io))
    return fail_table (table, err);
  for (uint64_t done = 0; done < size && *left > 0; done += PIECE) {
    const uint64_t len = q2_min (size - done, PIECE);

    if (q2_io_read (io, t->buf, len, table + done, QCOW2_IO_L2, err) == -1 ||
        fn (t, table + done, len, left, err) == -1)
      return -1;
  }
  return 0;
}

int
q2_tree_tell (struct q2_tree *t, struct qcow2_error *err)
{
  struct qcow2_error why;

  if (t->progress == NULL ||
      q2_progress_add (t->progress, 1, t->state ? t->state : "", &why) == 0 ||
      t->state == NULL)
    return 0;
  *err = why;
  return -1;
}

/* ---- Flags ------------------------------------------------------------- */

void
q2_tree_set_flag (struct q2_tree *t, uint64_t i, bool copied,
                  struct q2_tree_flags *c)
{
  const uint64_t old = load_be64 (t->buf + i);

  /* From the front to the back. */
  q2_check (i % 8 == 0 && i < PIECE &&
            (c->to == 0 || i + SECTOR >= c->to));
  store_be64 (t->buf + i, copied ? old | Q2_ENTRY_COPIED
              : old & ~Q2_ENTRY_COPIED);
  if (c->to == 0)
    c->from = q2_align_down (i, SECTOR);
  c->to = q2_align_down (i, SECTOR) + SECTOR;
}

/* The readers' copies of it are not of the class that is written. */
int
q2_tree_write_flags (struct q2_tree *t, uint64_t host_off,
                     const struct q2_tree_flags *c, struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  const enum q2_meta_class found = q2_overlap_class (w->overlap, host_off);
  const bool is_l2 = found == Q2_META_L2 || found == Q2_META_SHARED_L2 ||
    found == Q2_META_INACTIVE_L2;

  if (c->to == 0)
    return 0;
  if (!q2_assume (c->from < c->to && q2_is_aligned (c->from, SECTOR) &&
                  q2_is_aligned (c->to, SECTOR) && c->to <= PIECE, err))
    return -1;
  if (q2_edit_write (t->edit, t->buf + c->from, c->to - c->from,
                     host_off + c->from, is_l2 ? found : Q2_META_L2, err)
      == -1)
    return -1;
  q2_tables_forget (w->tables,
                    q2_align_down (host_off, w->geo->cluster_size));
  return 0;
}

/* ---- Pace --------------------------------------------------------------- */

static uint64_t
cpu_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

void
q2_pace_begin (const struct q2_tree *t, struct q2_pace *p)
{
  *p = (struct q2_pace) {
    q2_gate_begun (&t->edit->image->gate), cpu_ns ()
  };
}

/* Nobody waits for it, and writers may wait for a processor: use half of one at
 * most while they write.
 */
int
q2_pace_keep (const struct q2_tree *t, struct q2_pace *p,
              struct qcow2_error *err)
{
  struct q2_edit *const e = t->edit;
  const uint64_t used = q2_min (cpu_ns () - p->cpu_ns, MAX_PAUSE_NS);

  if (q2_space_is_filling (e->w->space) && q2_edit_commit (e, err) == -1)
    return -1;
  if (e->beside && q2_gate_begun (&e->image->gate) != p->begun)
    nanosleep (&(struct timespec) { .tv_nsec = (long) used }, NULL);
  q2_pace_begin (t, p);
  return 0;
}

/* ---- More -------------------------------------------------------------- */

static int
raise_piece (struct q2_tree *t, uint64_t host_off, uint64_t len,
             uint64_t *left, struct qcow2_error *err)
{
  struct q2_edit *const e = t->edit;

  (void) left;
  if (q2_sharing_list (e->w->geo, t->buf, len, host_off, &t->runs, err) == -1)
    return -1;
  for (size_t i = 0; i < t->runs.nr; ++i)
    if (q2_sharing_raise (e->w, &e->io, NULL, t->runs.runs[i], &t->raised, err)
        == -1)
      return -1;
  return 0;
}

/* All of it, or nothing. */
static int
raise_table (struct q2_tree *t, uint64_t table, struct qcow2_error *err)
{
  struct q2_edit *const e = t->edit;
  const struct q2_free_run run = { table >> e->w->geo->cluster_bits, 1 };
  uint64_t all = UINT64_MAX;
  struct qcow2_error why;

  t->raised = 0;
  if (q2_tree_walk (t, table, raise_piece, &all, err) == 0 &&
      q2_sharing_raise (e->w, &e->io, NULL, run, &t->raised, err) == 0)
    return 0;
  if (t->raised > 0 && q2_tree_take_back (t, table, t->raised, &why) == -1)
    t->miscounted = true;
  return -1;
}

static int
clear_piece (struct q2_tree *t, uint64_t host_off, uint64_t len,
             uint64_t *left, struct qcow2_error *err)
{
  struct q2_tree_flags c = { 0, 0 };

  (void) left;
  for (uint64_t i = 0; i < len; i += q2_entry_size (t->edit->w->geo))
    if (load_be64 (t->buf + i) & Q2_ENTRY_COPIED)
      q2_tree_set_flag (t, i, false, &c);
  return q2_tree_write_flags (t, host_off, &c, err);
}

/* 'in_buf': the table was read last. */
static int
clear_flags (struct q2_tree *t, uint64_t table, bool in_buf,
             struct qcow2_error *err)
{
  const uint64_t size = t->edit->w->geo->l2_table_size;
  uint64_t all = UINT64_MAX;

  if (Q2_PLANTED (Q2_PLANT_KEEP_COPIED))
    return 0;
  return in_buf && size <= PIECE ? clear_piece (t, table, size, &all, err)
    : q2_tree_walk (t, table, clear_piece, &all, err);
}

/* The table is shared from now on; it is a snapshot's when that is published.
 * Until then it may be let go as often as its refcount says.
 */
static void
share_class (struct q2_tree *t, uint64_t table)
{
  struct q2_overlap *const overlap = t->edit->w->overlap;

  if (q2_overlap_class (overlap, table) == Q2_META_L2)
    q2_overlap_turn (overlap, table, Q2_META_SHARED_L2);
}

int
q2_tree_raise (struct q2_tree *t, struct qcow2_error *err)
{
  /* Tables are changed past the cache: see tree.h. */
  if (!q2_assume (!t->edit->switched && t->nr_shared == 0, err) ||
      !q2_assume (q2_tables_nr_dirty (t->edit->w->tables) == 0, err))
    return -1;
  for (uint64_t i = 0; i < t->nr; ++i) {
    const uint64_t table = q2_tree_table (t, i);

    if (table == 0)
      continue;
    if (raise_table (t, table, err) == -1)
      return -1;
    q2_shared_tables_note (&t->tables, i);
    t->nr_shared++;
    share_class (t, table);
    if (clear_flags (t, table, true, err) == -1 || q2_tree_tell (t, err) == -1)
      return -1;
  }
  return 0;
}

/* Not with the lock: others may do the same with it. */
static int
share_table (struct q2_tree *t, uint64_t i, struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  const uint64_t table = q2_tree_table (t, i);
  bool todo;
  int r = 0;

  if (q2_sharing_lock (w, i, &todo, err) == -1)
    return -1;
  if (todo) {
    r = raise_table (t, table, err);
    q2_sharing_done (w, i, r, t->miscounted, err);
  }
  q2_sharing_unlock (w);
  if (r == -1)
    return -1;
  t->nr_shared++;
  if (clear_flags (t, table, todo, err) == 0)
    return 0;
  /* What could not be written may reach the file later, when this could be
   * something else.
   */
  t->doubtful = table;
  t->miscounted = true;
  return -1;
}

/* No commit writes to any of them: all that they had is in the file.  If a
 * writer could not share one the disk has that back, and writes to it.
 */
static int
share_classes (struct q2_tree *t, struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  bool ignored;

  if (q2_sharing_lock (w, 0, &ignored, err) == -1)
    return -1;
  for (uint64_t i = 0; i < t->tables.nr; ++i)
    if (q2_tree_table (t, i) != 0)
      share_class (t, q2_tree_table (t, i));
  q2_sharing_unlock (w);
  return 0;
}

int
q2_tree_share (struct q2_tree *t, struct qcow2_error *err)
{
  struct q2_pace pace;

  q2_pace_begin (t, &pace);
  if (!q2_assume (!t->edit->switched && t->nr_shared == 0, err) ||
      share_classes (t, err) == -1)
    return -1;
  for (uint64_t i = 0; i < t->tables.nr; ++i) {
    if (q2_tree_table (t, i) == 0)
      continue;
    if (share_table (t, i, err) == -1 || q2_tree_tell (t, err) == -1 ||
        q2_pace_keep (t, &pace, err) == -1)
      return -1;
  }
  return 0;
}

void
q2_tree_protect (struct q2_tree *t)
{
  for (uint64_t i = 0; i < t->nr; ++i)
    if (q2_tree_table (t, i) != 0)
      q2_overlap_turn (t->edit->w->overlap, q2_tree_table (t, i),
                       Q2_META_INACTIVE_L2);
}
