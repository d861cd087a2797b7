/* SPDX-License-Identifier: BSD-3-Clause */
/* allocate.c - writing where entries have to change.
 *
 * Owns      finding space for a request, and the bytes around a write that
 *           come with a cluster.
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

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Larger writes are not copied to make one request of them. */
#define MAX_BOUNCE (UINT64_C (256) << 10)

/* So many runs of clusters that wait to be released take 16 MiB: then nobody
 * gets a new cluster before some of them are.
 */
#define MAX_PENDING (UINT64_C (1) << 20)

/* ---- Space ---------------------------------------------------------- */

/* Something waits to be released.  It is looked for in the order in which it
 * moves on, so that it is not missed while it does.
 */
static bool
may_get_space (struct q2_writer *w)
{
  bool unlinked;

  pthread_mutex_lock (&w->link_lock);
  unlinked = w->unlinked.nr > 0;
  pthread_mutex_unlock (&w->link_lock);
  return unlinked || q2_space_has_old_table (w->space) ||
    atomic_load (&w->nr_committing) > 0 ||
    atomic_load (&w->nr_pending) > 0;
}

/* There is space, but a request that began before it was let go may still be
 * using it.
 */
static int
fail_hung (const struct q2_writer *w, const struct qcow2_error *why,
           struct qcow2_error *err)
{
  return q2_fail_io (err, EIO, QCOW2_NO_OFFSET,
                     "space that is no longer in use cannot be used again, "
                     "because a request to the layer below has not ended for "
                     "more than %u seconds (%s)", w->patience_ms / 1000,
                     why->text);
}

static int
try_make_space (struct q2_writer *w, const struct q2_io *io,
                struct qcow2_error *err)
{
  const uint64_t before = atomic_load (&w->nr_pending);
  const struct timespec moment = { .tv_nsec = 1000000 };
  int r = before == 0 ? q2_writer_commit_for_space (w, io, err) : 0;

  if (r == 0)
    r = q2_writer_release (w, io, w->patience_ms, err);
  if (r == 0 && before != 0 && atomic_load (&w->nr_pending) >= before) {
    nanosleep (&moment, NULL);
    r = Q2_SPACE_COMMIT_FIRST;
  }
  return r == Q2_SPACE_COMMIT_FIRST ? q2_writer_commit_for_space (w, io, err)
    : r;
}

/* Commit and release; if others still use what could be released, give them
 * a moment.  'why' there is none.
 */
static int
make_space (struct q2_writer *w, const struct q2_io *io,
            const struct qcow2_error *why, struct qcow2_error *err)
{
  const int r = try_make_space (w, io, err);

  return r == Q2_WRITER_HUNG ? fail_hung (w, why, err) : r;
}

static int
alloc (struct q2_change *c, uint64_t stream, uint64_t want,
       struct q2_space_run *ret, struct qcow2_error *err)
{
  if (atomic_load (&c->w->nr_pending) <= MAX_PENDING)
    return q2_space_alloc (c->w->space, c->io, stream, want, ret, err);
  return q2_fail (err, QCOW2_ERR_NO_SPACE, QCOW2_NO_OFFSET,
                  "too many clusters wait to be released");
}

/* A cluster that was in use before is to become a table, and somebody may
 * still be writing there: take one that never was, or wait.
 */
static int
settle (struct q2_writer *w, const struct q2_io *io, struct qcow2_error *err)
{
  struct qcow2_error why;
  int r;

  if (q2_writer_settle (w, 0))
    return 0;
  r = q2_space_take_fresh (w->space, io, &why);
  if (r == Q2_SPACE_COMMIT_FIRST)
    return q2_writer_commit (w, io, err);
  if (r == 0 || q2_writer_settle (w, w->patience_ms))
    return 0;
  if (why.kind == QCOW2_ERR_NO_SPACE)
    return fail_hung (w, &why, err);
  *err = why;
  return -1;
}

int
q2_writer_alloc (struct q2_change *c, uint64_t stream, uint64_t want,
                 struct q2_space_run *ret, struct qcow2_error *err)
{
  const uint64_t first = atomic_load (&c->w->releases);
  uint64_t start = 0;

  for (;;) {
    const uint64_t releases = atomic_load (&c->w->releases);
    struct qcow2_error why;
    int r = alloc (c, stream, want, ret, &why);

    if (r == 0)
      return 0;
    if (r == -1 && (why.kind != QCOW2_ERR_NO_SPACE ||
                    (!may_get_space (c->w) &&
                     /* nor has somebody just got it while we looked */
                     atomic_load (&c->w->releases) == releases))) {
      *err = why;
      return -1;
    }
    if (r == -1 && start == 0)
      start = q2_now_ms ();
    if (r == -1 && q2_now_ms () - start > c->w->patience_ms) {
      if (releases == first)
        return fail_hung (c->w, &why, err);
      *err = why;               /* others have got it, again and again */
      return -1;
    }
    q2_change_leave (c);
    if (r == Q2_SPACE_SETTLE_FIRST)
      r = settle (c->w, c->io, err);
    else
      r = r == -1 ? make_space (c->w, c->io, &why, err)
        : q2_writer_commit (c->w, c->io, err);
    q2_change_enter (c);
    if (r == -1)
      return -1;
  }
}

/* The last cluster of a file may be cut short. */
int
q2_writer_check_in_file (const struct q2_change *c, uint64_t host_off,
                         uint64_t len, struct qcow2_error *err)
{
  const uint64_t size = q2_io_size (c->io);
  const uint64_t last =
    q2_align_down (host_off + len - 1, c->w->geo->cluster_size);

  if (last < size)
    return 0;
  return q2_fail (err, QCOW2_ERR_TRUNCATED, last,
                  "the cluster at offset 0x%" PRIx64 " is in use, but the "
                  "image file ends before it, after %" PRIu64 " bytes; get "
                  "the rest of the file, or copy what there is with "
                  "'qemu-img convert'", last, size);
}

int
q2_writer_check_trusted (const struct q2_change *c, uint64_t host_off,
                         uint64_t len, struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  const unsigned bits = w->geo->cluster_bits;
  const uint64_t first = host_off >> bits;
  const uint64_t nr = ((host_off + len - 1) >> bits) - first + 1;
  uint64_t uncounted;
  int r;

  if (w->geo->data_file)        /* nothing else lies there */
    return 0;
  if (q2_writer_check_in_file (c, host_off, len, err) == -1)
    return -1;
  /* In this order: see q2_space_alloc. */
  r = q2_space_find_uncounted (w->space, c->io, first, nr, &uncounted, err);
  if (r != 0)
    return r;
  if (uncounted < first + nr)
    return q2_fail (err, QCOW2_ERR_CORRUPT, uncounted << bits,
                    "the cluster at offset 0x%" PRIx64 " is in use, but its "
                    "refcount is 0; repair the image with 'qemu-img check -r "
                    "all'", uncounted << bits);
  return w->overlap_check == QCOW2_OVERLAP_NONE ? 0
    : q2_overlap_check (w->overlap, host_off, len, Q2_META_NONE, err);
}

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

  q2_entry_store (geo, raw, f->host_off + (i << geo->cluster_bits), true,
                  alloc, old->zero & ~alloc);
}

static int
link_fill (struct q2_change *c, const struct fill *f, bool new_space,
           struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[Q2_MAX_ENTRIES * 8];
  bool let_go[Q2_MAX_ENTRIES];
  const struct q2_link link = {
    .guest_cluster = f->guest_cluster, .nr = f->nr, .raw = raw,
    .old = f->first, .let_go = let_go,
  };

  for (uint64_t i = 0; i < f->nr; ++i) {
    make_entry (geo, f, i, &f->first[i], raw + (i << geo->entry_bits));
    let_go[i] = new_space;
  }
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
                                       c->w->geo->cluster_size, err)) > 0) {
    q2_change_leave (c);
    r = q2_writer_commit (c->w, c->io, err);
    q2_change_enter (c);
    if (r == -1)
      break;
  }
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
  if (check_kept (c, f, err) == -1 ||
      write_fill (c, f, false, false, buf, err) == -1)
    return -1;
  return link_fill (c, f, false, err);
}

/* What the entries let go is in the file, which has not grown for it yet. */
static int
check_old_places (const struct q2_change *c, const struct fill *f,
                  struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;

  for (uint64_t i = 0; i < f->nr; ++i) {
    uint64_t first;

    if (q2_entry_clusters (geo, &f->first[i], &first) > 0 &&
        q2_writer_check_in_file (c, first << geo->cluster_bits, 1, err) == -1)
      return -1;
  }
  return 0;
}

static int
write_allocated (struct q2_change *c, struct fill *f, const void *buf,
                 struct qcow2_error *err)
{
  const unsigned bits = c->w->geo->cluster_bits;
  struct q2_space_run run;

  if (check_old_places (c, f, err) == -1 ||
      q2_writer_alloc (c, f->guest_cluster, f->nr, &run, err) == -1)
    return -1;
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
  return 0;
}
