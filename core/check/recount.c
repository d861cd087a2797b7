/* SPDX-License-Identifier: BSD-3-Clause */
/* recount.c - counts the references to every host cluster of an image.
 *
 * Owns      the list of everything in an image that refers to clusters.
 * Method    First all tables but the L2 tables, which gives the number of L1
 *           entries that point to each of those.  Then each L2 table, once,
 *           in the order of the file: what one of its entries refers to has
 *           as many more users as the table has.  So time is linear in the
 *           size of the file, also with many snapshots, or where an image
 *           claims to have many: L1 tables cannot overlap, and no two L2
 *           tables are the same.
 *           Memory is what struct q2_counts takes, which has a limit and is
 *           the server's, and one buffer.  Nothing is believed before it is
 *           checked.
 *           A check goes on after a fault (walk_use.c).  It leaves the
 *           refcount structure to its caller, which counts it last: where that
 *           overlaps with something else, it is the part that can be replaced.
 * Locks     none; the image does not change meanwhile.
 * Does not  read refcounts, or write.
 * Spec      "Reference counts", "Snapshots", "Bitmaps extension",
 *           "Full disk encryption header pointer".
 */
#include "config.h"

#include "check/walk.h"

#include "format/l2e.h"
#include "meta/bitmaps.h"
#include "meta/snapshots.h"

#include "base/buffer.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

/* Bits 0 to 8 and 56 to 62 of L1 entries; and of entries of bitmap tables,
 * whose bit 0 has a meaning where there is no offset.
 */
#define BITMAP_RESERVED UINT64_C (0xff000000000001fe)

/* What version 3 demands of the extra data of a snapshot. */
#define MIN_EXTRA 16u

/* ---- Refcounts --------------------------------------------------------- */

static int
use_refcount_block (struct q2_walk *w, uint64_t entry, void *opaque,
                    struct qcow2_error *err)
{
  const uint64_t host_off = entry & ~UINT64_C (511);

  (void) opaque;
  if (host_off == 0)
    return 0;
  return q2_walk_use_table (w, host_off, w->geo->cluster_size,
                            "a refcount block", err);
}

static int
use_refcounts (struct q2_walk *w, struct qcow2_error *err)
{
  const uint64_t off = w->h->refcount_table_offset;
  const uint64_t bytes =
    (uint64_t) w->h->refcount_table_clusters << w->geo->cluster_bits;

  if (w->live != NULL)
    return q2_walk_live_refcounts (w, err);
  if (w->findings != NULL)      /* the caller does that */
    return 0;
  if (q2_walk_use_table (w, off, bytes, "the refcount table", err) == -1)
    return -1;
  if (q2_walk_entries (w, off, bytes, QCOW2_IO_REFCOUNT, use_refcount_block,
                       NULL, err) == 0)
    return 0;
  /* None of the old ones is needed for that. */
  if (q2_is_medium_fault (err))
    err->advice = QCOW2_ADVICE_REBUILD;
  return -1;
}

/* ---- L1 tables --------------------------------------------------------- */

static int
use_l2_table (struct q2_walk *w, uint64_t entry, void *opaque,
              struct qcow2_error *err)
{
  return q2_walk_use_l1_entry (w, entry, *(bool *) opaque, err);
}

/* A table, and what its entries refer to.  One that overlaps with another is
 * not read: an image could have us read the same one again and again.
 */
static int
use_and_walk (struct q2_walk *w, uint64_t host_off, uint64_t entries,
              const char *what, enum qcow2_io_class class,
              q2_walk_entry_fn fn, void *opaque, struct qcow2_error *err)
{
  const uint64_t before = w->overlaps;

  if (q2_walk_use_table (w, host_off, entries * 8, what, err) == -1)
    return -1;
  if (w->overlaps != before)
    return 0;
  return q2_walk_entries (w, host_off, entries * 8, class, fn, opaque, err);
}

/* An L1 table, with what it has past the end of the disk: saved memory. */
static int
use_l1 (struct q2_walk *w, uint64_t host_off, uint32_t entries, bool active,
        struct qcow2_error *err)
{
  return use_and_walk (w, host_off, entries,
                       active ? "the active L1 table"
                       : "the L1 table of a snapshot",
                       QCOW2_IO_L1, use_l2_table, &active, err);
}

/* That of the disk.  While it is written to the table in memory is what
 * counts, which has the entries of the disk and no others.
 */
static int
use_active_l1 (struct q2_walk *w, struct qcow2_error *err)
{
  const struct q2_header *const h = w->h;
  bool active = true;
  uint64_t known;

  if (w->live == NULL)
    return use_l1 (w, h->l1_offset, h->l1_entries, true, err);
  if (q2_walk_use_table (w, h->l1_offset, (uint64_t) h->l1_entries * 8,
                         "the active L1 table", err) == -1)
    return -1;
  known = q2_min (w->live->live->l1_entries, h->l1_entries);
  return q2_walk_entries (w, h->l1_offset + 8 * known,
                          8 * (h->l1_entries - known), QCOW2_IO_L1,
                          use_l2_table, &active, err);
}

/* ---- Snapshots --------------------------------------------------------- */

static int
use_snapshot (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
              struct qcow2_error *err)
{
  struct q2_walk *const w = opaque;

  if (w->findings != NULL && w->geo->version >= 3 &&
      s->extra_len < MIN_EXTRA &&
      q2_walk_fault (w, QCOW2_FINDING_SHORT_SNAPSHOT, QCOW2_ADVICE_REPAIR,
                     host_off, s->entry_len, err,
                     "the snapshot table entry at offset 0x%" PRIx64 " has "
                     "%u bytes of extra data, at least %u are needed",
                     host_off, s->extra_len, MIN_EXTRA) == -1)
    return -1;
  if (q2_snapshot_check_l1 (w->geo, s, host_off, err) == -1)
    return q2_walk_skip (w, QCOW2_FINDING_SNAPSHOT_TABLE, err);
  return use_l1 (w, s->l1_offset, s->l1_entries, false, err);
}

static int
use_snapshots (struct q2_walk *w, struct qcow2_error *err)
{
  uint64_t len;

  if (q2_snapshots_walk (w->io, w->h, w->geo, use_snapshot, w, &len, err)
      == -1 &&
      q2_walk_skip (w, QCOW2_FINDING_SNAPSHOT_TABLE, err) == -1)
    return -1;
  if (len == 0)
    return 0;
  return q2_walk_use_table (w, w->h->snapshots_offset, len,
                            "the snapshot table", err);
}

/* ---- Bitmaps ----------------------------------------------------------- */

static int
use_bitmap_bits (struct q2_walk *w, uint64_t entry, void *opaque,
                 struct qcow2_error *err)
{
  const uint64_t host_off = q2_bitmap_table_cluster (entry);
  const struct q2_user u = {
    .what = "bits of a bitmap", .use = Q2_USE_DATA, .times = 1
  };

  (void) opaque;
  if (q2_walk_reserved (w, entry, BITMAP_RESERVED | (host_off ? 1 : 0),
                        "a bitmap's table", err) == -1)
    return -1;
  if (host_off == 0)
    return 0;
  return q2_walk_use_clusters (w, host_off, w->geo->cluster_size, &u, err);
}

struct bitmaps {
  struct q2_walk *w;
  bool *skip;                   /* by number: its table overlaps */
  uint32_t nr;                  /* of the next one */
};

static int
use_bitmap_table (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
                  struct qcow2_error *err)
{
  struct bitmaps *const all = opaque;
  const uint64_t before = all->w->overlaps;

  (void) host_off;
  if (q2_walk_use_table (all->w, b->table_offset,
                         (uint64_t) b->table_entries * 8, "a bitmap's table",
                         err) == -1)
    return -1;
  all->skip[all->nr++] = all->w->overlaps != before;
  return 0;
}

static int
use_bitmap (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
            struct qcow2_error *err)
{
  struct bitmaps *const all = opaque;

  (void) host_off;
  if (all->skip[all->nr++])
    return 0;
  return q2_walk_entries (all->w, b->table_offset,
                          (uint64_t) b->table_entries * 8, QCOW2_IO_HEADER,
                          use_bitmap_bits, NULL, err);
}

/* All tables first, then the bits, which are data: what is a table does not
 * depend on where data is counted.
 */
static int
use_bitmaps (struct q2_walk *w, struct qcow2_error *err)
{
  struct bitmaps all = {
    .w = w, .skip = calloc ((size_t) w->h->nr_bitmaps + 1, sizeof *all.skip),
  };
  bool readable;
  int r;

  if (all.skip == NULL)
    return q2_fail_nomem (err, "the bitmaps");
  r = q2_bitmaps_walk (w->io, w->h, w->geo, use_bitmap_table, &all, err);
  readable = r == 0;
  if (r == -1)
    r = q2_walk_skip (w, QCOW2_FINDING_BITMAP_DIRECTORY, err);
  if (r == 0 && w->h->nr_bitmaps > 0)
    r = q2_walk_use_table (w, w->h->bitmap_dir_offset, w->h->bitmap_dir_bytes,
                           "the bitmap directory", err);
  all.nr = 0;
  if (r == 0 && readable) {
    r = q2_bitmaps_walk (w->io, w->h, w->geo, use_bitmap, &all, err);
    if (r == -1)
      r = q2_walk_skip (w, QCOW2_FINDING_BITMAP_DIRECTORY, err);
  }
  free (all.skip);
  return r;
}

/* ---- All of it --------------------------------------------------------- */

static int
use_metadata (struct q2_walk *w, struct qcow2_error *err)
{
  const struct q2_header *const h = w->h;

  if (q2_walk_use_table (w, 0, w->geo->cluster_size, "the header", err) == -1
      || use_refcounts (w, err) == -1 ||
      q2_walk_use_table (w, h->luks_offset, h->luks_bytes,
                         "the encryption header", err) == -1 ||
      use_active_l1 (w, err) == -1 || use_snapshots (w, err) == -1)
    return -1;
  return use_bitmaps (w, err);
}

static int
counts_contradict_flags (struct q2_walk *w, struct qcow2_error *err)
{
  uint64_t cluster = q2_counts_next_used (w->counts, 0);

  while (cluster != UINT64_MAX) {
    struct q2_count c;
    const uint64_t n =
      q2_counts_get_run (w->counts, cluster, UINT64_MAX, &c);

    if (q2_work_do (&w->work, 1, err) == -1)
      return -1;
    if (c.flags & (c.count == 1 ? Q2_COUNT_PLAIN : Q2_COUNT_COPIED))
      return 1;
    cluster = q2_counts_next_used (w->counts, cluster + n);
  }
  return 0;
}

static int
walk_all (struct q2_walk *w, struct qcow2_error *err)
{
  int r = 0;

  if (use_metadata (w, err) == -1 || q2_walk_l2_tables (w, err) == -1)
    return -1;
  if (w->live != NULL)
    return q2_walk_live_tables (w, err);
  if (!w->flags_are_wrong)
    r = counts_contradict_flags (w, err);
  w->flags_are_wrong |= r == 1;
  return r == -1 ? -1 : 0;
}

int
q2_walk_image (struct q2_walk *w, struct qcow2_error *err)
{
  struct qcow2_budget *const budget = q2_budget_outermost
    (q2_io_budget (w->io));
  int r;

  w->file_size = q2_io_size (w->io);
  w->table_off = QCOW2_NO_OFFSET;
  w->buf_size = q2_max (Q2_WALK_PIECE, w->geo->cluster_size);
  if (w->geo->version < 2)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "references cannot be counted in an image without "
                    "refcounts");
  w->counts = q2_counts_new (w->max_bytes, budget, err);
  if (w->counts == NULL)
    return -1;
  if (w->window != NULL) {
    w->silent = w->window->silent || w->window->begin > 0;
    q2_counts_set_window (w->counts, w->window->begin, w->window->stop,
                          &w->window->watch);
  }
  w->buf = q2_buffer_alloc (w->buf_size);
  w->fetched_end = 0;
  if (w->live == NULL)          /* clients come first */
    w->fetch = q2_fetch_new (w->io, w->geo->cluster_size);
  r = w->buf == NULL ? q2_fail_nomem (err, "reading tables")
    : walk_all (w, err);
  q2_buffer_free (w->buf, w->buf_size);
  q2_fetch_free (w->fetch);
  w->fetch = NULL;
  if (r == -1) {
    q2_counts_free (w->counts);
    w->counts = NULL;
  }
  return r;
}

static int
recount (struct q2_walk *w, struct q2_recount *ret_recount, uint64_t paid,
         uint64_t max_steps, struct qcow2_error *err)
{
  w->work = q2_work_begin (q2_budget_outermost (q2_io_budget (w->io)),
                           max_steps,
                           "counting the references to all clusters");
  q2_work_allow (&w->work, paid);
  if (q2_walk_image (w, err) == -1) {
    q2_work_end (&w->work);
    return -1;
  }
  *ret_recount = (struct q2_recount) {
    .counts = w->counts,
    .begin = w->window ? w->window->begin : 0,
    .stop = w->window ? w->window->stop : UINT64_MAX,
    .skipped = w->skipped,
    .l2_tables = q2_counts_total (w->counts, Q2_USE_L2),
    .flags_are_wrong = w->flags_are_wrong,
    .hole_bytes = w->hole_bytes,
    .paid = w->work.max - max_steps,
    .allocated = w->allocated, .compressed = w->compressed,
    .work = w->work,
  };
  return 0;
}

/* What an image of no tables may cost. */
static uint64_t
first_steps (const struct q2_io *io)
{
  return io->host->ops->extents != NULL ? Q2_RECOUNT_STEPS
    : Q2_RECOUNT_BLIND_STEPS;
}

int
q2_recount (struct q2_recount *ret_recount, const struct q2_io *io,
            const struct q2_header *h, const struct q2_geometry *geo,
            q2_progress_fn progress, void *opaque, struct qcow2_error *err)
{
  struct q2_walk w = {
    .io = io, .h = h, .geo = geo, .believe_holes = true,
    .max_bytes = Q2_RECOUNT_MAX_BYTES, .progress = progress, .opaque = opaque,
  };

  return recount (&w, ret_recount, 0, first_steps (io), err);
}

int
q2_recount_all (struct q2_recount *ret_recount, const struct q2_io *io,
                const struct q2_header *h, const struct q2_geometry *geo,
                uint64_t paid, q2_progress_fn progress, void *opaque,
                struct qcow2_error *err)
{
  struct q2_walk w = {
    .io = io, .h = h, .geo = geo, .max_bytes = Q2_RECOUNT_MAX_BYTES,
    .progress = progress, .opaque = opaque,
  };

  return recount (&w, ret_recount,
                  q2_min (paid, UINT64_MAX / 16) * Q2_RECOUNT_PAID_TWICE,
                  first_steps (io), err);
}

int
q2_recount_check (struct q2_recount *ret_recount, const struct q2_io *io,
                  const struct q2_header *h, const struct q2_geometry *geo,
                  struct q2_findings *findings, struct q2_scope *window,
                  uint64_t max_bytes, q2_progress_fn progress, void *opaque,
                  struct qcow2_error *err)
{
  struct q2_walk w = {
    .io = io, .h = h, .geo = geo, .findings = findings, .window = window,
    .max_bytes = max_bytes, .progress = progress, .opaque = opaque,
  };

  return recount (&w, ret_recount, 0, Q2_RECOUNT_BLIND_STEPS, err);
}

void
q2_recount_free (struct q2_recount *recount)
{
  q2_work_end (&recount->work);
  q2_counts_free (recount->counts);
  q2_counts_free (recount->odd);
  recount->counts = recount->odd = NULL;
}
