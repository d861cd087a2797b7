/* SPDX-License-Identifier: BSD-3-Clause */
/* room.c - where a request may write.
 *
 * Owns      finding space for a request, waiting for it where there is none
 *           yet, and the question whether a place that an entry names can be
 *           trusted (ORDER-13).
 * Method    who waits for space has a commit made and what commits have let
 *           go released, and gives those who are still using that a moment.
 * Locks     none is held while it waits, and nobody who waits is in flight.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

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

  q2_mutex_lock (&w->link_lock);
  unlinked = w->unlinked.nr > 0;
  q2_mutex_unlock (&w->link_lock);
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

/* What somebody wants: clusters, or room for compressed ones. */
struct wish {
  uint64_t stream, want;        /* see q2_space_alloc */
  struct q2_space_run *ret;     /* NULL: the rest */
  const uint32_t *sizes;        /* see q2_space_alloc_bytes */
  size_t nr;
  size_t *ret_nr;
  uint64_t *ret_host_off;
};

static int
alloc (struct q2_change *c, const struct wish *wish, struct qcow2_error *err)
{
  struct q2_space *const s = c->w->space;

  if (atomic_load (&c->w->nr_pending) > MAX_PENDING)
    return q2_fail (err, QCOW2_ERR_NO_SPACE, QCOW2_NO_OFFSET,
                    "too many clusters wait to be released");
  if (wish->ret != NULL)
    return q2_space_alloc (s, c->io, wish->stream, wish->want, wish->ret,
                           err);
  if (!q2_assume (wish->sizes != NULL && wish->ret_nr != NULL &&
                  wish->ret_host_off != NULL, err))
    return -1;
  return q2_space_alloc_bytes (s, c->io, wish->sizes, wish->nr, wish->ret_nr,
                               wish->ret_host_off, err);
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

static int
alloc_somehow (struct q2_change *c, const struct wish *wish,
               struct qcow2_error *err)
{
  const uint64_t first = atomic_load (&c->w->releases);
  uint64_t start = 0;

  for (;;) {
    const uint64_t releases = atomic_load (&c->w->releases);
    struct qcow2_error why;
    int r = alloc (c, wish, &why);

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

int
q2_writer_alloc (struct q2_change *c, uint64_t stream, uint64_t want,
                 struct q2_space_run *ret, struct qcow2_error *err)
{
  const struct wish wish = { .stream = stream, .want = want, .ret = ret };

  return q2_assume (want > 0, err) && alloc_somehow (c, &wish, err) == 0 &&
    q2_assume (ret->nr > 0 && ret->nr <= want, err) ? 0 : -1;
}

int
q2_writer_alloc_bytes (struct q2_change *c, const uint32_t *sizes, size_t nr,
                       size_t *ret_nr, uint64_t *ret_host_off,
                       struct qcow2_error *err)
{
  const struct wish wish = {
    .sizes = sizes, .nr = nr, .ret_nr = ret_nr, .ret_host_off = ret_host_off,
  };

  return q2_assume (nr > 0, err) && alloc_somehow (c, &wish, err) == 0 &&
    q2_assume (*ret_nr > 0 && *ret_nr <= nr, err) ? 0 : -1;
}

bool
q2_writer_is_unused (const struct q2_change *c,
                     const struct q2_space_run *run, bool *ret_hopeful)
{
  const uint64_t end = (run->cluster + run->nr) << c->w->geo->cluster_bits;

  *ret_hopeful = run->unused;
  return run->unused && (end <= q2_io_durable_size (c->io) ||
                         Q2_PLANTED (Q2_PLANT_FRESH_GROWTH));
}

int
q2_writer_check_old (const struct q2_change *c, const struct q2_entry *e,
                     uint64_t nr, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;

  for (uint64_t i = 0; i < nr; ++i) {
    uint64_t first;

    if (q2_entry_clusters (geo, &e[i], &first) > 0 &&
        q2_io_check_in_file (c->io, geo->cluster_size,
                             first << geo->cluster_bits, 1, err) == -1)
      return -1;
  }
  return 0;
}

/* ---- Trust ---------------------------------------------------------- */

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

  if (!q2_assume (len > 0, err))
    return -1;
  if (w->geo->data_file)        /* nothing else lies there */
    return 0;
  if (q2_io_check_in_file (c->io, w->geo->cluster_size, host_off, len, err)
      == -1)
    return -1;
  /* In this order: see q2_space_alloc. */
  r = q2_space_find_uncounted (w->space, c->io, first, nr, &uncounted, err);
  if (r != 0)
    return r;
  if (uncounted < first + nr)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                           uncounted << bits,
                           "the cluster at offset 0x%" PRIx64 " is in use, "
                           "but its refcount is 0", uncounted << bits);
  return w->overlap_check == QCOW2_OVERLAP_NONE ? 0
    : q2_overlap_check (w->overlap, host_off, len, Q2_META_NONE, err);
}
