/* SPDX-License-Identifier: BSD-3-Clause */
/* tree_walk.c - the walk through all that an L1 table refers to.
 *
 * Owns      the L1 table in memory; the walk; flags that tell whether an entry
 *           is alone; the pace.
 * Method    L2 tables are read in pieces, past the table cache.
 * Locks     none: the tables are constant, or nobody else changes them.
 */
#include "config.h"

#include "edit/tree_impl.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR UINT64_C (512)

/* ---- The L1 table ------------------------------------------------------ */

int
q2_tree_init (struct q2_tree *t, struct q2_edit *e, uint64_t nr,
              struct qcow2_error *err)
{
  *t = (struct q2_tree) { .edit = e, .nr = nr, .tables.nr = nr };
  if (!q2_assume (nr * 8 <= Q2_MAX_L1_BYTES, err) ||
      q2_budget_take (q2_io_budget (&e->io), nr * 9 + Q2_TREE_PIECE,
                      "an L1 table", err) == -1)
    return -1;
  t->charge = nr * 9 + Q2_TREE_PIECE;
  t->tables.l1 = calloc (nr + 1, 8);
  t->tables.shared = calloc (nr / 8 + 1, 1);
  t->buf = malloc (Q2_TREE_PIECE);
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

  if (!q2_assume (table != 0 && size % q2_min (size, Q2_TREE_PIECE) == 0, err))
    return -1;
  if (!q2_is_aligned (table, size) || table >= q2_io_size (io))
    return fail_table (table, err);
  for (uint64_t done = 0; done < size && *left > 0; done += Q2_TREE_PIECE) {
    const uint64_t len = q2_min (size - done, Q2_TREE_PIECE);

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
  q2_check (i % 8 == 0 && i < Q2_TREE_PIECE &&
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
                  q2_is_aligned (c->to, SECTOR) && c->to <= Q2_TREE_PIECE,
                  err))
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

/* Half of a processor at most while others write. */
int
q2_tree_rest (const struct q2_tree *t, struct q2_pace *p,
              struct qcow2_error *err)
{
  struct q2_edit *const e = t->edit;

  if (q2_space_is_filling (e->w->space) && q2_edit_commit (e, err) == -1)
    return -1;
  if (e->beside)
    q2_pace_rest (p, &e->image->gate, 1);
  return 0;
}
