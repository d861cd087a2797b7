/* SPDX-License-Identifier: BSD-3-Clause */
/* bytes.c - room for compressed clusters, which are packed at bytes.
 *
 * Owns      the room behind the last stream, in a cluster that has streams.
 * Method    what one call hands out is one range, so that it can be written
 *           with one request, and begins at a sector, or at a block of the
 *           host if that is larger, so that no two requests write to the same
 *           one:
 *
 *             cluster          cluster          cluster
 *           |aaaaabbbbbbb....|
 *                         ^packed_off, at the next multiple of 512
 *           |aaaaabbbbbbb.ccc|cccddddddeeeeeee|eee.............|
 *            refcount 3       3                1
 *
 *           The range goes on in the last cluster, and in those behind it as
 *           far as they are free; else it begins in a free cluster.  Streams
 *           that do not fit into what is free there are left to the next call.
 *
 *           A cluster is added to only while it has streams: whoever releases
 *           the last of them ends that before he gives the space back.
 * Locks     claim_lock over all of it; space.lock for each look.
 *
 * Spec: "Compressed Clusters Descriptor"; a cluster's refcount counts the
 * streams in it.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/plant.h"

#define SECTOR 512

struct packing {
  const uint32_t *sizes;
  size_t nr;                    /* streams that have room */
  uint64_t first, skip;         /* cluster, and where in it they begin */
};

static uint64_t
total (const struct packing *p)
{
  uint64_t bytes = 0;

  for (size_t i = 0; i < p->nr; ++i)
    bytes += p->sizes[i];
  return bytes;
}

/* How many clusters the range touches. */
static uint64_t
span (const struct q2_space *s, const struct packing *p)
{
  return q2_ceil_shift (p->skip + total (p), s->geo->cluster_bits);
}

/* How many streams lie in cluster number 'n' of the range, at least in
 * part.
 */
static uint64_t
count_streams (const struct q2_space *s, const struct packing *p, uint64_t n)
{
  const unsigned bits = s->geo->cluster_bits;
  uint64_t off = p->skip, count = 0;

  for (size_t i = 0; i < p->nr && off >> bits <= n; ++i) {
    count += (off + p->sizes[i] - 1) >> bits >= n;
    off += p->sizes[i];
  }
  return count;
}

/* Leave out the streams that the refcount of a cluster has no room for, if
 * the first cluster has 'used' already.
 */
static void
fit (const struct q2_space *s, struct packing *p, uint64_t used)
{
  const unsigned bits = s->geo->cluster_bits;
  const uint64_t max = q2_space_max_refcount (s);
  uint64_t off = p->skip, cluster = 0, count = used;

  for (size_t i = 0; i < p->nr; ++i) {
    const uint64_t last = (off + p->sizes[i] - 1) >> bits;

    if (off >> bits != cluster) {
      cluster = off >> bits;
      count = 0;
    }
    if (count == max) {
      p->nr = i;
      return;
    }
    ++count;
    if (last != cluster) {
      cluster = last;
      count = 1;
    }
    off += p->sizes[i];
  }
}

/* Leave out the streams that do not end within so many clusters. */
static void
fit_into (const struct q2_space *s, struct packing *p, uint64_t clusters)
{
  while (p->nr > 0 && span (s, p) > clusters)
    --p->nr;
}

/* Set a refcount that has room for it, of the cluster where streams go on:
 * *ret_done is false if they do not any more.
 */
static int
add_to_count (struct q2_space *s, const struct q2_io *io, uint64_t off,
              uint64_t n, bool *ret_done, struct qcow2_error *err)
{
  const uint64_t cluster = off >> s->geo->cluster_bits;
  int r = 0;

  *ret_done = false;
  while (r == 0) {
    struct q2_need need;
    uint64_t value;
    bool known;

    q2_mutex_lock (&s->lock);
    known = q2_refcounts_get_locked (&s->rc, cluster, &value, &need);
    *ret_done = known && s->packed_off == off && value > 0 &&
      n <= q2_space_max_refcount (s) - value;
    if (*ret_done && !Q2_PLANTED (Q2_PLANT_COUNT_ONCE))
      known = q2_refcounts_set_locked (&s->rc, cluster, value + n, &need);
    q2_mutex_unlock (&s->lock);
    if (known)
      return 0;
    r = q2_space_load (s, io, &need, err);
  }
  *ret_done = false;
  return r;
}

/* Take back what was added.  Others may have released their streams. */
static void
take_from_count (struct q2_space *s, const struct q2_io *io,
                 uint64_t cluster, uint64_t n)
{
  struct q2_frees frees = { .nr = 0 };
  struct qcow2_error ignored;

  for (; n > 0 && q2_frees_reserve (&frees, 1); --n) {
    q2_frees_add (&frees, cluster, 1);
    if (q2_space_release (s, io, &frees, false, &ignored) != 0)
      break;                    /* too high, which leaks the cluster */
  }
  q2_frees_destroy (&frees);
}

/* Set the counts of clusters [from, end of the range), which are free. */
static int
count_new (struct q2_space *s, const struct q2_io *io,
           const struct packing *p, uint64_t from, struct qcow2_error *err)
{
  for (uint64_t n = from; n < span (s, p); ++n) {
    const uint64_t streams =
      Q2_PLANTED (Q2_PLANT_COUNT_ONCE) ? 1 : count_streams (s, p, n);
    int r;

    if (!q2_assume (streams > 0 && streams <= q2_space_max_refcount (s), err))
      return -1;
    r = q2_space_set_run (s, io, p->first + n, 1, streams, err);

    if (r != 0) {
      q2_space_undo (s, io, p->first + from, n - from);
      return r;
    }
  }
  return 0;
}

/* How many clusters from this one on are free, up to 'max'. */
static int
count_free (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
            uint64_t max, uint64_t *ret_nr, struct qcow2_error *err)
{
  bool is_free = true;
  int r = max == 0 ? 0
    : q2_space_is_run_free (s, io, cluster, max, &is_free, err);

  *ret_nr = r == 0 && is_free ? max : 0;
  while (r == 0 && !is_free && *ret_nr < max) {
    r = q2_space_is_run_free (s, io, cluster + *ret_nr, 1, &is_free, err);
    if (r != 0 || !is_free)
      break;
    ++*ret_nr;
    is_free = false;
  }
  return r;
}

/* Behind the last stream, if there is room: p->nr is 0 if not. */
static int
go_on (struct q2_space *s, const struct q2_io *io, struct packing *p,
       struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  uint64_t off, used, more;
  bool done;
  int r;

  q2_mutex_lock (&s->lock);
  off = s->packed_off;
  q2_mutex_unlock (&s->lock);
  if (!q2_assume (q2_is_aligned (off, SECTOR), err))
    return -1;
  p->first = off >> bits;
  p->skip = off & (s->geo->cluster_size - 1);
  if (off == 0) {
    p->nr = 0;
    return 0;
  }
  if ((r = q2_space_get (s, io, p->first, &used, err)) != 0)
    return r;
  fit (s, p, used);
  if (used == 0 || p->nr == 0) {
    p->nr = 0;
    return 0;
  }
  if ((r = count_free (s, io, p->first + 1, span (s, p) - 1, &more, err))
      != 0)
    return r;
  fit_into (s, p, 1 + more);
  if (p->nr == 0)
    return 0;
  r = add_to_count (s, io, off, count_streams (s, p, 0), &done, err);
  if (r != 0 || !done) {        /* the cluster was let go just now */
    p->nr = 0;
    return r;
  }
  r = count_new (s, io, p, 1, err);
  if (r != 0)
    take_from_count (s, io, p->first, count_streams (s, p, 0));
  return r;
}

static int
begin_anew (struct q2_space *s, const struct q2_io *io, struct packing *p,
            struct qcow2_error *err)
{
  const uint64_t start = q2_space_first_to_look (s);
  uint64_t more;
  int r;

  p->skip = 0;
  fit (s, p, 0);
  if (!q2_assume (p->nr > 0, err))
    return -1;
  if ((r = q2_space_find_run (s, io, 1, &p->first, err)) != 0 ||
      (r = count_free (s, io, p->first + 1, span (s, p) - 1, &more, err))
      != 0)
    return r;
  fit_into (s, p, 1 + more);
  if (!q2_assume (p->nr > 0, err))
    return -1;
  r = count_new (s, io, p, 0, err);
  if (r != 0 || p->first < start)
    return r;
  q2_mutex_lock (&s->lock);
  q2_space_advance_locked (s, start, p->first + span (s, p));
  q2_mutex_unlock (&s->lock);
  return 0;
}

/* What is left of the last cluster is for the next call. */
static void
note_end_locked (struct q2_space *s, const struct q2_io *io,
                 const struct packing *p)
{
  const uint64_t end = (p->first << s->geo->cluster_bits) + p->skip +
    total (p);
  const uint64_t next = q2_align_up (end, q2_max (SECTOR,
                                                  io->host->min_block));

  q2_mutex_check_held (&s->lock);
  q2_check (p->nr > 0 && p->skip < s->geo->cluster_size);
  s->packed_off = next & (s->geo->cluster_size - 1) ? next : 0;
  s->never_used = q2_max (s->never_used, p->first + span (s, p));
}

int
q2_space_alloc_bytes (struct q2_space *s, const struct q2_io *io,
                      const uint32_t *sizes, size_t nr, size_t *ret_nr,
                      uint64_t *ret_host_off, struct qcow2_error *err)
{
  struct packing p = { .sizes = sizes, .nr = nr };
  int r;

  q2_mutex_lock (&s->claim_lock);
  r = go_on (s, io, &p, err);
  if (r == 0 && p.nr == 0) {
    p.nr = nr;
    r = begin_anew (s, io, &p, err);
  }
  if (r == 0) {
    q2_mutex_lock (&s->lock);
    note_end_locked (s, io, &p);
    s->packs = true;
    q2_mutex_unlock (&s->lock);
    q2_check (p.nr <= nr);
    *ret_nr = p.nr;
    *ret_host_off = (p.first << s->geo->cluster_bits) + p.skip;
  }
  q2_mutex_unlock (&s->claim_lock);
  return r;
}
