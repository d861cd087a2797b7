/* SPDX-License-Identifier: BSD-3-Clause */
/* pack_put.c - putting streams of compressed clusters into the file.
 *
 * Owns      the way from streams in memory to entries that name them.
 * Method    a write into new space like others (allocate.c): space, bytes,
 *           entries.  What one allocation has room for is one request to the
 *           host, from the start of a block to the end of one, so that nothing
 *           has to be read.  A stream that is not linked after all is let go
 *           as if it had been.
 * Locks     w->clusters from the first cluster to the last, also of clusters
 *           in between that have no stream.
 */
#include "config.h"

#include "write/pack.h"

#include "base/assume.h"
#include "base/bits.h"

static uint64_t
sum (const uint32_t *sizes, size_t nr)
{
  uint64_t bytes = 0;

  for (size_t i = 0; i < nr; ++i)
    bytes += sizes[i];
  return bytes;
}

/* Streams that have room but will not be linked.  Without memory for the list
 * their clusters are leaked.
 */
static void
let_go (struct q2_writer *w, const uint32_t *sizes, size_t nr,
        uint64_t host_off)
{
  const unsigned bits = w->geo->cluster_bits;

  q2_mutex_lock (&w->link_lock);
  for (size_t i = 0; i < nr; ++i) {
    const uint64_t first = host_off >> bits;

    if (q2_frees_reserve (&w->unlinked, 1))
      q2_frees_add (&w->unlinked, first,
                    ((host_off + sizes[i] - 1) >> bits) - first + 1);
    host_off += sizes[i];
  }
  q2_mutex_unlock (&w->link_lock);
}

/* ---- Linking -------------------------------------------------------- */

/* How many streams from number n on, up to 'end', are of clusters that follow
 * each other.
 */
static size_t
count_neighbours (const struct q2_pack *p, size_t n, size_t end)
{
  size_t nr = 1;

  while (n + nr < end && p->of[n + nr] == p->of[n] + nr)
    ++nr;
  return nr;
}

/* Link streams of clusters that follow each other. */
static int
link_neighbours (struct q2_change *c, const struct q2_pack *p, size_t n,
                 size_t nr, const struct q2_entry *old, uint64_t host_off,
                 struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[Q2_MAX_ENTRIES * 8];
  bool all[Q2_MAX_ENTRIES];
  const struct q2_link link = {
    .guest_cluster = p->first + p->of[n], .nr = nr, .raw = raw, .old = old,
    .let_go = all,
  };

  if (!q2_assume (nr << geo->entry_bits <= sizeof raw, err))
    return -1;
  for (size_t i = 0; i < nr; ++i) {
    q2_entry_store_stream (geo, raw + (i << geo->entry_bits), host_off,
                           p->stream[n + i]);
    host_off += p->stream[n + i];
    all[i] = true;
  }
  return q2_writer_link (c, &link, err);
}

/* Link the next 'nr' streams, which lie at host_off; 'e' has the entries from
 * that of the first on.
 */
static int
link_all (struct q2_change *c, struct q2_pack *p, size_t nr,
          const struct q2_entry *e, uint64_t host_off,
          struct qcow2_error *err)
{
  const size_t end = p->put + nr;
  const uint32_t first = p->of[p->put];

  while (p->put < end) {
    const size_t n = count_neighbours (p, p->put, end);

    if (link_neighbours (c, p, p->put, n, e + (p->of[p->put] - first),
                         host_off, err) == -1) {
      let_go (c->w, p->stream + p->put, end - p->put, host_off);
      return -1;
    }
    host_off += sum (p->stream + p->put, n);
    p->put += n;
  }
  return 0;
}

/* ---- Writing -------------------------------------------------------- */

static int
write_streams (struct q2_change *c, const struct q2_pack *p, size_t nr,
               uint64_t host_off, struct qcow2_error *err)
{
  const uint64_t len = q2_align_up (sum (p->stream + p->put, nr),
                                    q2_pack_block (c->io));

  return q2_io_write (c->io, p->out + sum (p->stream, p->put), len, host_off,
                      QCOW2_IO_COMPRESSED, err);
}

/* The next 'nr' streams, or some of them. */
static int
put_streams (struct q2_change *c, struct q2_pack *p, size_t nr,
             const struct q2_entry *e, struct qcow2_error *err)
{
  const uint32_t *const sizes = p->stream + p->put;
  uint64_t host_off;

  for (size_t i = 0; i < nr; ++i)
    if (q2_writer_check_old (c, e + (p->of[p->put + i] - p->of[p->put]), 1,
                             err) == -1)
      return -1;
  if (q2_writer_alloc_bytes (c, sizes, nr, &nr, &host_off, err) == -1 ||
      !q2_assume (q2_is_aligned (host_off, 512) &&
                  host_off >= c->w->geo->cluster_size, err))
    return -1;
  p->too_far = !q2_entry_can_store_stream (c->w->geo,
                                           host_off + sum (sizes, nr));
  if (!p->too_far && write_streams (c, p, nr, host_off, err) == 0)
    return link_all (c, p, nr, e, host_off, err);
  let_go (c->w, sizes, nr, host_off);
  return p->too_far ? 0 : -1;
}

/* The clusters are held. */
static int
put_held (struct q2_change *c, struct q2_pack *p, uint64_t first,
          uint64_t nr_clusters, struct qcow2_error *err)
{
  struct q2_entry e[Q2_MAX_ENTRIES];
  uint64_t nr_loaded;
  size_t nr = 0;
  bool owned;

  if (q2_writer_own_table (c, first >> c->w->geo->l2_bits, err) == -1 ||
      q2_writer_load (c, first, nr_clusters, e, &nr_loaded, &owned, err)
      == -1)
    return -1;
  while (p->put + nr < p->nr_streams &&
         p->of[p->put + nr] - p->of[p->put] < nr_loaded)
    ++nr;
  if (!q2_assume (nr > 0, err))
    return -1;
  return put_streams (c, p, nr, e, err);
}

/* Put some; none if somebody else was changing the clusters, or too much has
 * been changed.
 */
static int
put_some (struct q2_change *c, struct q2_pack *p, struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  const uint64_t first = p->first + p->of[p->put];
  const uint64_t end = p->first + p->of[p->nr_streams - 1] + 1;
  struct q2_range range;
  bool held;
  int r;

  if (!q2_assume (first < end && p->put < p->nr_streams, err))
    return -1;
  r = q2_change_hold_for_new (c, &range, first, end, &held, err);
  if (!held)
    return r;
  r = put_held (c, p, first, end - first, err);
  q2_ranges_unlock (&w->clusters, &range);
  return r;
}

int
q2_pack_put (struct q2_pack *p, struct qcow2_error *err)
{
  struct q2_change c = { .w = p->w, .io = p->io };
  int r = 0;

  p->too_far = false;
  while (r == 0 && p->put < p->nr_streams && !p->too_far) {
    q2_change_enter (&c);
    r = put_some (&c, p, err);
    q2_change_leave (&c);
  }
  return r;
}
