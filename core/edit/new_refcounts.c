/* SPDX-License-Identifier: BSD-3-Clause */
/* new_refcounts.c - refcounts of another width, or in fewer blocks.
 *
 * Owns      a second refcount table, with blocks, beside the one in use.
 * Method    room for both comes from the refcounts in use, until each range of
 *           clusters with any refcount has its block, these among them.  Then
 *           all of that is durable, no refcount changes any more, and the new
 *           blocks are written: what the old ones have, but for the clusters
 *           of the old table and the old blocks, which are free as soon as the
 *           header names the new table.
 * Locks     the gate is closed, so that no refcount changes.
 */
#include "config.h"

#include "edit/new_refcounts.h"

#include "format/refcount_bits.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BLOCKS (Q2_MAX_REFCOUNT_TABLE_BYTES / 8)
#define NEEDED UINT64_C (1)     /* in the place of a block's offset */

struct widths {
  struct q2_new_refcounts *n;
  unsigned cluster_bits;
  unsigned old_bits, new_bits;  /* log2 of the refcounts of a block */
  uint64_t *blocks;             /* MAX_BLOCKS: 0, NEEDED, or host offsets */
  uint64_t nr;                  /* up to the last of them */
  uint64_t *old;                /* the table in use, or NULL */
  uint64_t nr_old;
  uint64_t *leaving;            /* its clusters and blocks, in order */
  uint64_t nr_leaving, next_leaving;
  unsigned char *from, *to;     /* a block each */
};

/* ---- The refcounts in use --------------------------------------------- */

static int
load_table (struct widths *s, struct qcow2_error *err)
{
  struct q2_edit *const e = s->n->edit;
  const struct q2_header h = q2_writer_header (e->w);
  const uint64_t bytes =
    (uint64_t) h.refcount_table_clusters << s->cluster_bits;

  free (s->old);
  s->nr_old = bytes / 8;
  s->old = malloc (bytes + 1);
  if (s->old == NULL)
    return q2_fail_nomem (err, "the refcount table");
  if (q2_io_read (&e->io, s->old, bytes, h.refcount_table_offset,
                  QCOW2_IO_REFCOUNT, err) == -1)
    return -1;
  for (uint64_t i = 0; i < s->nr_old; ++i)
    s->old[i] = load_be64 (&s->old[i]);
  return 0;
}

/* Load the block with the refcount of a cluster; false: there is none. */
static int
load_block (struct widths *s, uint64_t i, bool *ret_any,
            struct qcow2_error *err)
{
  *ret_any = i < s->nr_old && s->old[i] != 0;
  return *ret_any
    ? q2_io_read (&s->n->edit->io, s->from, UINT64_C (1) << s->cluster_bits,
                  s->old[i], QCOW2_IO_REFCOUNT, err) : 0;
}

static uint64_t
old_value (const struct widths *s, uint64_t cluster)
{
  return q2_refcount_get (s->from, s->n->edit->w->geo->refcount_order,
                          cluster & ((UINT64_C (1) << s->old_bits) - 1));
}

/* ---- What is free then ------------------------------------------------ */

static int
compare (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

/* What the header does not name any more then. */
static int
list_leaving (struct widths *s, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (s->n->edit->w);
  const uint64_t table = h.refcount_table_offset >> s->cluster_bits;

  free (s->leaving);
  s->nr_leaving = s->next_leaving = 0;
  s->leaving = malloc ((s->nr_old + h.refcount_table_clusters) * 8 + 1);
  if (s->leaving == NULL)
    return q2_fail_nomem (err, "the refcount table");
  for (uint64_t i = 0; i < h.refcount_table_clusters; ++i)
    s->leaving[s->nr_leaving++] = table + i;
  for (uint64_t i = 0; i < s->nr_old; ++i)
    if (s->old[i] != 0)
      s->leaving[s->nr_leaving++] = s->old[i] >> s->cluster_bits;
  qsort (s->leaving, s->nr_leaving, 8, compare);
  return q2_assume (s->nr_leaving <= s->nr_old + h.refcount_table_clusters,
                    err) ? 0 : -1;
}

/* Called for clusters in ascending order. */
static bool
is_leaving (struct widths *s, uint64_t cluster)
{
  q2_check (s->next_leaving == 0 ||
            s->leaving[s->next_leaving - 1] < cluster);
  while (s->next_leaving < s->nr_leaving &&
         s->leaving[s->next_leaving] < cluster)
    ++s->next_leaving;
  return s->next_leaving < s->nr_leaving &&
    s->leaving[s->next_leaving] == cluster;
}

/* ---- Which blocks are needed ------------------------------------------ */

static int
need_block (struct widths *s, uint64_t cluster, struct qcow2_error *err)
{
  const uint64_t i = cluster >> s->new_bits;

  if (i >= MAX_BLOCKS)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "the refcount table would be larger than the format "
                    "allows with refcounts of %u bits",
                    1u << s->n->order);
  if (s->blocks[i] == 0)
    s->blocks[i] = NEEDED;
  s->nr = q2_max (s->nr, i + 1);
  return 0;
}

static int
check_fits (const struct widths *s, uint64_t cluster, uint64_t value,
            struct qcow2_error *err)
{
  const unsigned order = s->n->order;

  if (order == 6 || value >> (1u << order) == 0)
    return 0;
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, cluster << s->cluster_bits,
                  "refcounts cannot have %u bits: the cluster at offset 0x%"
                  PRIx64 " has %" PRIu64 " references", 1u << order,
                  cluster << s->cluster_bits, value);
}

static int
scan_block (struct widths *s, uint64_t block, struct qcow2_error *err)
{
  const uint64_t first = block << s->old_bits;
  bool any;

  if (load_block (s, block, &any, err) == -1)
    return -1;
  for (uint64_t i = 0; any && i >> s->old_bits == 0; ++i) {
    const uint64_t value = old_value (s, first + i);

    if (value > 0 && !is_leaving (s, first + i) &&
        (check_fits (s, first + i, value, err) == -1 ||
         need_block (s, first + i, err) == -1))
      return -1;
  }
  return 0;
}

static int
scan (struct widths *s, struct qcow2_error *err)
{
  if (load_table (s, err) == -1 || list_leaving (s, err) == -1)
    return -1;
  for (uint64_t i = 0; i < s->nr_old; ++i)
    if (scan_block (s, i, err) == -1)
      return -1;
  return 0;
}

/* ---- Room ------------------------------------------------------------- */

static int
allocate (struct widths *s, uint64_t clusters, enum q2_meta_class class,
          uint64_t *ret_host_off, struct qcow2_error *err)
{
  if (q2_edit_alloc (s->n->edit, clusters << s->cluster_bits, class,
                     ret_host_off, err) == -1)
    return -1;
  for (uint64_t i = 0; i < clusters; ++i)
    if (need_block (s, (*ret_host_off >> s->cluster_bits) + i, err) == -1)
      return -1;
  return 0;
}

/* A block may need another one for its own refcount. */
static int
allocate_blocks (struct widths *s, struct qcow2_error *err)
{
  bool again = true;

  while (again) {
    again = false;
    for (uint64_t i = 0; i < s->nr; ++i) {
      if (s->blocks[i] != NEEDED)
        continue;
      again = true;
      if (allocate (s, 1, Q2_META_REFCOUNT_BLOCK, &s->blocks[i], err) == -1)
        return -1;
    }
  }
  return 0;
}

/* What the table needs depends on where it lies. */
static int
allocate_all (struct widths *s, struct qcow2_error *err)
{
  struct q2_new_refcounts *const n = s->n;
  uint64_t clusters = 0;

  while (allocate_blocks (s, err) == 0) {
    const uint64_t want = q2_ceil_shift (s->nr * 8, s->cluster_bits);

    if (want <= clusters) {
      n->table_clusters = (uint32_t) clusters;
      return 0;
    }
    if (clusters > 0 &&
        q2_edit_give_back (n->edit, n->table_off >> s->cluster_bits, clusters,
                           err) == -1)
      break;
    clusters = want;
    if (allocate (s, clusters, Q2_META_REFCOUNT_TABLE, &n->table_off, err)
        == -1)
      break;
  }
  n->table_off = 0;
  return -1;
}

/* ---- Writing ---------------------------------------------------------- */

static int
fill_block (struct widths *s, uint64_t block, struct qcow2_error *err)
{
  const uint64_t nr = UINT64_C (1) << s->new_bits;
  const uint64_t per_old = UINT64_C (1) << s->old_bits;
  const uint64_t first = block << s->new_bits;
  bool any = false;

  memset (s->to, 0, (size_t) 1 << s->cluster_bits);
  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t cluster = first + i;
    uint64_t value;

    if ((i == 0 || (cluster & (per_old - 1)) == 0) &&
        load_block (s, cluster >> s->old_bits, &any, err) == -1)
      return -1;
    value = any ? old_value (s, cluster) : 0;
    if (value == 0 || is_leaving (s, cluster))
      continue;
    if (check_fits (s, cluster, value, err) == -1)
      return -1;
    s->n->end = (cluster + 1) << s->cluster_bits;
    q2_refcount_set (s->to, s->n->order, i, value);
  }
  return 0;
}

static int
write_blocks (struct widths *s, struct qcow2_error *err)
{
  struct q2_new_refcounts *const n = s->n;

  for (uint64_t i = 0; i < s->nr; ++i) {
    if (s->blocks[i] == 0)
      continue;
    if (!q2_assume (s->blocks[i] != NEEDED, err))
      return -1;
    if (fill_block (s, i, err) == -1 ||
        q2_edit_write (n->edit, s->to, UINT64_C (1) << s->cluster_bits,
                       s->blocks[i], Q2_META_REFCOUNT_BLOCK, err) == -1 ||
        q2_progress_add (n->progress, 1, n->cancelled, err) == -1)
      return -1;
  }
  return 0;
}

static int
write_table (struct widths *s, struct qcow2_error *err)
{
  const uint64_t bytes = (uint64_t) s->n->table_clusters << s->cluster_bits;

  if (!q2_assume (s->nr * 8 <= bytes && bytes <= MAX_BLOCKS * 8, err))
    return -1;
  for (uint64_t i = 0; i < bytes / 8; ++i)
    store_be64 (&s->blocks[i], s->blocks[i]);
  return q2_edit_write (s->n->edit, s->blocks, bytes, s->n->table_off,
                        Q2_META_REFCOUNT_TABLE, err);
}

/* Clusters of the table and blocks that would be left out; those that are new
 * may need another block for themselves.
 */
static bool
are_fewer (const struct widths *s)
{
  const struct q2_header h = q2_writer_header (s->n->edit->w);
  uint64_t old = h.refcount_table_clusters;
  uint64_t new = q2_ceil_shift (s->nr * 8, s->cluster_bits);

  for (uint64_t i = 0; i < s->nr_old; ++i)
    old += s->old[i] != 0;
  for (uint64_t i = 0; i < s->nr; ++i)
    new += s->blocks[i] != 0;
  return new < old;
}

static int
make (struct widths *s, struct qcow2_error *err)
{
  struct q2_new_refcounts *const n = s->n;

  if (q2_edit_commit (n->edit, err) == -1 || scan (s, err) == -1)
    return -1;
  if (n->only_fewer && !are_fewer (s))
    return 0;
  if (allocate_all (s, err) == -1 || q2_edit_commit (n->edit, err) == -1)
    return -1;
  if (q2_writer_is_dirty (n->edit->w))
    return q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET,
                    "the width of refcounts cannot change while somebody "
                    "reads clusters that are to be freed");
  n->progress->total = n->progress->done + s->nr;
  /* EDIT-5: what is copied now is what the switch finds. */
  if (!q2_assume (!q2_space_is_dirty (n->edit->w->space), err))
    return -1;
  if (load_table (s, err) == -1 || list_leaving (s, err) == -1 ||
      write_blocks (s, err) == -1 || write_table (s, err) == -1)
    return -1;
  return q2_assume (!q2_space_is_dirty (n->edit->w->space), err) &&
    q2_assume (n->table_off < n->end, err) ? 0 : -1;
}

int
q2_new_refcounts_make (struct q2_new_refcounts *n, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = n->edit->w->geo;
  struct widths s = {
    .n = n, .cluster_bits = geo->cluster_bits, .old_bits = geo->refblock_bits,
    .new_bits = geo->cluster_bits + 3 - n->order,
    .blocks = calloc (MAX_BLOCKS, 8), .from = malloc (geo->cluster_size),
    .to = malloc (geo->cluster_size),
  };
  const int r = s.blocks == NULL || s.from == NULL || s.to == NULL
    ? q2_fail_nomem (err, "refcounts") : make (&s, err);

  free (s.blocks);
  free (s.old);
  free (s.leaving);
  free (s.from);
  free (s.to);
  if (r == -1)
    n->table_off = 0;
  return r;
}

void
q2_new_refcounts_set (const struct q2_new_refcounts *n,
                      struct q2_header_parts *parts)
{
  if (n->table_off == 0)
    return;
  q2_check (n->table_clusters > 0 && n->order <= 6);
  parts->fields.refcount_order = n->order;
  parts->fields.refcount_table_offset = n->table_off;
  parts->fields.refcount_table_clusters = n->table_clusters;
}
