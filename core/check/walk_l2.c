/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_l2.c - counts what L2 tables refer to.
 *
 * Owns      the walk over all L2 tables, and which entries are faulty.
 * Method    in the order of the file, neighbours at once; each table is read
 *           once, and what its entries refer to has as many more users as the
 *           table has.  Entries of clusters that follow each other in the
 *           file, which most are, are counted together.
 *           Faults that change no count, such as reserved bits, are only
 *           looked for in a check.
 * Locks     none; see recount.c.
 * Spec      "Cluster mapping", "Extended L2 Entries".
 */
#include "config.h"

#include "check/walk.h"

#include "format/l2e.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/error.h"

#include <inttypes.h>

/* Bits 1 to 8, and 56 to 61, of entries that are not compressed. */
#define RESERVED_BITS UINT64_C (0x3f000000000001fe)

/* ---- Entries ----------------------------------------------------------- */

/* What only a check asks of an entry that is not compressed. */
static int
check_standard (struct q2_walk *w, uint64_t entry, const struct q2_mapping *m,
                struct qcow2_error *err)
{
  const uint64_t reserved =
    entry & (w->geo->extended_l2 ? RESERVED_BITS | 1 : RESERVED_BITS);

  if (reserved != 0 &&
      q2_walk_fault (w, QCOW2_FINDING_RESERVED, QCOW2_ADVICE_REPAIR,
                     m->host_off, w->geo->cluster_size, err,
                     "reserved bits 0x%" PRIx64 " are set in an L2 entry",
                     reserved) == -1)
    return -1;
  /* What is not aligned is reported when it is counted. */
  if (m->kind == Q2_CLUSTER_INVALID &&
      q2_is_aligned (m->host_off, w->geo->cluster_size))
    return q2_walk_fault (w, QCOW2_FINDING_ENTRY, QCOW2_ADVICE_REPAIR,
                          m->host_off, w->geo->cluster_size, err,
                          "an L2 entry is invalid: %s", m->problem);
  return 0;
}

static int
check_entry (struct q2_walk *w, uint64_t entry, uint64_t bitmap,
             const struct q2_mapping *m, struct qcow2_error *err)
{
  if (!(entry & w->geo->compressed_flag))
    return check_standard (w, entry, m, err);
  if (w->geo->data_file)
    return q2_walk_fault (w, QCOW2_FINDING_ENTRY, QCOW2_ADVICE_REPAIR,
                          QCOW2_NO_OFFSET, 0, err, "an L2 entry is invalid: "
                          "%s", m->problem);
  if (bitmap != 0)
    return q2_walk_fault (w, QCOW2_FINDING_ENTRY, QCOW2_ADVICE_REPAIR,
                          m->host_off, m->csize, err, "a compressed cluster "
                          "has subclusters");
  return 0;
}

/* For the figures of a check: clusters of the disk as it is now. */
static void
count_active (struct q2_walk *w, const struct q2_mapping *m)
{
  if (m->kind == Q2_CLUSTER_COMPRESSED)
    w->compressed++;
  if (m->kind == Q2_CLUSTER_COMPRESSED || m->placed)
    w->allocated++;
}

/* One entry of a table that 'times' L1 entries point to. */
static int
use_l2_entry (struct q2_walk *w, uint64_t entry, uint64_t bitmap,
              uint32_t times, bool active, struct qcow2_error *err)
{
  const bool copied = entry & Q2_ENTRY_COPIED;
  struct q2_user u = {
    .what = "a data cluster", .use = Q2_USE_DATA, .times = times
  };
  struct q2_mapping m;

  q2_l2e_decode (w->geo, entry, bitmap, &m);
  if (active)
    count_active (w, &m);
  if (w->findings != NULL &&
      check_entry (w, entry, bitmap, &m, err) == -1)
    return -1;
  if (w->geo->data_file)        /* it refers to nothing in this file */
    return 0;
  if (m.kind == Q2_CLUSTER_COMPRESSED) {
    u.what = "a compressed cluster";
    if (active && copied && q2_walk_stray_flag (w, err) == -1)
      return -1;
    return q2_walk_use_bytes (w, m.host_off, m.csize, &u, err);
  }
  if (m.host_off == 0)
    return active && copied ? q2_walk_stray_flag (w, err) : 0;
  if (active)
    u.flags = copied ? Q2_COUNT_COPIED : Q2_COUNT_PLAIN;
  return q2_walk_use_clusters (w, m.host_off, w->geo->cluster_size, &u, err);
}

/* An entry of a cluster that lies in the file as a whole, and nothing else. */
static bool
is_plain (const struct q2_walk *w, uint64_t entry)
{
  const uint64_t size = w->geo->cluster_size;
  const uint64_t host_off = entry & ~Q2_ENTRY_COPIED;

  return (host_off & ~w->geo->offset_mask) == 0 && host_off != 0 &&
    q2_is_aligned (host_off, size) && host_off < w->file_size &&
    w->file_size - host_off >= size;
}

/* Entries of a table that follow each other and name neighbours: where they
 * end is known, so that nothing is looked at twice.
 */
struct run {
  const unsigned char *p;       /* the next one */
  uint64_t nr;                  /* of them, from that on; 0: not known */
};

/* The entries from 'p' on, at most 'max'; none if the first is not plain. */
static struct run
find_run (const struct q2_walk *w, const unsigned char *p, uint64_t max)
{
  const uint64_t entry = load_be64 (p);
  const uint64_t size = w->geo->cluster_size;
  struct run run = { p, 0 };

  if (w->live != NULL || w->geo->extended_l2 || w->geo->data_file ||
      !is_plain (w, entry))
    return run;
  max = q2_min (max, (w->file_size - (entry & ~Q2_ENTRY_COPIED)) >>
                w->geo->cluster_bits);
  do
    ++run.nr;
  while (run.nr < max && load_be64 (p + 8 * run.nr) == entry + run.nr * size);
  return run;
}

/* Count the first entries of the run, as many as nothing is special about.
 * *ret: how many that is, perhaps none.
 */
static int
use_run (struct q2_walk *w, const struct run *run, uint32_t times,
         bool active, uint64_t *ret, struct qcow2_error *err)
{
  const uint64_t entry = load_be64 (run->p);
  const uint64_t cluster =
    (entry & ~Q2_ENTRY_COPIED) >> w->geo->cluster_bits;
  const unsigned flag =
    entry & Q2_ENTRY_COPIED ? Q2_COUNT_COPIED : Q2_COUNT_PLAIN;
  uint64_t n = run->nr;

  *ret = 0;
  if (w->window != NULL)
    n = q2_scope_quiet (w->window, n);
  if (n == 0)
    return 0;
  n = q2_counts_add_run (w->counts, cluster, n, times, active ? flag : 0);
  if (w->window != NULL)
    q2_scope_pass (w->window, n);
  if (active)
    w->allocated += n;
  *ret = n;
  q2_work_allow (&w->work, n * Q2_RECOUNT_PAID_ENTRY);
  return q2_work_do (&w->work, n * Q2_RECOUNT_CLUSTER, err);
}

/* The entry at 'p', or it and those behind it; *ret: how many.  'max' are left
 * of the table.
 */
static int
use_entries (struct q2_walk *w, const unsigned char *p, uint64_t max,
             uint32_t times, bool active, struct run *run, uint64_t *ret,
             struct qcow2_error *err)
{
  const uint64_t entry = load_be64 (p);
  const uint64_t bitmap =
    w->findings != NULL && w->geo->extended_l2 ? load_be64 (p + 8) : 0;

  *ret = 1;
  if ((entry | bitmap) == 0)
    return 0;
  if (run->nr == 0)
    *run = find_run (w, p, max);
  if (run->nr > 0) {
    if (use_run (w, run, times, active, ret, err) == -1)
      return -1;
    run->nr -= q2_max (*ret, 1);
    run->p += 8 * q2_max (*ret, 1);
    if (*ret > 0)
      return 0;
    *ret = 1;
  }
  q2_work_allow (&w->work, Q2_RECOUNT_PAID_ENTRY);
  return use_l2_entry (w, entry, bitmap, times, active, err);
}

int
q2_walk_l2_entries (struct q2_walk *w, uint64_t table_off,
                    const unsigned char *p, uint32_t times, bool active,
                    struct qcow2_error *err)
{
  const uint64_t n = UINT64_C (1) << w->geo->l2_bits;
  struct run run = { p, 0 };
  int r = 0;

  w->table_off = table_off;
  for (uint64_t i = 0, done; i < n && r == 0; i += done) {
    w->index = i;
    r = use_entries (w, p + (i << w->geo->entry_bits), n - i, times, active,
                     &run, &done, err);
  }
  w->table_off = QCOW2_NO_OFFSET;
  return r;
}

static int
use_entries_of_l2 (struct q2_walk *w, uint64_t cluster,
                   const unsigned char *p, struct qcow2_error *err)
{
  const struct q2_count table = q2_counts_get (w->counts, cluster);

  if (!q2_assume (table.use == Q2_USE_L2 && table.count > 0, err))
    return -1;
  return q2_walk_l2_entries (w, cluster << w->geo->cluster_bits, p,
                             table.count, table.flags != 0, err);
}

/* ---- Tables ------------------------------------------------------------ */

/* Those from 'cluster' on. */
static void
fetch_tables (struct q2_walk *w, uint64_t cluster)
{
  q2_fetch_clear (w->fetch);
  while (cluster != UINT64_MAX &&
         q2_fetch_add (w->fetch, cluster << w->geo->cluster_bits)) {
    w->fetched_end = cluster + 1;
    cluster = q2_counts_next (w->counts, cluster + 1, Q2_USE_L2);
  }
  q2_fetch_run (w->fetch, q2_walk_asks (w), QCOW2_IO_L2);
}

/* From 'cluster' on, tables that lie next to each other: how many. */
static uint64_t
count_neighbours (const struct q2_walk *w, uint64_t cluster)
{
  const uint64_t room = w->buf_size >> w->geo->cluster_bits;
  const uint64_t max =
    w->fetch ? q2_min (room, w->fetched_end - cluster) : room;
  uint64_t n = 1;

  while (n < max && q2_counts_get (w->counts, cluster + n).use == Q2_USE_L2)
    ++n;
  return n;
}

static int
use_l2_tables (struct q2_walk *w, uint64_t host_off, uint64_t len,
               void *opaque, struct qcow2_error *err)
{
  const uint64_t size = w->geo->cluster_size;

  (void) opaque;
  for (uint64_t i = 0; i < len; i += size)
    if (use_entries_of_l2 (w, (host_off + i) / size, w->buf + i, err) == -1)
      return -1;
  return 0;
}

/* 'n' tables that lie next to each other.  Many of them are perhaps none: a
 * sparse file can claim terabytes of them.
 */
static int
use_neighbours (struct q2_walk *w, uint64_t cluster, uint64_t n,
                struct qcow2_error *err)
{
  const uint64_t size = w->geo->cluster_size;
  const uint64_t end = (cluster + n) * size;
  const struct q2_walk_use use = {
    .piece = size, .class = QCOW2_IO_L2, .fn = use_l2_tables,
  };
  uint64_t host_off = cluster * size;

  while (host_off < end) {
    uint64_t start, stop;

    if (q2_work_do (&w->work, Q2_RECOUNT_CLUSTER, err) == -1)
      return -1;
    q2_walk_next_data (w, host_off, end, &start, &stop);
    start = q2_align_down (start, size);
    stop = q2_align_up (stop, size);
    if (!q2_assume (start >= host_off && start <= stop && stop > host_off &&
                    stop <= end, err))
      return -1;
    w->hole_bytes += start - host_off;
    if (start < stop &&
        q2_walk_range (w, stop - start, start, &use, err) == -1)
      return -1;
    host_off = stop;
  }
  return 0;
}

int
q2_walk_tell (struct q2_walk *w, uint64_t done, uint64_t total,
              struct qcow2_error *err)
{
  const unsigned percent = (unsigned) (q2_min (done, total) * 100 / total);

  if (w->progress == NULL || (percent == w->percent && w->findings == NULL))
    return 0;
  w->percent = percent;
  if (w->progress (w->opaque, percent))
    return 0;
  return q2_fail (err, QCOW2_ERR_CANCELLED, QCOW2_NO_OFFSET,
                  "the check was cancelled");
}

int
q2_walk_l2_tables (struct q2_walk *w, struct qcow2_error *err)
{
  const uint64_t total = q2_counts_total (w->counts, Q2_USE_L2);
  uint64_t cluster = q2_counts_next (w->counts, 0, Q2_USE_L2);
  uint64_t done = 0;

  if (total > Q2_WALK_MANY_BYTES >> w->geo->cluster_bits)
    w->table_bytes += Q2_WALK_MANY_BYTES;
  while (cluster != UINT64_MAX) {
    uint64_t n;

    if (w->fetch != NULL && cluster >= w->fetched_end)
      fetch_tables (w, cluster);
    n = count_neighbours (w, cluster);
    if (use_neighbours (w, cluster, n, err) == -1)
      return -1;
    done += n;
    if (q2_walk_tell (w, done, total + (w->live != NULL
                                        ? w->live->live->l1_entries : 0),
                      err) == -1)
      return -1;
    cluster = q2_counts_next (w->counts, cluster + n, Q2_USE_L2);
  }
  return 0;
}
