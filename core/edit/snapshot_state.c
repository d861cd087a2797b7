/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_state.c - saves the memory of a virtual machine with a snapshot
 * that is being taken.
 *
 * Owns      the clusters that it is written to, and the L2 tables of those,
 *           until the snapshot has them.
 * Method    it lies behind the disk, from where the last L2 table of that
 *           ends, in the same way as the disk.  All is new: nothing names it
 *           but the L1 table of the snapshot, so it is never a part of the
 *           disk, its entries are not COPIED, and no refcount is raised.
 *           Whoever gives up gives back what was handed out (edit.h).
 * Locks     none but the gate, closed or claimed (edit.h).
 * Spec      "Snapshots": "VM state".
 */
#include "config.h"

#include "edit/taking.h"

#include "base/assume.h"
#include "base/buffer.h"
#include "base/error.h"
#include "format/entry.h"

#include <inttypes.h>
#include <string.h>

/* What is written at once, unless a cluster is larger. */
#define PIECE (UINT64_C (1) << 20)

static const char what[] = "the VM state cannot be saved";

struct saving {
  struct q2_taking *taking;
  const struct qcow2_vm_state *state;
  unsigned char *buf, *table;
  uint64_t piece;               /* bytes of buf, whole clusters */
  uint64_t start;               /* where it begins, as if the disk went on */
};

/* ---- Its place --------------------------------------------------------- */

int
q2_taking_check_state (const struct qcow2_image *image,
                       const struct qcow2_vm_state *state,
                       struct qcow2_error *err)
{
  const struct q2_geometry *const geo = &image->geo;
  const uint64_t most = Q2_MAX_L1_BYTES / 8;
  const uint64_t room = (most - q2_min (geo->l1_needed, most))
    << geo->l1_shift;

  if (state->size == 0)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "%s: it is empty", what);
  if (geo->version < 3 && state->size > UINT32_MAX)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "%s: it has %" PRIu64 " bytes, and programs that read "
                    "version 2 know of at most %" PRIu32, what, state->size,
                    UINT32_MAX);
  if (state->size > room)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "%s: it has %" PRIu64 " bytes, and behind the disk there "
                    "is room for %" PRIu64, what, state->size, room);
  return 0;
}

uint64_t
q2_taking_state_tables (const struct q2_taking *c)
{
  const struct qcow2_vm_state *const state = c->options->vm_state;

  return state == NULL ? 0
    : q2_ceil_shift (state->size, c->edit->w->geo->l1_shift);
}

/* ---- Its bytes --------------------------------------------------------- */

/* What is wrong with the source is no matter of the image. */
static int
read_state (const struct saving *s, uint32_t len, uint64_t off,
            struct qcow2_error *err)
{
  if (s->state->read (s->state->opaque, s->buf, len, off, err) == 0)
    return 0;
  if (err->kind != QCOW2_ERR_CANCELLED)
    err->kind = QCOW2_ERR_IO;
  err->offset = QCOW2_NO_OFFSET;
  return -1;
}

/* 'nr' clusters of the buffer, from the first one on, go to wherever there is
 * space; their entries are those of the table from 'entry' on.
 */
static int
write_clusters (struct saving *s, uint64_t off, uint64_t nr, uint64_t entry,
                struct qcow2_error *err)
{
  struct q2_edit *const e = s->taking->edit;
  const struct q2_geometry *const geo = e->w->geo;
  const unsigned bits = geo->cluster_bits;
  uint64_t done = 0;

  while (done < nr) {
    struct q2_place place = { .guest_off = s->start + off + (done << bits) };
    uint64_t n;

    if (q2_edit_alloc_some (e, place.guest_off >> bits, nr - done,
                            &place.host_off, &n, err) == -1 ||
        q2_store_write (e->w->store, &e->io, s->buf + (done << bits),
                        n << bits, place, err) == -1)
      return -1;
    for (uint64_t i = 0; i < n; ++i)
      q2_entry_store (geo, s->table +
                      ((entry + done + i) << geo->entry_bits),
                      place.host_off + (i << bits), false,
                      Q2_ALL_SUBCLUSTERS, 0);
    done += n;
  }
  return 0;
}

/* 'len' bytes at 'off'.  The rest of the last cluster is zeros. */
static int
save_piece (struct saving *s, uint64_t off, uint32_t len, uint64_t entry,
            struct qcow2_error *err)
{
  const struct q2_geometry *const geo = s->taking->edit->w->geo;
  const uint64_t padded = q2_align_up (len, geo->cluster_size);

  if (!q2_assume (len > 0 && padded <= s->piece, err) ||
      !q2_assume (entry + (padded >> geo->cluster_bits) <=
                  UINT64_C (1) << geo->l2_bits, err) ||
      read_state (s, len, off, err) == -1)
    return -1;
  memset (s->buf + len, 0, padded - len);
  return write_clusters (s, off, padded >> geo->cluster_bits, entry, err);
}

/* All that one L2 table maps, and the table. */
static int
save_table (struct saving *s, uint64_t nr, struct qcow2_error *err)
{
  struct q2_edit *const e = s->taking->edit;
  struct q2_tree *const tree = &s->taking->tree;
  const struct q2_geometry *const geo = e->w->geo;
  const uint64_t first = nr << geo->l1_shift;
  const uint64_t end =
    q2_min (s->state->size, first + (UINT64_C (1) << geo->l1_shift));
  uint64_t host_off;

  memset (s->table, 0, geo->l2_table_size);
  for (uint64_t off = first; off < end; off += s->piece)
    if (save_piece (s, off, (uint32_t) q2_min (s->piece, end - off),
                    (off - first) >> geo->cluster_bits, err) == -1 ||
        q2_progress_add (&s->taking->progress, 1, tree->state, err) == -1)
      return -1;
  if (q2_edit_alloc (e, geo->l2_table_size, Q2_META_INACTIVE_L2, &host_off,
                     err) == -1 ||
      q2_edit_write (e, s->table, geo->l2_table_size, host_off,
                     Q2_META_INACTIVE_L2, err) == -1)
    return -1;
  tree->tables.l1[tree->nr + nr] = host_off;
  return 0;
}

/* A table maps one of these, or several. */
static uint64_t
piece_size (const struct q2_geometry *geo)
{
  return q2_min (q2_max (PIECE, geo->cluster_size),
                 UINT64_C (1) << geo->l1_shift);
}

uint64_t
q2_taking_state_pieces (const struct q2_taking *c)
{
  const struct qcow2_vm_state *const state = c->options->vm_state;

  return state == NULL ? 0
    : (state->size - 1) / piece_size (c->edit->w->geo) + 1;
}

int
q2_taking_save_state (struct q2_taking *c, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->edit->w->geo;
  struct qcow2_budget *const budget = q2_io_budget (&c->edit->io);
  struct saving s = {
    .taking = c, .state = c->options->vm_state,
    .piece = piece_size (geo),
    .start = c->tree.nr << geo->l1_shift,
  };
  int r = 0;

  if (!q2_assume (c->tree.nr >= geo->l1_needed, err) ||
      !q2_assume (c->tree.nr_new == q2_taking_state_tables (c), err) ||
      q2_budget_take (budget, s.piece + geo->l2_table_size, "a VM state", err)
      == -1)
    return -1;
  s.buf = q2_buffer_alloc (s.piece);
  s.table = q2_buffer_alloc (geo->l2_table_size);
  if (s.buf == NULL || s.table == NULL)
    r = q2_fail_nomem (err, "a VM state");
  for (uint64_t i = 0; r == 0 && i < c->tree.nr_new; ++i)
    r = save_table (&s, i, err);
  q2_buffer_free (s.buf, s.piece);
  q2_buffer_free (s.table, geo->l2_table_size);
  q2_budget_give (budget, s.piece + geo->l2_table_size);
  return r;
}
