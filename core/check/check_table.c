/* SPDX-License-Identifier: BSD-3-Clause */
/* check_table.c - the refcount table of an image that is checked.
 *
 * Owns      which of its entries name a refcount block that can be used.
 * Method    after everything else has been counted: a block must lie in the
 *           file, begin at a cluster, and not be used for anything else, be it
 *           another block.  One that does not is reported, and is no block
 *           from then on: a repair makes a new one.  All of that is found out
 *           in the first window; data outside of it is not counted, so where
 *           the table and its blocks lie is watched (counts.h).
 * Locks     none; see check.c.
 * Spec      "Reference counts".
 */
#include "config.h"

#include "check/check_job.h"

#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

#define RESERVED_BITS UINT64_C (0x1ff)

struct table {
  struct q2_repair_job *j;
  struct q2_scope *window;
  uint64_t table_off;
  uint64_t snapshots_off;       /* what the header says */
};

/* ---- Reading it -------------------------------------------------------- */

/* Why nothing of the refcounts can be at [host_off, host_off+len), wherever
 * everything else is; NULL if it can.
 */
static const char *
find_fault (const struct q2_repair_job *j, uint64_t host_off, uint64_t len)
{
  const uint64_t file_size = q2_io_size (j->io);

  if (!q2_is_aligned (host_off, j->geo->cluster_size))
    return "not a multiple of the cluster size";
  if (host_off >= file_size ||
      host_off + len >= file_size + j->geo->cluster_size)
    return "past the end of the file";
  return NULL;
}

static int
compare (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

static int
list_places (struct q2_check *c, struct q2_repair_job *j,
             struct q2_check_places *ret, struct qcow2_error *err)
{
  const uint64_t first = c->h.refcount_table_offset >> c->geo.cluster_bits;
  const uint64_t max = j->r->nr_blocks + c->h.refcount_table_clusters;
  size_t n = 0;

  ret->clusters = calloc (max, sizeof *ret->clusters);
  ret->hit = calloc (max, sizeof *ret->hit);
  if (ret->clusters == NULL || ret->hit == NULL)
    return q2_fail_nomem (err, "the refcount table");
  for (uint64_t i = 0; i < c->h.refcount_table_clusters; ++i)
    ret->clusters[n++] = first + i;
  for (uint64_t i = 0; i < j->r->nr_blocks; ++i) {
    const uint64_t host_off = j->r->blocks[i] & ~RESERVED_BITS;

    if (host_off != 0 && find_fault (j, host_off, c->geo.cluster_size) == NULL)
      ret->clusters[n++] = host_off >> c->geo.cluster_bits;
  }
  qsort (ret->clusters, n, sizeof *ret->clusters, compare);
  ret->watch = (struct q2_watch) { ret->clusters, ret->hit, n };
  return 0;
}

/* Until the header names another table nothing else may be written there: who
 * opens the image meanwhile reads it.
 */
static int
list_named (struct q2_check *c, struct q2_repair *r, uint64_t bytes,
            struct qcow2_error *err)
{
  const unsigned bits = c->geo.cluster_bits;
  const uint64_t off = c->h.refcount_table_offset;
  size_t n = 0;

  r->named = calloc ((bytes >> bits) + 1 + 2 * r->nr_blocks,
                     sizeof *r->named);
  if (r->named == NULL)
    return q2_fail_nomem (err, "the refcount table");
  for (uint64_t i = 0; i <= bytes >> bits; ++i)
    r->named[n++] = (off >> bits) + i;
  for (uint64_t i = 0; i < r->nr_blocks; ++i)
    if (r->blocks[i] != 0) {
      r->named[n++] = (r->blocks[i] & ~RESERVED_BITS) >> bits;
      r->named[n++] = ((r->blocks[i] & ~RESERVED_BITS) +
                       c->geo.cluster_size - 1) >> bits;
    }
  qsort (r->named, n, sizeof *r->named, compare);
  r->nr_named = n;
  return 0;
}

/* The host cannot read it, so there are no blocks that are known. */
static int
take_unread (struct q2_check *c, struct q2_repair_job *j, uint64_t bytes,
             struct qcow2_error *err)
{
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_REFCOUNT_BLOCK, .severity = QCOW2_FINDING_ERROR,
    .host_off = c->h.refcount_table_offset, .length = bytes,
    .table_off = QCOW2_NO_OFFSET,
  };

  if (!q2_is_medium_fault (err))
    return -1;
  j->r->nr_blocks = 0;
  j->r->nr_unread = 1;
  j->r->table_unread = true;
  q2_find (j->findings, &like, "the refcount table at offset 0x%" PRIx64
           " cannot be read: %s", like.host_off, err->text);
  return list_named (c, j->r, bytes, err);
}

int
q2_check_load_table (struct q2_check *c, struct q2_repair_job *j,
                     struct q2_check_places *ret, struct qcow2_error *err)
{
  const uint64_t off = c->h.refcount_table_offset;
  const uint64_t bytes =
    (uint64_t) c->h.refcount_table_clusters << c->geo.cluster_bits;

  *ret = (struct q2_check_places) { .clusters = NULL };
  if (bytes == 0 || find_fault (j, off, bytes) != NULL)
    return list_named (c, j->r, bytes, err);
  if (q2_repair_read_table (j, off, bytes, err) == -1)
    return take_unread (c, j, bytes, err);
  if (list_named (c, j->r, bytes, err) == -1)
    return -1;
  j->r->stale = calloc (j->r->nr_blocks, sizeof *j->r->stale);
  j->r->unread = calloc (j->r->nr_blocks, sizeof *j->r->unread);
  if (j->r->stale == NULL || j->r->unread == NULL)
    return q2_fail_nomem (err, "the refcount table");
  if (list_places (c, j, ret, err) == 0)
    return 0;
  q2_check_free_places (ret);
  return -1;
}

void
q2_check_free_places (struct q2_check_places *places)
{
  free (places->clusters);
  free (places->hit);
  *places = (struct q2_check_places) { .clusters = NULL };
}

/* ---- Counting it ------------------------------------------------------- */

static bool
was_hit (const struct q2_watch *w, uint64_t cluster)
{
  const uint64_t *const at =
    w->nr == 0 ? NULL : bsearch (&cluster, w->clusters, w->nr,
                                 sizeof *w->clusters, compare);

  /* The same cluster more than once: all of them have been hit, or none. */
  return at != NULL && w->hit[at - w->clusters];
}

/* If another table is in the same place as refcounts either of them may be the
 * wrong one, and a wrong L1 table, snapshot table, bitmap directory or L2
 * table hides what the right one refers to.  The header is where it is.
 * Refcounts of a block that are taken for something else point past the end of
 * the file, or are no such thing, which has been noted, unless they have 64
 * bits; but zeros pass for a snapshot.
 */
static void
judge_conflict (const struct table *t, uint64_t cluster, bool is_block)
{
  const struct q2_count other = q2_counts_get (t->j->counts, cluster);
  const bool refcounts = other.flags & Q2_COUNT_REFCOUNTS;

  if (cluster == 0 || (other.use == Q2_USE_META && refcounts) ||
      (other.use != Q2_USE_META && other.use != Q2_USE_L2))
    return;
  if (!is_block || t->j->geo->refcount_order == 6 ||
      cluster == t->snapshots_off >> t->j->geo->cluster_bits)
    t->j->findings->incomplete = true;
}

/* Why nothing of the refcounts can be there, NULL if it can: then it has been
 * counted.
 */
static int
count_clusters (const struct table *t, uint64_t host_off, uint64_t len,
                const char **ret_why, struct qcow2_error *err)
{
  const unsigned bits = t->j->geo->cluster_bits;
  const uint64_t n = q2_ceil_shift (len, bits);

  *ret_why = find_fault (t->j, host_off, len);
  for (uint64_t i = 0; i < n && *ret_why == NULL; ++i) {
    const uint64_t cluster = (host_off >> bits) + i;

    if (q2_work_do (&t->j->r->recount.work, Q2_RECOUNT_CLUSTER, err) == -1)
      return -1;
    switch (was_hit (&t->window->watch, cluster) ? Q2_COUNTS_CONFLICT
            : q2_scope_add (t->window, t->j->counts, cluster, 1, Q2_USE_META,
                            Q2_COUNT_REFCOUNTS, NULL)) {
    case Q2_COUNTS_OK:
      break;
    case Q2_COUNTS_CONFLICT:
      *ret_why = "used for something else, too";
      judge_conflict (t, cluster, host_off != t->table_off);
      while (i-- > 0)
        q2_counts_clear (t->j->counts, (host_off >> bits) + i);
      return 0;
    case Q2_COUNTS_OVERFLOW:    /* never of what is used once */
    case Q2_COUNTS_FULL:
    case Q2_COUNTS_NOMEM:
      return q2_fail (err, QCOW2_ERR_NOMEM, host_off,
                      "counting the references to all clusters takes more "
                      "memory than is allowed, even in parts");
    }
  }
  return 0;
}

static void
report_entry (const struct table *t, uint64_t idx, uint64_t host_off,
              const char *what, const char *why)
{
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_REFCOUNT_BLOCK,
    .severity = QCOW2_FINDING_CORRUPTION, .host_off = host_off,
    .length = t->j->geo->cluster_size, .table_off = t->table_off,
    .index = idx,
  };

  q2_find (t->j->findings, &like, "%s 0x%" PRIx64 ", which is %s (entry "
           "%" PRIu64 " of the refcount table at offset 0x%" PRIx64 ")", what,
           host_off, why, idx, t->table_off);
}

static int
take_entry (struct table *t, uint64_t idx, uint64_t entry,
            struct qcow2_error *err)
{
  struct q2_repair *const r = t->j->r;
  const uint64_t host_off = entry & ~RESERVED_BITS;
  const char *why;

  r->blocks[idx] = 0;
  if (entry & RESERVED_BITS) {
    report_entry (t, idx, entry, "a refcount block is said to be at",
                  "an entry with reserved bits");
    r->stale[idx] = true;
  }
  if (host_off == 0)
    return 0;
  if (count_clusters (t, host_off, t->j->geo->cluster_size, &why, err) == -1)
    return -1;
  if (why == NULL)
    r->blocks[idx] = host_off;
  else {
    report_entry (t, idx, host_off, "a refcount block is said to be at offset",
                  why);
    r->stale[idx] = true;
    r->dropped = true;
  }
  return 0;
}

/* Report why there is no table. */
static void
report_table (const struct table *t, uint64_t bytes, const char *why)
{
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_REFCOUNT_BLOCK,
    .severity = QCOW2_FINDING_CORRUPTION, .host_off = t->table_off,
    .length = bytes, .table_off = QCOW2_NO_OFFSET,
  };

  q2_find (t->j->findings, &like, "the refcount table is said to be at offset "
           "0x%" PRIx64 ", which is %s", t->table_off, why);
}

static struct table
table_of (const struct q2_check *c, struct q2_repair_job *j,
          struct q2_scope *window)
{
  return (struct table) {
    .j = j, .window = window, .table_off = c->h.refcount_table_offset,
    .snapshots_off = c->h.snapshots_offset,
  };
}

int
q2_check_take_table (struct q2_check *c, struct q2_repair_job *j,
                     struct q2_scope *window, struct qcow2_error *err)
{
  const uint64_t bytes =
    (uint64_t) c->h.refcount_table_clusters << c->geo.cluster_bits;
  struct table t = table_of (c, j, window);
  const char *why = NULL;

  c->no_table = bytes == 0;     /* reported with the header */
  if (bytes > 0 &&
      count_clusters (&t, t.table_off, bytes, &why, err) == -1)
    return -1;
  if (why != NULL) {
    report_table (&t, bytes, why);
    c->no_table = true;
  }
  if (why == NULL && j->r->table_unread) {      /* only looked for overlaps */
    for (uint64_t i = 0; i < c->h.refcount_table_clusters; ++i)
      q2_counts_clear (j->counts, (t.table_off >> c->geo.cluster_bits) + i);
    c->no_table = true;
  }
  if (c->no_table) {
    j->r->nr_blocks = 0;        /* what was read is no table */
    return 0;
  }
  for (uint64_t idx = 0; idx < j->r->nr_blocks; ++idx)
    if (take_entry (&t, idx, j->r->blocks[idx], err) == -1)
      return -1;
  return 0;
}

int
q2_check_count_table (struct q2_check *c, struct q2_repair_job *j,
                      struct q2_scope *window, struct qcow2_error *err)
{
  const uint64_t bytes =
    (uint64_t) c->h.refcount_table_clusters << c->geo.cluster_bits;
  const struct table t = table_of (c, j, window);
  const char *why;

  if (c->no_table)
    return 0;
  if (count_clusters (&t, t.table_off, bytes, &why, err) == -1)
    return -1;
  for (uint64_t idx = 0; idx < j->r->nr_blocks; ++idx)
    if (q2_repair_has_block (j, idx) &&
        count_clusters (&t, j->r->blocks[idx], c->geo.cluster_size, &why, err)
        == -1)
      return -1;
  return 0;
}
