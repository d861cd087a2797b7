/* SPDX-License-Identifier: BSD-3-Clause */
/* allocate.c - writing where entries have to change.
 *
 * Owns      the bytes around a write that come with a cluster.
 * Method    a write that changes entries first puts all bytes of its
 *           clusters into the file, in one request where that is not much
 *           larger than the write, then links them.  What surrounds the
 *           written range is what the disk reads as: zeros, or bytes that
 *           are read like any others, so that copying from compressed or
 *           shared clusters, or from the layer below, is no case of its own.
 *
 *           In a data file a cluster needs no space: it has its place.
 * Locks     the caller holds the clusters.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/plant.h"

#include <stdlib.h>
#include <string.h>

/* Larger writes are not copied to make one request of them. */
#define MAX_BOUNCE (UINT64_C (256) << 10)

/* ---- New clusters --------------------------------------------------- */

/* A write into clusters that get new space, or into space that the cluster
 * has but that does not count yet.
 */
struct fill {
  uint64_t guest_cluster, nr;   /* the clusters */
  uint64_t host_off;            /* of the first */
  uint64_t start, end;          /* what is written of the disk: the request */
  uint64_t from, to;            /*   and what comes with it */
  const struct q2_entry *first, *last;
  struct q2_space_run run;      /* new space in the image; nr == 0: none */
};

/* All of the cluster that the byte at guest_off is in. */
static bool
reads_as_zeros (const struct q2_writer *w, const struct q2_entry *e,
                uint64_t guest_off)
{
  return e->alloc == 0 &&
    (e->zero == Q2_ALL_SUBCLUSTERS || Q2_PLANTED (Q2_PLANT_FORGET_BELOW) ||
     !q2_store_has_below (w->store,
                          q2_align_down (guest_off, w->geo->cluster_size)));
}

/* How much around the request has to be written: of a cluster that has data
 * elsewhere all, else what the touched subclusters need.
 */
static void
choose_edges (const struct q2_geometry *geo, bool new_space, struct fill *f)
{
  const uint64_t sub = UINT64_C (1) << geo->subcluster_bits;
  const uint64_t left =
    new_space && f->first->alloc ? geo->cluster_size : sub;
  const uint64_t right =
    new_space && f->last->alloc ? geo->cluster_size : sub;

  f->from = q2_align_down (f->start, left);
  f->to = q2_align_up (f->end, right);
  if (geo->data_file)           /* which need not be longer than the disk */
    f->to = q2_min (f->to, geo->virtual_size);
  if (new_space)
    return;
  /* Subclusters that are data in this very place stay as they are. */
  if (f->first->alloc & q2_entry_mask (geo, f->start, 1))
    f->from = f->start;
  if (f->last->alloc & q2_entry_mask (geo, f->end - 1, 1))
    f->to = f->end;
}

/* The bytes of the disk at guest_off, as they are before the write. */
static int
old_bytes (struct q2_change *c, const struct q2_entry *e, unsigned char *buf,
           uint64_t len, uint64_t guest_off, struct qcow2_error *err)
{
  const uint64_t size = c->w->geo->virtual_size;
  const uint64_t inside =
    guest_off < size ? q2_min (len, size - guest_off) : 0;

  if (len == 0)
    return 0;
  if (reads_as_zeros (c->w, e, guest_off)) {
    memset (buf, 0, len);
    return 0;
  }
  memset (buf + inside, 0, len - inside);
  if (inside == 0)
    return 0;
  return q2_reader_pread (c->w->reader, c->io, buf, inside, guest_off, err);
}

static struct q2_place
place_of (const struct q2_writer *w, const struct fill *f, uint64_t guest_off)
{
  return (struct q2_place) {
    f->host_off + guest_off - (f->guest_cluster << w->geo->cluster_bits),
    guest_off
  };
}

static int
write_edge (struct q2_change *c, const struct fill *f,
            const struct q2_entry *e, uint64_t from, uint64_t to,
            struct qcow2_error *err)
{
  Q2_CLEANUP_FREE unsigned char *bytes = NULL;

  if (from == to)
    return 0;
  if (reads_as_zeros (c->w, e, from))
    return q2_store_zero (c->w->store, c->io, to - from,
                          place_of (c->w, f, from), false, err);
  bytes = malloc (to - from);
  if (bytes == NULL)
    return q2_fail_nomem (err, "a copy of a cluster");
  if (old_bytes (c, e, bytes, to - from, from, err) == -1)
    return -1;
  return q2_store_write (c->w->store, c->io, bytes, to - from,
                         place_of (c->w, f, from), err);
}

/* What comes with the request on both sides of it; of one cluster, it is read
 * in one go, which costs less than two requests.
 */
static int
old_edges (struct q2_change *c, const struct fill *f, unsigned char *bytes,
           struct qcow2_error *err)
{
  if (f->nr == 1 && f->from < f->start && f->end < f->to)
    return old_bytes (c, f->first, bytes, f->to - f->from, f->from, err);
  if (old_bytes (c, f->first, bytes, f->start - f->from, f->from, err) == -1)
    return -1;
  return old_bytes (c, f->last, bytes + (f->end - f->from), f->to - f->end,
                    f->end, err);
}

static int
write_in_one (struct q2_change *c, const struct fill *f, const void *buf,
              struct qcow2_error *err)
{
  Q2_CLEANUP_FREE unsigned char *bytes = malloc (f->to - f->from);

  if (bytes == NULL)
    return q2_fail_nomem (err, "a copy of a cluster");
  if (old_edges (c, f, bytes, err) == -1)
    return -1;
  memcpy (bytes + (f->start - f->from), buf, f->end - f->start);
  return q2_store_write (c->w->store, c->io, bytes, f->to - f->from,
                         place_of (c->w, f, f->from), err);
}

static int
write_fill (struct q2_change *c, struct fill *f, bool new_space, bool zero,
            const void *buf, struct qcow2_error *err)
{
  choose_edges (c->w->geo, new_space, f);
  if (!q2_assume (f->from <= f->start && f->start < f->end &&
                  f->end <= f->to, err) ||
      !q2_assume (f->from >> c->w->geo->cluster_bits >= f->guest_cluster &&
                  (f->to - 1) >> c->w->geo->cluster_bits <
                  f->guest_cluster + f->nr, err))
    return -1;
  if (zero && reads_as_zeros (c->w, f->first, f->start))
    f->from = f->start;
  if (zero && reads_as_zeros (c->w, f->last, f->end - 1))
    f->to = f->end;
  if (f->to - f->from > f->end - f->start && f->to - f->from <= MAX_BOUNCE)
    return write_in_one (c, f, buf, err);
  if (write_edge (c, f, f->first, f->from, f->start, err) == -1 ||
      q2_store_write (c->w->store, c->io, buf, f->end - f->start,
                      place_of (c->w, f, f->start), err) == -1)
    return -1;
  return write_edge (c, f, f->last, f->end, f->to, err);
}

/* ---- Linking what was written --------------------------------------- */

/* The new entry of one of the clusters. */
static void
make_entry (const struct q2_geometry *geo, const struct fill *f, uint64_t i,
            const struct q2_entry *old, unsigned char *raw)
{
  const uint64_t start = (f->guest_cluster + i) << geo->cluster_bits;
  const uint64_t from = q2_max (f->start, start);
  const uint64_t to = q2_min (f->end, start + geo->cluster_size);
  const uint32_t touched = q2_entry_mask (geo, from, to - from);
  const uint32_t alloc = old->alloc | touched;

  q2_check (from < to);
  q2_entry_store (geo, raw, f->host_off + (i << geo->cluster_bits), true,
                  alloc, old->zero & ~alloc);
}

/* ORDER-3 holds for these entries without a flush: without what was written
 * their clusters read as zeros, as the disk did.
 */
static bool
is_fresh (const struct q2_change *c, const struct fill *f, bool *ret_hopeful)
{
  const struct q2_writer *const w = c->w;
  bool fresh;

  *ret_hopeful = false;
  if (f->run.nr == 0 || (w->store->cipher != NULL &&
                         !Q2_PLANTED (Q2_PLANT_FRESH_NOISE)))
    return false;
  fresh = q2_writer_is_unused (c, &f->run, ret_hopeful);
  for (uint64_t i = 0; *ret_hopeful && i < f->nr; ++i)
    *ret_hopeful = Q2_PLANTED (Q2_PLANT_FRESH_OLD) ||
      reads_as_zeros (w, &f->first[i],
                      (f->guest_cluster + i) << w->geo->cluster_bits);
  return fresh && *ret_hopeful;
}

static int
link_fill (struct q2_change *c, const struct fill *f, bool new_space,
           struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[Q2_MAX_ENTRIES * 8];
  bool let_go[Q2_MAX_ENTRIES];
  struct q2_link link = {
    .guest_cluster = f->guest_cluster, .nr = f->nr, .raw = raw,
    .old = f->first, .let_go = let_go,
  };

  if (!q2_assume (f->nr > 0 && f->nr <= Q2_MAX_ENTRIES, err))
    return -1;
  for (uint64_t i = 0; i < f->nr; ++i) {
    make_entry (geo, f, i, &f->first[i], raw + (i << geo->entry_bits));
    let_go[i] = new_space;
  }
  link.fresh = is_fresh (c, f, &link.hopeful);
  return q2_writer_link (c, &link, err);
}

/* ---- Writing -------------------------------------------------------- */

/* The caller holds the cluster, so its entry stays what it is. */
static int
check_kept (struct q2_change *c, const struct fill *f,
            struct qcow2_error *err)
{
  int r;

  while ((r = q2_writer_check_trusted (c, f->host_off,
                                       c->w->geo->cluster_size, err)) > 0)
    if (q2_change_commit (c, err) == -1)
      return -1;
  return r;
}

/* One cluster that has space: it only has to count. */
static int
write_kept (struct q2_change *c, struct fill *f, const void *buf,
            struct qcow2_error *err)
{
  f->nr = 1;
  f->last = f->first;
  f->end = q2_min (f->end, (f->guest_cluster + 1)
                   << c->w->geo->cluster_bits);
  f->host_off = f->first->m.host_off;
  if (!q2_assume (f->first->copied && f->first->m.placed, err))
    return -1;
  if (check_kept (c, f, err) == -1 ||
      write_fill (c, f, false, false, buf, err) == -1)
    return -1;
  return link_fill (c, f, false, err);
}

static int
write_allocated (struct q2_change *c, struct fill *f, const void *buf,
                 struct qcow2_error *err)
{
  const unsigned bits = c->w->geo->cluster_bits;
  struct q2_space_run run;

  if (q2_writer_check_old (c, f->first, f->nr, err) == -1 ||
      q2_writer_alloc (c, f->guest_cluster, f->nr, &run, err) == -1)
    return -1;
  if (!q2_assume (run.nr > 0 && run.nr <= f->nr && run.cluster > 0, err))
    return -1;
  f->run = run;
  f->nr = run.nr;
  f->last = f->first + run.nr - 1;
  f->end = q2_min (f->end, (f->guest_cluster + run.nr) << bits);
  f->host_off = run.cluster << bits;
  /* Zeros in the file are noise on an encrypted disk. */
  run.zero &= c->w->store->cipher == NULL ||
    Q2_PLANTED (Q2_PLANT_ZEROS_ARE_ZEROS);
  if (write_fill (c, f, true, run.zero, buf, err) == 0 &&
      link_fill (c, f, true, err) == 0)
    return 0;
  q2_space_undo (c->w->space, c->io, run.cluster, run.nr);
  return -1;
}

/* In a data file each cluster has its place. */
static int
write_placed (struct q2_change *c, struct fill *f, const void *buf,
              struct qcow2_error *err)
{
  f->last = f->first + f->nr - 1;
  f->host_off = f->guest_cluster << c->w->geo->cluster_bits;
  if (write_fill (c, f, true, false, buf, err) == -1)
    return -1;
  return link_fill (c, f, true, err);
}

/* A data file that must equal the disk has bytes of a write that failed, and
 * the entries still say zeros.
 */
static void
zero_again (struct q2_change *c, const struct fill *f)
{
  const struct q2_geometry *const geo = c->w->geo;
  const uint64_t sub = UINT64_C (1) << geo->subcluster_bits;
  struct qcow2_error ignored;
  uint64_t next;

  for (uint64_t at = f->from; at < f->to; at = next) {
    const uint64_t i = (at >> geo->cluster_bits) - f->guest_cluster;

    next = q2_min (q2_align_down (at, sub) + sub, f->to);
    if (!(f->first[i].alloc & q2_entry_mask (geo, at, 1)) &&
        q2_store_zero (c->w->store, c->io, next - at, place_of (c->w, f, at),
                       false, &ignored) == -1)
      return;
  }
}

static int
write_clusters (struct q2_change *c, struct fill *f, const void *buf,
                struct qcow2_error *err)
{
  int r;

  if (f->nr == 0)
    r = write_kept (c, f, buf, err);
  else if (c->w->geo->data_file)
    r = write_placed (c, f, buf, err);
  else
    return write_allocated (c, f, buf, err);
  if (r == -1 && c->w->store->raw)
    zero_again (c, f);
  return r;
}

int
q2_writer_write_new (struct q2_change *c, const void *buf, uint64_t count,
                     uint64_t guest_off, uint64_t *ret_done,
                     struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  struct q2_entry e[Q2_MAX_ENTRIES];
  struct fill f = {
    .guest_cluster = guest_off >> geo->cluster_bits,
    .start = guest_off, .end = guest_off + count, .first = e,
  };
  const uint64_t wanted =
    ((f.end - 1) >> geo->cluster_bits) - f.guest_cluster + 1;
  uint64_t nr;
  bool owned;

  *ret_done = 0;
  if (q2_writer_own_table (c, q2_l1_index (geo, guest_off), err) == -1
      || q2_writer_load (c, f.guest_cluster, wanted, e, &nr, &owned, err)
      == -1 || !q2_assume (nr > 0, err))
    return -1;
  if (q2_entry_is_in_place (geo, &e[0], guest_off,
                            q2_min (count, geo->cluster_size -
                                    (guest_off & (geo->cluster_size - 1)))))
    return 0;
  while (f.nr < nr && !e[f.nr].copied)
    f.nr++;
  f.end = q2_min (f.end, (f.guest_cluster + q2_max (f.nr, 1))
                  << geo->cluster_bits);
  if (write_clusters (c, &f, buf, err) == -1)
    return -1;
  *ret_done = f.end - guest_off;
  return q2_assume (*ret_done > 0 && *ret_done <= count, err) ? 0 : -1;
}
