/* SPDX-License-Identifier: BSD-3-Clause */
/* diff.c - the mask of differences between two disks of an image.
 *
 * Owns      comparing L1 and L2 tables; the tables of A.
 * Method    reads only tables.  Clusters and tables of a snapshot never change
 *           (view/snapshot_view.h).  So if entries of A and B refer to the
 *           same place, the bytes are equal, and if both refer to the same L2
 *           table it need not be read.  This holds for the active disk as
 *           well: a cluster that A has, too, is shared, is copied before it is
 *           written, and is never freed for another use.  Two entries are
 *           compared by subclusters; without extended entries a cluster has 32
 *           equal ones.  A subcluster is zeros, or unallocated, or at some
 *           place in the file, and is unchanged if that is the same on both
 *           sides.  Unallocated means zeros without a backing image and past
 *           its end.  Past its own end A reads as zeros, even in the middle of
 *           a cluster, regardless of the cluster and the backing image.  An
 *           invalid entry is an error on either side.
 * Locks     none: tables guard themselves.  Comparing with the active disk is
 *           a request in flight, as reading it is.
 */
#include "config.h"

#include "view/diff.h"
#include "view/mask.h"
#include "view/view.h"

#include "format/entry.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* Entries compared in one go: 4 KiB of a table. */
#define MAX_WORDS 512

struct diff_mask {
  struct q2_mask mask;          /* first */
  struct qcow2_image *image;
  struct q2_geometry a_geo;
  struct q2_pin a_pin;
  struct q2_tables *a, *b;      /* b belongs to the base */
  bool b_is_active;
};

/* A piece of the disk under one L1 entry, on one side of A's end and of the
 * end of the backing image.
 */
struct piece {
  const struct diff_mask *d;
  const struct q2_io *io;
  bool scan;
  uint64_t guest_off, end;
  bool inside;                  /* A */
  bool backed;                  /* unallocated bytes come from the backing
                                   image */
};

/* ---- Two entries ---------------------------------------------------- */

/* Stands for A's entries past its end. */
static const struct q2_entry reads_as_zeros = {
  .zero = Q2_ALL_SUBCLUSTERS
};

/* csize is 0 if and only if the cluster is not compressed. */
static bool
same_place (const struct q2_mapping *a, const struct q2_mapping *b)
{
  return a->host_off == b->host_off && a->csize == b->csize;
}

/* The subclusters that differ. */
static uint32_t
compare (const struct q2_entry *a, const struct q2_entry *b, bool backed)
{
  const uint32_t a_none = ~(a->alloc | a->zero);
  const uint32_t b_none = ~(b->alloc | b->zero);
  const uint32_t both_zero =
    (a->zero | (backed ? 0 : a_none)) & (b->zero | (backed ? 0 : b_none));
  const uint32_t both_data =
    same_place (&a->m, &b->m) ? a->alloc & b->alloc : 0;

  return ~(both_zero | both_data | (a_none & b_none));
}

/* ---- Tables --------------------------------------------------------- */

static uint64_t
table_of (const struct q2_tables *t, uint64_t guest_off)
{
  const struct q2_geometry *const geo = q2_tables_geometry (t);

  return q2_l1e_table (geo, q2_tables_l1_entry (t, q2_l1_index (geo,
                                                                guest_off)));
}

/* The piece of the disk from guest_off on. */
static struct piece
next_piece (const struct diff_mask *d, uint64_t guest_off, uint64_t end)
{
  const uint64_t span = UINT64_C (1) << d->a_geo.l1_shift;
  const uint64_t a_size = d->a_geo.virtual_size;
  struct piece p = {
    .d = d, .guest_off = guest_off, .inside = guest_off < a_size,
    .backed = q2_store_has_below (&d->image->store, guest_off),
  };

  p.end = q2_min (end, q2_align_down (guest_off, span) + span);
  if (p.inside)
    p.end = q2_min (p.end, a_size);
  if (p.backed)
    p.end = q2_min (p.end, d->image->store.below_reach);
  (void) q2_check (p.guest_off < p.end && p.end <= end);
  return p;
}

/* True if L1 entries decide about a whole piece; *ret_set is the result. */
static bool
tables_tell (const struct piece *p, bool *ret_set)
{
  const uint64_t b = table_of (p->d->b, p->guest_off);

  if (p->inside) {
    *ret_set = false;
    return table_of (p->d->a, p->guest_off) == b;
  }
  /* A reads as zeros there, and B from the backing image, if any. */
  *ret_set = p->backed;
  return b == 0;
}

/* ---- Many entries --------------------------------------------------- */

/* Load raw entries from p->guest_off on, as many as there is room for; all 0
 * if there is no table.  The table cache learns the length of the piece, to
 * read it at once.
 */
static int
load (const struct piece *p, struct q2_tables *t, uint64_t *raw,
      uint64_t *ret_nr, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = q2_tables_geometry (t);
  const size_t size = MAX_WORDS * sizeof *raw;
  const uint64_t nr =
    q2_ceil_shift (p->end - q2_align_down (p->guest_off, geo->cluster_size),
                   geo->cluster_bits);
  const struct q2_l2_read read = {
    .l1_index = q2_l1_index (geo, p->guest_off),
    .l2_index = q2_l2_index (geo, p->guest_off),
    .count = nr, .scan = p->scan, .buf = raw, .size = size,
  };

  if (!q2_assume (read.l2_index + nr <= UINT64_C (1) << geo->l2_bits, err))
    return -1;
  if (table_of (t, p->guest_off) == 0) {
    *ret_nr = q2_min (nr, size >> geo->entry_bits);
    memset (raw, 0, *ret_nr << geo->entry_bits);
    return 0;
  }
  return q2_tables_read_l2 (t, p->io, &read, ret_nr, err);
}

static int
decode (const struct piece *p, const struct q2_tables *t, const uint64_t *raw,
        struct q2_entry *e, struct qcow2_error *err)
{
  q2_entry_load (q2_tables_geometry (t), raw, e);
  if (e->m.kind == Q2_CLUSTER_INVALID)
    return q2_map_fail_invalid (t, p->guest_off, &e->m, err);
  return 0;
}

/* Add the part of a cluster from p->guest_off on, whose changed subclusters
 * are 'changed'.  Returns false if there is no room.
 */
static bool
add_cluster (struct piece *p, uint32_t changed, struct q2_mask_runs *runs)
{
  const struct q2_geometry *const geo = &p->d->a_geo;
  const bool alike = changed == 0 || changed == Q2_ALL_SUBCLUSTERS;
  const uint64_t unit = alike ? geo->cluster_size
    : UINT64_C (1) << geo->subcluster_bits;
  const uint64_t cluster_end =
    q2_align_down (p->guest_off, geo->cluster_size) + geo->cluster_size;
  const uint64_t end = q2_min (cluster_end, p->end);

  while (p->guest_off < end) {
    const uint64_t next =
      q2_min (q2_align_down (p->guest_off, unit) + unit, end);

    if (!q2_mask_add (runs, next - p->guest_off,
                      changed & q2_entry_mask (geo, p->guest_off, 1)))
      return false;
    p->guest_off = next;
  }
  return true;
}

/* Returns 0, 1 if there is no room for more, or -1. */
static int
compare_one (struct piece *p, const uint64_t *raw_a, const uint64_t *raw_b,
             struct q2_mask_runs *runs, struct qcow2_error *err)
{
  const struct diff_mask *const d = p->d;
  struct q2_entry a = reads_as_zeros, b;

  if ((p->inside && decode (p, d->a, raw_a, &a, err) == -1) ||
      decode (p, d->b, raw_b, &b, err) == -1)
    return -1;
  return !add_cluster (p, compare (&a, &b, p->backed), runs);
}

/* Compare up to the end of one slice of a table. */
static int
compare_some (struct piece *p, struct q2_mask_runs *runs,
              struct qcow2_error *err)
{
  const struct diff_mask *const d = p->d;
  const unsigned words = d->a_geo.extended_l2 ? 2 : 1;
  uint64_t raw_a[MAX_WORDS], raw_b[MAX_WORDS];
  const uint64_t from = p->guest_off;
  uint64_t nr_a = UINT64_MAX, nr_b;
  int r = 0;

  if (load (p, d->b, raw_b, &nr_b, err) == -1 ||
      (p->inside && load (p, d->a, raw_a, &nr_a, err) == -1))
    return -1;
  for (uint64_t i = 0; i < q2_min (nr_a, nr_b) && r == 0; ++i)
    r = compare_one (p, raw_a + i * words, raw_b + i * words, runs, err);
  if (r == 0 && !q2_assume (p->guest_off > from && p->guest_off <= p->end,
                            err))
    return -1;
  return r;
}

static int
compare_piece (struct piece *p, struct q2_mask_runs *runs,
               struct qcow2_error *err)
{
  bool set;
  int r = 0;

  if (tables_tell (p, &set))
    return !q2_mask_add (runs, p->end - p->guest_off, set);
  while (r == 0 && p->guest_off < p->end)
    r = compare_some (p, runs, err);
  return r;
}

/* ---- The mask ------------------------------------------------------- */

/* B's tables stay in place while a request reads them. */
static unsigned
enter (const struct diff_mask *d)
{
  return d->b_is_active ? q2_flight_enter (&d->image->writer.flight) : 0;
}

static void
leave (const struct diff_mask *d, unsigned token)
{
  if (d->b_is_active)
    q2_flight_leave (&d->image->writer.flight, token);
}

static int
diff_runs (struct q2_mask *mask, const struct q2_io *io, uint64_t guest_off,
           uint64_t len, bool scan, struct q2_mask_runs *runs,
           struct qcow2_error *err)
{
  const struct diff_mask *const d = (struct diff_mask *) mask;
  const uint64_t end = guest_off + len;
  const unsigned token = enter (d);
  int r = 0;

  while (r == 0 && guest_off < end) {
    struct piece p = next_piece (d, guest_off, end);

    if (p.end <= guest_off)     /* a bug that has been noted */
      break;
    p.io = io;
    p.scan = scan;
    guest_off = p.end;
    r = compare_piece (&p, runs, err);
  }
  leave (d, token);
  return r == -1 ? -1 : 0;
}

static void
load_tables (const struct diff_mask *d, const struct q2_io *io,
             uint64_t from, uint64_t to)
{
  struct q2_workers *const workers = d->image->reader.workers;
  const uint64_t a_to = q2_min (to, d->a_geo.virtual_size);

  if (from < to)
    q2_tables_preload (d->b, io, workers, from, to - from);
  if (from < a_to)
    q2_tables_preload (d->a, io, workers, from, a_to - from);
}

/* Load the tables that have to be compared, neighbours together. */
static void
diff_preload (struct q2_mask *mask, const struct q2_io *io,
              uint64_t guest_off, uint64_t len)
{
  const struct diff_mask *const d = (struct diff_mask *) mask;
  const uint64_t end = guest_off + len;
  const unsigned token = enter (d);
  uint64_t from = guest_off;

  while (guest_off < end) {
    const struct piece p = next_piece (d, guest_off, end);
    bool ignored;

    if (p.end <= guest_off)     /* a bug that has been noted */
      break;
    if (tables_tell (&p, &ignored)) {
      load_tables (d, io, from, guest_off);
      from = p.end;
    }
    guest_off = p.end;
  }
  load_tables (d, io, from, end);
  leave (d, token);
}

static void
diff_free (struct q2_mask *mask)
{
  struct diff_mask *const d = (struct diff_mask *) mask;

  q2_tables_free (d->a);
  q2_unpin (d->image, &d->a_pin);
  free (d);
}

static const struct q2_mask_ops diff_ops = {
  .runs = diff_runs,
  .preload = diff_preload,
  .free = diff_free,
};

/* Compare that snapshot with the active disk; whoever has another disk in mind
 * sets b.
 */
static struct diff_mask *
compare_with_active (struct qcow2_image *image, const struct qcow2_io *host,
                     const struct q2_found_snapshot *a,
                     struct qcow2_error *err)
{
  struct diff_mask *const d = calloc (1, sizeof *d);

  if (d == NULL) {
    q2_fail_nomem (err, "a view of what has changed");
    return NULL;
  }
  d->mask.ops = &diff_ops;
  d->image = image;
  d->a = q2_snapshot_tables (image, host, a, &d->a_geo, &d->a_pin, err);
  if (d->a == NULL) {
    free (d);
    return NULL;
  }
  d->b = image->reader.tables;
  d->b_is_active = true;
  return d;
}

struct q2_mask *
q2_diff_since (struct qcow2_image *image, const struct qcow2_io *host,
               const struct q2_found_snapshot *a, struct qcow2_error *err)
{
  struct diff_mask *const d = compare_with_active (image, host, a, err);

  return d == NULL ? NULL : &d->mask;
}

struct qcow2_image *
q2_diff_open (struct qcow2_image *image, const struct qcow2_io *host,
              const struct qcow2_name *name, struct qcow2_error *err)
{
  struct qcow2_image *base = image;
  struct q2_diff_pair pair;
  struct diff_mask *d;

  if (q2_diff_find_pair (image, host, name, &pair, err) == -1)
    return NULL;
  d = compare_with_active (image, host, &pair.a, err);
  if (d != NULL && !pair.b_is_active)
    base = q2_snapshot_open (image, host, &pair.b, err);
  /* Entries of one index are of the same bytes. */
  if (d != NULL && base != NULL &&
      !q2_assume (d->a_geo.cluster_bits == base->geo.cluster_bits &&
                  d->a_geo.l2_bits == base->geo.l2_bits &&
                  d->a_geo.extended_l2 == base->geo.extended_l2, err)) {
    if (base != image)
      qcow2_close (base);
    base = NULL;
  }
  if (d == NULL || base == NULL) {
    if (d != NULL)
      diff_free (&d->mask);
    return NULL;
  }
  d->b = base->reader.tables;
  d->b_is_active = pair.b_is_active;
  return q2_mask_open (image, base, &d->mask,
                       "it is the difference of two disks", err);
}
