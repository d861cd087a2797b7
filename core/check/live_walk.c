/* SPDX-License-Identifier: BSD-3-Clause */
/* live_walk.c - what an image that is being written to has in memory.
 *
 * Owns      the walks over the refcount structure and over the tables of the
 *           disk, as they are now.
 * Locks     none; what is in memory guards itself (struct q2_live).
 */
#include "config.h"

#include "check/walk.h"

#include "format/l2e.h"

#include "base/assume.h"
#include "base/bits.h"

/* Refcount blocks. */
#define AT_ONCE 256u

int
q2_walk_live_refcounts (struct q2_walk *w, struct qcow2_error *err)
{
  const struct q2_live *const live = w->live->live;
  const uint64_t size = w->geo->cluster_size;
  uint64_t off[AT_ONCE], table_off, clusters, nr;

  for (uint64_t i = 0;; i += nr) {
    if (live->blocks (live->opaque, i, AT_ONCE, off, &nr, &table_off,
                      &clusters, err) == -1 ||
        q2_work_do (&w->work, AT_ONCE, err) == -1)
      return -1;
    if (i == 0 && q2_walk_use_table (w, table_off, clusters * size,
                                     "the refcount table", err) == -1)
      return -1;
    if (nr == 0)
      return 0;
    for (uint64_t k = 0; k < nr; ++k)
      if (off[k] != 0 &&
          q2_walk_use_table (w, off[k], size, "a refcount block", err) == -1)
        return -1;
  }
}

/* Where no table can be there is none to be read. */
static bool
is_place_of_table (struct q2_walk *w, uint64_t host_off)
{
  return host_off != 0 && q2_is_aligned (host_off, w->geo->cluster_size) &&
    host_off < q2_io_size (w->io);
}

static int
use_live_table (struct q2_walk *w, uint64_t l1_index,
                struct qcow2_error *err)
{
  const struct q2_live *const live = w->live->live;
  uint64_t entry;

  if (!q2_assume (w->geo->cluster_size <= w->buf_size, err) ||
      live->read_table (live->opaque, l1_index, &entry, NULL, err) == -1)
    return -1;
  w->table_off = w->h->l1_offset;
  w->index = l1_index;
  if (q2_walk_use_l1_entry (w, entry, true, err) == -1)
    return -1;
  if (!is_place_of_table (w, q2_l1e_table (w->geo, entry)))
    return 0;
  q2_work_allow (&w->work, w->geo->cluster_size);
  if (q2_work_do (&w->work, w->geo->cluster_size / 8, err) == -1)
    return -1;
  if (live->read_table (live->opaque, l1_index, &entry, w->buf, err) == -1)
    return q2_walk_skip (w, QCOW2_FINDING_UNREADABLE, err);
  return q2_walk_l2_entries (w, q2_l1e_table (w->geo, entry), w->buf, 1, true,
                             err);
}

int
q2_walk_live_tables (struct q2_walk *w, struct qcow2_error *err)
{
  const uint64_t others = q2_counts_total (w->counts, Q2_USE_L2);
  const uint64_t n = q2_min (w->live->live->l1_entries, w->h->l1_entries);

  for (uint64_t i = 0; i < n; ++i) {
    int r;

    w->l1_index = i;
    r = use_live_table (w, i, err);
    w->l1_index = UINT64_MAX;
    w->table_off = QCOW2_NO_OFFSET;
    if (r == 0)
      r = q2_walk_tell (w, others + i + 1, others + n, err);
    if (r == -1)
      return -1;
  }
  return 0;
}
