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
 *           Work has a bound that goes with what the file has: a file with
 *           holes can have terabytes of tables in a few KiB, so once some have
 *           been read the host is asked what is a hole.
 * Locks     none; the image does not change meanwhile.
 * Does not  read refcounts, or write.
 * Spec      "Reference counts", "Snapshots", "Bitmaps extension",
 *           "Full disk encryption header pointer".
 */
#include "config.h"

#include "check/recount.h"

#include "format/l2e.h"
#include "meta/bitmaps.h"
#include "meta/snapshots.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

/* 64 TiB of clusters of 64 KiB, with the tree above them. */
#define MAX_BYTES (UINT64_C (1088) << 20)

/* Tables are read in pieces of this size; a whole L2 table at least. */
#define PIECE (UINT64_C (1) << 20)

/* From so many bytes of tables on, holes are asked for. */
#define MANY_TABLE_BYTES (UINT64_C (64) << 20)

#define MAX_HOST_OFF (UINT64_C (1) << 56)

struct walk {
  const struct q2_io *io;
  const struct q2_header *h;
  const struct q2_geometry *geo;
  struct q2_counts *counts;
  struct q2_work work;
  bool believe_holes;
  uint64_t table_bytes;         /* that were looked at */
  uint64_t hole_bytes;          /* of these, were not read */
  uint64_t file_size;
  unsigned char *buf;
  size_t buf_size;
  bool flags_are_wrong;
};

/* Who refers to a cluster. */
struct user {
  const char *what;
  enum q2_use use;
  uint32_t times;
  unsigned flags;               /* Q2_COUNT_* */
  bool may_be_missing;          /* from the end of the file on */
};

/* ---- Using clusters ---------------------------------------------------- */

static const char *
use_name (enum q2_use use)
{
  switch (use) {
  case Q2_USE_NONE: return "nothing";
  case Q2_USE_DATA: return "data";
  case Q2_USE_L2:   return "an L2 table";
  case Q2_USE_META: return "other metadata";
  }
  return "something";
}

static int
fail_full (const struct walk *w, uint64_t host_off, struct qcow2_error *err)
{
  struct qcow2_budget *const budget = q2_budget_outermost
    (q2_io_budget (w->io));
  const uint64_t usual = 64 << 10;

  if (q2_budget_take (budget, usual, "counting the references to all "
                      "clusters", err) == -1)
    return -1;
  /* Its own bound, or somebody has given something back meanwhile. */
  q2_budget_give (budget, usual);
  return q2_fail (err, QCOW2_ERR_NOMEM, host_off,
                  "counting the references to all clusters takes more "
                  "than %" PRIu64 " MiB of memory; " Q2_RECOUNT_ADVICE,
                  MAX_BYTES >> 20);
}

static int
use_cluster (struct walk *w, uint64_t cluster, const struct user *u,
             struct qcow2_error *err)
{
  const uint64_t host_off = cluster << w->geo->cluster_bits;
  enum q2_use old = Q2_USE_NONE;

  switch (q2_counts_add (w->counts, cluster, u->times, u->use, u->flags,
                         &old)) {
  case Q2_COUNTS_OK:
    return 0;
  case Q2_COUNTS_CONFLICT:
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "the cluster at offset 0x%" PRIx64 " is used for %s and "
                    "for %s at once; " Q2_RECOUNT_ADVICE, host_off,
                    use_name (old), u->what);
  case Q2_COUNTS_OVERFLOW:
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "the cluster at offset 0x%" PRIx64 " has more than %u "
                    "users; " Q2_RECOUNT_ADVICE, host_off, Q2_COUNTS_MAX);
  case Q2_COUNTS_FULL:
    return fail_full (w, host_off, err);
  case Q2_COUNTS_NOMEM:
    break;
  }
  return q2_fail_nomem (err, "counting references to clusters");
}

/* Only the last cluster of a file may be cut short.  The L1 table of a disk
 * that was never written to may be all missing, if it begins where the file
 * ends.
 */
static bool
is_past_end (const struct walk *w, uint64_t host_off, uint64_t len,
             const struct user *u)
{
  return u->may_be_missing ? host_off > w->file_size
    : host_off >= w->file_size ||
      host_off + len >= w->file_size + w->geo->cluster_size;
}

/* [host_off, host_off+len), len > 0, wherever it begins in its cluster. */
static int
use_bytes (struct walk *w, uint64_t host_off, uint64_t len,
           const struct user *u, struct qcow2_error *err)
{
  const unsigned bits = w->geo->cluster_bits;
  const uint64_t last = (host_off + len - 1) >> bits;

  if (host_off >= MAX_HOST_OFF || len > MAX_HOST_OFF - host_off)
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "%s at offset 0x%" PRIx64 " would lie past the largest "
                    "offset, 2^56; " Q2_RECOUNT_ADVICE, u->what, host_off);
  if (is_past_end (w, host_off, len, u))
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "%s at offset 0x%" PRIx64 " would lie past the end of "
                    "the file; get the rest of it, or " Q2_RECOUNT_ADVICE,
                    u->what, host_off);
  for (uint64_t cluster = host_off >> bits; cluster <= last; ++cluster)
    if (q2_work_do (&w->work, Q2_RECOUNT_CLUSTER, err) == -1 ||
        use_cluster (w, cluster, u, err) == -1)
      return -1;
  return 0;
}

/* What must begin at a cluster. */
static int
use_clusters (struct walk *w, uint64_t host_off, uint64_t len,
              const struct user *u, struct qcow2_error *err)
{
  if (!q2_is_aligned (host_off, w->geo->cluster_size))
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "%s is said to lie at offset 0x%" PRIx64 ", which is "
                    "not a multiple of the cluster size; "
                    Q2_RECOUNT_ADVICE, u->what, host_off);
  return len == 0 ? 0 : use_bytes (w, host_off, len, u, err);
}

/* A table that nothing else may overlap. */
static int
use_table (struct walk *w, uint64_t host_off, uint64_t len, const char *what,
           struct qcow2_error *err)
{
  const struct user u = {
    .what = what, .use = Q2_USE_META, .times = 1,
    /* Disks that were never written to may lack theirs. */
    .may_be_missing = host_off == w->h->l1_offset,
  };

  return use_clusters (w, host_off, len, &u, err);
}

/* ---- Tables of 64 bit entries ------------------------------------------ */

typedef int (*entry_fn) (struct walk *w, uint64_t entry, void *opaque,
                         struct qcow2_error *err);

/* The next part of [host_off, end), which tables are in, that has to be read;
 * empty and at 'end' if there is none.
 */
static void
next_data (struct walk *w, uint64_t host_off, uint64_t end,
           uint64_t *ret_start, uint64_t *ret_end)
{
  *ret_start = host_off;
  *ret_end = end;
  if (w->believe_holes && w->table_bytes > MANY_TABLE_BYTES &&
      w->io->host->ops->extents != NULL) {
    q2_io_next_data (w->io, host_off, end, ret_start, ret_end);
    q2_work_allow (&w->work,
                   (*ret_end - *ret_start) * Q2_RECOUNT_PAID_BYTE);
  }
  w->table_bytes += *ret_end - host_off;
}

/* [host_off, host_off+len) of a table, into w->buf. */
static int
read_piece (struct walk *w, uint64_t len, uint64_t host_off,
            enum qcow2_io_class class, struct qcow2_error *err)
{
  if (q2_work_do (&w->work, len / 8, err) == -1)
    return -1;
  return q2_io_read (w->io, w->buf, len, host_off, class, err);
}

static int
walk_data (struct walk *w, uint64_t host_off, uint64_t end,
           enum qcow2_io_class class, entry_fn fn, void *opaque,
           struct qcow2_error *err)
{
  while (host_off < end) {
    const uint64_t n = q2_min (end - host_off, PIECE);

    if (read_piece (w, n, host_off, class, err) == -1)
      return -1;
    for (uint64_t i = 0; i < n / 8; ++i) {
      const uint64_t entry = load_be64 (w->buf + 8 * i);

      if (entry == 0)
        continue;
      q2_work_allow (&w->work, Q2_RECOUNT_PAID_ENTRY);
      if (fn (w, entry, opaque, err) == -1)
        return -1;
    }
    host_off += n;
  }
  return 0;
}

/* Call fn for each entry that is not 0, of what the file has of a table. */
static int
walk_entries (struct walk *w, uint64_t host_off, uint64_t len,
              enum qcow2_io_class class, entry_fn fn, void *opaque,
              struct qcow2_error *err)
{
  const uint64_t file_end = q2_align_up (w->file_size, 8);
  const uint64_t end = q2_min (host_off + len, file_end);

  while (host_off < end) {
    uint64_t start, stop;

    /* Even a hole costs a question. */
    if (q2_work_do (&w->work, Q2_RECOUNT_CLUSTER, err) == -1)
      return -1;
    next_data (w, host_off, end, &start, &stop);
    start = q2_align_down (start, 8);
    stop = q2_min (q2_align_up (stop, 8), end);
    w->hole_bytes += start - host_off;
    if (walk_data (w, start, stop, class, fn, opaque, err) == -1)
      return -1;
    host_off = stop;
  }
  return 0;
}

static int
use_refcount_block (struct walk *w, uint64_t entry, void *opaque,
                    struct qcow2_error *err)
{
  const uint64_t host_off = entry & ~UINT64_C (511);

  (void) opaque;
  if (host_off == 0)
    return 0;
  return use_table (w, host_off, w->geo->cluster_size, "a refcount block",
                    err);
}

static int
use_l2_table (struct walk *w, uint64_t entry, void *opaque,
              struct qcow2_error *err)
{
  const bool active = *(bool *) opaque;
  const uint64_t host_off = q2_l1e_table (w->geo, entry);
  const unsigned flag =
    entry & Q2_ENTRY_COPIED ? Q2_COUNT_COPIED : Q2_COUNT_PLAIN;
  const struct user u = {
    .what = "an L2 table", .use = Q2_USE_L2, .times = 1,
    .flags = active ? flag : 0,
  };

  if (host_off == 0) {
    if (active && (entry & Q2_ENTRY_COPIED))
      w->flags_are_wrong = true;
    return 0;
  }
  return use_clusters (w, host_off, w->geo->cluster_size, &u, err);
}

/* An L1 table, with what it has past the end of the disk: saved memory. */
static int
use_l1 (struct walk *w, uint64_t host_off, uint32_t entries, bool active,
        struct qcow2_error *err)
{
  const uint64_t len = (uint64_t) entries * 8;

  if (use_table (w, host_off, len, active ? "the active L1 table"
                 : "the L1 table of a snapshot", err) == -1)
    return -1;
  return walk_entries (w, host_off, len, QCOW2_IO_L1, use_l2_table, &active,
                       err);
}

/* ---- Snapshots and bitmaps --------------------------------------------- */

static int
use_snapshot (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
              struct qcow2_error *err)
{
  struct walk *const w = opaque;

  if (q2_snapshot_check_l1 (w->geo, s, host_off, err) == -1)
    return -1;
  return use_l1 (w, s->l1_offset, s->l1_entries, false, err);
}

static int
use_bitmap_bits (struct walk *w, uint64_t entry, void *opaque,
                 struct qcow2_error *err)
{
  const uint64_t host_off = q2_bitmap_table_cluster (entry);
  const struct user u = {
    .what = "bits of a bitmap", .use = Q2_USE_DATA, .times = 1
  };

  (void) opaque;
  if (host_off == 0)
    return 0;
  return use_clusters (w, host_off, w->geo->cluster_size, &u, err);
}

static int
use_bitmap (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
            struct qcow2_error *err)
{
  struct walk *const w = opaque;
  const uint64_t len = (uint64_t) b->table_entries * 8;

  (void) host_off;
  if (use_table (w, b->table_offset, len, "a bitmap's table", err) == -1)
    return -1;
  return walk_entries (w, b->table_offset, len, QCOW2_IO_HEADER,
                       use_bitmap_bits, NULL, err);
}

static int
use_metadata (struct walk *w, struct qcow2_error *err)
{
  const struct q2_header *const h = w->h;
  const uint64_t refcount_bytes =
    (uint64_t) h->refcount_table_clusters << w->geo->cluster_bits;
  uint64_t len;

  if (use_table (w, 0, w->geo->cluster_size, "the header", err) == -1 ||
      use_table (w, h->refcount_table_offset, refcount_bytes,
                 "the refcount table", err) == -1 ||
      walk_entries (w, h->refcount_table_offset, refcount_bytes,
                    QCOW2_IO_REFCOUNT, use_refcount_block, NULL, err) == -1 ||
      use_table (w, h->luks_offset, h->luks_bytes, "the encryption header",
                 err) == -1 ||
      use_l1 (w, h->l1_offset, h->l1_entries, true, err) == -1 ||
      q2_snapshots_walk (w->io, h, w->geo, use_snapshot, w, &len, err)
      == -1 ||
      (len > 0 && use_table (w, h->snapshots_offset, len,
                             "the snapshot table", err) == -1) ||
      q2_bitmaps_walk (w->io, h, w->geo, use_bitmap, w, err) == -1)
    return -1;
  if (h->nr_bitmaps > 0)
    return use_table (w, h->bitmap_dir_offset, h->bitmap_dir_bytes,
                      "the bitmap directory", err);
  return 0;
}

/* ---- L2 tables --------------------------------------------------------- */

/* One entry of a table that 'times' L1 entries point to. */
static int
use_l2_entry (struct walk *w, uint64_t entry, uint32_t times, bool active,
              struct qcow2_error *err)
{
  const bool copied = entry & Q2_ENTRY_COPIED;
  struct user u = {
    .what = "a data cluster", .use = Q2_USE_DATA, .times = times
  };
  struct q2_mapping m;

  if (w->geo->data_file)        /* it refers to nothing in this file */
    return 0;
  q2_l2e_decode (w->geo, entry, 0, &m);
  if (m.kind == Q2_CLUSTER_COMPRESSED) {
    u.what = "a compressed cluster";
    w->flags_are_wrong |= active && copied;
    return use_bytes (w, m.host_off, m.csize, &u, err);
  }
  if (m.host_off == 0) {
    w->flags_are_wrong |= active && copied;
    return 0;
  }
  if (active)
    u.flags = copied ? Q2_COUNT_COPIED : Q2_COUNT_PLAIN;
  return use_clusters (w, m.host_off, w->geo->cluster_size, &u, err);
}

static int
use_entries_of_l2 (struct walk *w, uint64_t cluster, const unsigned char *p,
                   struct qcow2_error *err)
{
  const struct q2_count table = q2_counts_get (w->counts, cluster);
  const uint64_t n = UINT64_C (1) << w->geo->l2_bits;

  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t entry = load_be64 (p + (i << w->geo->entry_bits));

    if (entry == 0)
      continue;
    q2_work_allow (&w->work, Q2_RECOUNT_PAID_ENTRY);
    if (use_l2_entry (w, entry, table.count, table.flags != 0, err) == -1)
      return -1;
  }
  return 0;
}

/* From 'cluster' on, tables that lie next to each other: how many. */
static uint64_t
count_neighbours (const struct walk *w, uint64_t cluster)
{
  const uint64_t max = w->buf_size >> w->geo->cluster_bits;
  uint64_t n = 1;

  while (n < max && q2_counts_get (w->counts, cluster + n).use == Q2_USE_L2)
    ++n;
  return n;
}

/* Those in [host_off, end), which fit into the buffer. */
static int
read_l2_tables (struct walk *w, uint64_t host_off, uint64_t end,
                struct qcow2_error *err)
{
  const uint64_t size = w->geo->cluster_size;

  if (host_off == end)
    return 0;
  if (read_piece (w, end - host_off, host_off, QCOW2_IO_L2, err) == -1)
    return -1;
  for (uint64_t off = host_off; off < end; off += size)
    if (use_entries_of_l2 (w, off / size, w->buf + (off - host_off), err)
        == -1)
      return -1;
  return 0;
}

/* 'n' tables that lie next to each other.  Many of them are perhaps none: a
 * sparse file can claim terabytes of them.
 */
static int
use_neighbours (struct walk *w, uint64_t cluster, uint64_t n,
                struct qcow2_error *err)
{
  const uint64_t size = w->geo->cluster_size;
  const uint64_t end = (cluster + n) * size;
  uint64_t host_off = cluster * size;

  while (host_off < end) {
    uint64_t start, stop;

    if (q2_work_do (&w->work, Q2_RECOUNT_CLUSTER, err) == -1)
      return -1;
    next_data (w, host_off, end, &start, &stop);
    start = q2_align_down (start, size);
    stop = q2_align_up (stop, size);
    w->hole_bytes += start - host_off;
    if (read_l2_tables (w, start, stop, err) == -1)
      return -1;
    host_off = stop;
  }
  return 0;
}

static int
use_l2_tables (struct walk *w, q2_progress_fn progress, void *opaque,
               struct qcow2_error *err)
{
  const uint64_t total = q2_counts_total (w->counts, Q2_USE_L2);
  uint64_t cluster = q2_counts_next (w->counts, 0, Q2_USE_L2);
  uint64_t done = 0;
  unsigned percent = 0;

  if (total > MANY_TABLE_BYTES >> w->geo->cluster_bits)
    w->table_bytes += MANY_TABLE_BYTES;
  while (cluster != UINT64_MAX) {
    const uint64_t n = count_neighbours (w, cluster);

    if (use_neighbours (w, cluster, n, err) == -1)
      return -1;
    done += n;
    if (progress && done * 100 / total > percent) {
      percent = (unsigned) (done * 100 / total);
      progress (opaque, percent);
    }
    cluster = q2_counts_next (w->counts, cluster + n, Q2_USE_L2);
  }
  return 0;
}

/* ---- All of it --------------------------------------------------------- */

static bool
counts_contradict_flags (struct q2_counts *counts)
{
  for (uint64_t cluster = q2_counts_next_used (counts, 0);
       cluster != UINT64_MAX;
       cluster = q2_counts_next_used (counts, cluster + 1)) {
    const struct q2_count c = q2_counts_get (counts, cluster);

    if (c.flags & (c.count == 1 ? Q2_COUNT_PLAIN : Q2_COUNT_COPIED))
      return true;
  }
  return false;
}

static int
recount (struct q2_recount *ret_recount, const struct q2_io *io,
         const struct q2_header *h, const struct q2_geometry *geo,
         bool believe_holes, uint64_t paid, q2_progress_fn progress,
         void *opaque, struct qcow2_error *err)
{
  struct qcow2_budget *const budget = q2_budget_outermost
    (q2_io_budget (io));
  struct walk w = {
    .io = io, .h = h, .geo = geo, .file_size = q2_io_size (io),
    .buf_size = q2_max (PIECE, geo->cluster_size),
    .believe_holes = believe_holes,
    .work = q2_work_begin (budget, io->host->ops->extents != NULL
                           ? Q2_RECOUNT_STEPS : Q2_RECOUNT_BLIND_STEPS,
                           "counting the references to all clusters"),
  };
  const uint64_t first_max = w.work.max;

  q2_work_allow (&w.work, paid);
  if (geo->version < 2)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "references cannot be counted in an image without "
                    "refcounts");
  w.counts = q2_counts_new (MAX_BYTES, budget, err);
  if (w.counts == NULL)
    return -1;
  w.buf = q2_buffer_alloc (w.buf_size);
  if (w.buf == NULL) {
    q2_fail_nomem (err, "reading tables");
    goto fail;
  }
  if (use_metadata (&w, err) == -1 ||
      use_l2_tables (&w, progress, opaque, err) == -1)
    goto fail;
  q2_buffer_free (w.buf, w.buf_size);
  *ret_recount = (struct q2_recount) {
    .counts = w.counts,
    .l2_tables = q2_counts_total (w.counts, Q2_USE_L2),
    .flags_are_wrong =
      w.flags_are_wrong || counts_contradict_flags (w.counts),
    .hole_bytes = w.hole_bytes,
    .paid = w.work.max - first_max,
    .work = w.work,
  };
  return 0;

 fail:
  q2_work_end (&w.work);
  q2_buffer_free (w.buf, w.buf_size);
  q2_counts_free (w.counts);
  return -1;
}

int
q2_recount (struct q2_recount *ret_recount, const struct q2_io *io,
            const struct q2_header *h, const struct q2_geometry *geo,
            q2_progress_fn progress, void *opaque, struct qcow2_error *err)
{
  return recount (ret_recount, io, h, geo, true, 0, progress, opaque, err);
}

int
q2_recount_all (struct q2_recount *ret_recount, const struct q2_io *io,
                const struct q2_header *h, const struct q2_geometry *geo,
                uint64_t paid, q2_progress_fn progress, void *opaque,
                struct qcow2_error *err)
{
  return recount (ret_recount, io, h, geo, false,
                  q2_min (paid, UINT64_MAX / 16) * Q2_RECOUNT_PAID_TWICE,
                  progress, opaque, err);
}

void
q2_recount_free (struct q2_recount *recount)
{
  q2_work_end (&recount->work);
  q2_counts_free (recount->counts);
  recount->counts = NULL;
}
