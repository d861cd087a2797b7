/* SPDX-License-Identifier: BSD-3-Clause */
/* resize_ahead.c - what takes long when a raw data file grows, done before
 * changes of the disk have to wait.
 *
 * Owns      the L2 tables of the new part until L1 entries name them.
 * Method    such a file must equal the disk for those who read it alone, so
 *           each cluster of the new part gets an entry, at once; and what is
 *           in the file behind the old end of the disk (it may be a device)
 *           is zeroed.  Guests do not get there before the header has the new
 *           size.  So all of that is done while they go on, but for the part
 *           that shares a table, or a block of the host, with the old disk:
 *
 *             data   | of the disk  | later | zeroed here            |
 *             L1     | of the disk          | entries of r->ahead    |
 *
 *           The tables are made as a whole, in new clusters to which nothing
 *           points; a commit makes them durable, refcounts first.  A crash
 *           leaves leaks, a failure gives them back.  With the gate closed
 *           only their L1 entries are set.
 * Locks     the gate is claimed, and closed by q2_resize_link_ahead's caller.
 */
#include "config.h"

#include "edit/resize.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/pace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* No host has larger blocks; the last block of the disk is the guests'. */
#define HOST_BLOCK (UINT64_C (1) << 20)

/* Zeroed at once, so that whoever cancels need not wait. */
#define ZERO_STEP (UINT64_C (256) << 20)

/* Tables that are written at once. */
#define TABLES_STEP (UINT64_C (1) << 20)

/* What is written for one command, with 64 KiB clusters for 8 TiB. */
#define MAX_TABLES (UINT64_C (1) << 30)

static uint64_t
nr_new_tables (const struct q2_resize *r)
{
  return r->new_geo.l1_needed - r->old_geo.l1_needed;
}

int
q2_resize_check_ahead (const struct q2_resize *r, struct qcow2_error *err)
{
  const uint64_t most = MAX_TABLES >> r->old_geo.cluster_bits;

  if (nr_new_tables (r) <= most)
    return 0;
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                  "the disk cannot become so much larger at once while it is "
                  "used, since its data file is a raw disk itself, and all "
                  "tables have to be made; let it grow in steps of at most %"
                  PRIu64 " bytes, or when nobody uses it",
                  most << r->old_geo.l1_shift);
}

/* ---- The data file ---------------------------------------------------- */

static int
zero_data (struct q2_resize *r, struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;
  const uint64_t size = r->new_geo.virtual_size;
  /* What it is extended by has zeros, unless they are to be encrypted. */
  const uint64_t end = e->w->store->cipher != NULL ? size
    : q2_min (size, r->old_data_end);
  uint64_t at = q2_align_up (r->old_geo.virtual_size, HOST_BLOCK);

  at = q2_min (at, size);
  r->zeroed = at;
  r->progress.total += end > at ? end - at : 0;
  while (at < end) {
    const uint64_t n = q2_min (end - at, ZERO_STEP);

    if (q2_writer_zero (e->w, &e->io, n, at, QCOW2_ZERO_MAY_TRIM, err) == -1 ||
        q2_progress_add (&r->progress, n, Q2_RESIZE_CANCELLED, err) == -1)
      return -1;
    at += n;
  }
  /* The rest is zeroed before anything there gets an entry, too. */
  r->old_data_end = q2_min (r->old_data_end, r->old_geo.virtual_size);
  return 0;
}

/* ---- Tables ----------------------------------------------------------- */

/* What the table of an L1 entry has: each cluster of the disk at its place. */
static void
make_table (const struct q2_resize *r, uint64_t l1_index, unsigned char *table)
{
  const struct q2_geometry *const geo = &r->new_geo;
  const uint64_t first = l1_index << geo->l2_bits;
  const uint64_t end = q2_ceil_shift (geo->virtual_size, geo->cluster_bits);

  memset (table, 0, geo->l2_table_size);
  for (uint64_t i = 0; i >> geo->l2_bits == 0 && first + i < end; ++i)
    q2_entry_store (geo, table + (i << geo->entry_bits),
                    (first + i) << geo->cluster_bits, true,
                    Q2_ALL_SUBCLUSTERS, 0);
}

/* As many next to each other as there is room for, *nr at most. */
static int
alloc_tables (struct q2_resize *r, uint64_t *nr, uint64_t *ret_off,
              struct qcow2_error *err)
{
  while (q2_edit_alloc (&r->edit, *nr << r->old_geo.cluster_bits, Q2_META_L2,
                        ret_off, err) == -1) {
    if (err->kind != QCOW2_ERR_NO_SPACE || *nr == 1)
      return -1;
    *nr /= 2;
  }
  return 0;
}

/* Some of them, from number *done of the new ones. */
static int
make_some (struct q2_resize *r, uint64_t *done, unsigned char *buf,
           uint64_t max, struct qcow2_error *err)
{
  const unsigned bits = r->old_geo.cluster_bits;
  uint64_t nr = q2_min (max, nr_new_tables (r) - *done), host_off;

  if (alloc_tables (r, &nr, &host_off, err) == -1)
    return -1;
  for (uint64_t i = 0; i < nr; ++i) {
    make_table (r, r->old_geo.l1_needed + *done + i, buf + (i << bits));
    r->ahead[*done + i] = host_off + (i << bits);
  }
  *done += nr;
  return q2_edit_write (&r->edit, buf, nr << bits, host_off, Q2_META_L2, err)
    == -1 ? -1
    : q2_progress_add (&r->progress, nr << r->old_geo.l1_shift,
                       Q2_RESIZE_CANCELLED, err);
}

static int
make_tables (struct q2_resize *r, struct qcow2_error *err)
{
  struct q2_gate *const gate = &r->edit.image->gate;
  const uint64_t max = q2_max (TABLES_STEP >> r->old_geo.cluster_bits, 1);
  const uint64_t bytes = max << r->old_geo.cluster_bits;
  unsigned char *const buf = q2_buffer_alloc (bytes);
  struct q2_pace pace;
  uint64_t done = 0;
  int result = 0;

  if (buf == NULL)
    return q2_fail_nomem (err, "L2 tables");
  q2_pace_begin (&pace, gate);
  while (result == 0 && done < nr_new_tables (r)) {
    result = make_some (r, &done, buf, max, err);
    q2_pace_rest (&pace, gate, 1);
  }
  q2_buffer_free (buf, bytes);
  return result;
}

int
q2_resize_ahead (struct q2_resize *r, struct qcow2_error *err)
{
  r->progress.total = nr_new_tables (r) << r->old_geo.l1_shift;
  r->ahead = calloc (nr_new_tables (r) + 1, sizeof *r->ahead);
  if (r->ahead == NULL)
    return q2_fail_nomem (err, "a list of tables");
  if (q2_resize_grow_data (r, err) == -1 || zero_data (r, err) == -1 ||
      make_tables (r, err) == -1 || q2_edit_commit (&r->edit, err) == -1)
    return -1;
  /* From here on it takes no time to speak of. */
  r->progress.fn = NULL;
  return 0;
}

/* ---- Links ------------------------------------------------------------ */

/* From now on it is taken back as all that has an entry. */
static int
link_table (struct q2_resize *r, uint64_t l1_index, uint64_t table,
            struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;
  struct q2_writer *const w = e->w;
  int result;

  q2_mutex_lock (&w->solid_lock);
  result = q2_tables_make_solid_l1 (w->tables, &e->io, l1_index, err);
  q2_mutex_unlock (&w->solid_lock);
  if (result == -1)
    return -1;
  if (!q2_frees_reserve (&e->made, 1))
    return q2_fail_nomem (err, "a list of clusters");
  if (!q2_assume (q2_frees_remove (&e->made, table >> w->geo->cluster_bits, 1),
                  err))
    return -1;
  q2_tables_forget (w->tables, table);
  q2_mutex_lock (&w->link_lock);
  q2_tables_set_l1 (w->tables, l1_index, table | Q2_ENTRY_COPIED);
  q2_mutex_unlock (&w->link_lock);
  return 0;
}

int
q2_resize_link_ahead (struct q2_resize *r, struct qcow2_error *err)
{
  /* From the last one on: that is where clusters are taken off a list. */
  for (uint64_t i = nr_new_tables (r); i-- > 0;)
    if (link_table (r, r->old_geo.l1_needed + i, r->ahead[i], err) == -1)
      return -1;
  return 0;
}
