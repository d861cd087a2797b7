/* SPDX-License-Identifier: BSD-3-Clause */
/* batches.c - what commits have let go, until it is free.
 *
 * Owns      the list of batches, and releasing them (ORDER-5, ORDER-6).
 * Method    a batch is what one commit, or several in the same moment of the
 *           flight, have let go.  It is released when everybody who was in
 *           flight then has left:
 *
 *             unlinked --> committing --> batch --> free
 *                    step 1         step 4     all have left
 *
 * Locks     commit_lock guards the list; release_lock is held over I/O by the
 *           one who releases, and nobody waits for it but who needs space.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/plant.h"

#include <stdlib.h>
#include <time.h>

/* How many runs are released, and how long the lock is left alone at most,
 * between two looks whether somebody else does it.
 */
#define GENTLE_RUNS 16u
#define GENTLE_MAX_MS UINT64_C (200)

/* ---- Adding --------------------------------------------------------- */

/* To the latest batch, if that waits for the same requests.  While one of them
 * hangs below, all commits end in the same moment of the flight, so there are
 * never more than a few batches, and what is let go together is one run.
 */
static bool
join_batch_locked (struct q2_writer *w, struct q2_frees *frees,
                   uint64_t stamp)
{
  struct q2_batch *b = w->first_batch;
  size_t before;

  q2_mutex_check_held (&w->commit_lock);
  while (b != NULL && b->next != NULL) {
    q2_check (b->stamp <= b->next->stamp);      /* the oldest comes first */
    b = b->next;
  }
  q2_check (b == NULL || b->stamp <= stamp);
  if (b == NULL || b->stamp != stamp ||
      !q2_frees_reserve (&b->frees, frees->nr))
    return false;
  before = b->frees.nr;
  q2_check (before <= atomic_load (&w->nr_pending));
  q2_frees_move (&b->frees, frees);
  if (b->frees.nr > 2 * b->sorted) {
    q2_frees_sort (&b->frees);
    b->sorted = b->frees.nr;
  }
  atomic_fetch_add (&w->nr_pending, b->frees.nr);
  atomic_fetch_sub (&w->nr_pending, before);
  return true;
}

void
q2_writer_add_batch (struct q2_writer *w, struct q2_frees *frees,
                     struct q2_batch *b)
{
  if (frees->nr == 0 || b == NULL) {
    q2_frees_destroy (frees);
    free (b);
    return;
  }
  q2_frees_sort (frees);        /* fewer and larger holes are punched */
  q2_mutex_lock (&w->commit_lock);
  *b = (struct q2_batch) { .stamp = q2_flight_stamp (&w->flight) };
  if (!join_batch_locked (w, frees, b->stamp)) {
    atomic_fetch_add (&w->nr_pending, frees->nr);
    b->frees = *frees;
    b->sorted = b->frees.nr;
    *frees = (struct q2_frees) { .nr = 0 };
    *w->last_batch = b;
    w->last_batch = &b->next;
    b = NULL;
  }
  q2_mutex_unlock (&w->commit_lock);
  q2_frees_destroy (frees);
  free (b);
}

/* ---- Releasing ------------------------------------------------------ */

/* The last 'most' runs of it, as a batch of their own; without memory for that
 * all of it.
 */
static struct q2_batch *
split_locked (struct q2_writer *w, struct q2_batch *b, size_t most)
{
  struct q2_batch *const piece = calloc (1, sizeof *piece);

  q2_mutex_check_held (&w->commit_lock);
  if (piece == NULL || !q2_frees_split (&b->frees, most, &piece->frees)) {
    free (piece);
    return b;
  }
  piece->stamp = b->stamp;
  b->sorted = q2_min (b->sorted, b->frees.nr);
  return piece;
}

/* The oldest batch, 'most' runs of it, if it was there at the stamp 'last' and
 * everybody who could use its clusters has left.
 */
static struct q2_batch *
take_batch (struct q2_writer *w, uint64_t last, size_t most)
{
  struct q2_batch *b, *piece;

  q2_mutex_lock (&w->commit_lock);
  piece = b = w->first_batch;
  if (b != NULL && (b->stamp > last ||
                    !q2_flight_has_passed (&w->flight, b->stamp)))
    piece = b = NULL;
  if (b != NULL && b->frees.nr > most)
    piece = split_locked (w, b, most);
  if (b != NULL && piece == b) {
    w->first_batch = b->next;
    if (w->first_batch == NULL)
      w->last_batch = &w->first_batch;
  }
  q2_mutex_unlock (&w->commit_lock);
  return piece;
}

static void
put_back (struct q2_writer *w, struct q2_batch *b)
{
  q2_mutex_lock (&w->commit_lock);
  q2_check (w->first_batch == NULL || b->stamp <= w->first_batch->stamp);
  b->next = w->first_batch;
  w->first_batch = b;
  if (b->next == NULL)
    w->last_batch = &b->next;
  q2_mutex_unlock (&w->commit_lock);
}

bool
q2_writer_settle (struct q2_writer *w, unsigned ms)
{
  const struct timespec moment = { .tv_nsec = 100000 };
  const uint64_t stamp = q2_flight_stamp (&w->flight);
  const uint64_t start = q2_now_ms ();

  for (;;) {
    bool passed = q2_flight_is_past (&w->flight, stamp + 2);

    /* Who releases moves time on, too, and may hang below. */
    if (!passed && q2_mutex_trylock (&w->release_lock) == 0) {
      passed = q2_flight_has_passed (&w->flight, stamp);
      q2_mutex_unlock (&w->release_lock);
    }
    if (passed || q2_now_ms () - start >= ms)
      return passed;
    nanosleep (&moment, NULL);
  }
}

/* What was decompressed of them is of no use any more, and would be wrong for
 * what gets their place.  A view of a snapshot may still read a cluster that
 * has references left: it decompresses that once more.
 */
static int
forget_decompressed (struct q2_writer *w, struct q2_batch *b,
                     struct qcow2_error *err)
{
  if (q2_clusters_is_empty (w->reader->clusters) ||
      Q2_PLANTED (Q2_PLANT_FORGET_DECOMPRESSED))
    return 0;
  q2_frees_sort (&b->frees);
  b->sorted = b->frees.nr;
  return q2_clusters_forget (w->reader->clusters, &b->frees,
                             w->geo->cluster_bits, err);
}

/* The thread that has it may hang, while it gives space back to the host. */
static bool
lock_release (struct q2_writer *w, unsigned ms)
{
  const struct timespec moment = { .tv_nsec = 1000000 };
  const uint64_t start = q2_now_ms ();

  while (q2_mutex_trylock (&w->release_lock) != 0) {
    if (q2_now_ms () - start >= ms)
      return false;
    nanosleep (&moment, NULL);
  }
  return true;
}

/* What is left goes back.  Returns what q2_space_release does. */
static int
release_batch (struct q2_writer *w, const struct q2_io *io,
               struct q2_batch *b, struct qcow2_error *err)
{
  const size_t before = b->frees.nr;
  int r = forget_decompressed (w, b, err);

  if (r == 0)
    r = q2_space_release (w->space, io, &b->frees,
                          w->discard == QCOW2_DISCARD_UNMAP, err);
  /* In this order: see q2_writer_alloc. */
  atomic_fetch_add (&w->releases, 1);
  q2_check (b->frees.nr <= before &&
            before - b->frees.nr <= atomic_load (&w->nr_pending));
  atomic_fetch_sub (&w->nr_pending, before - b->frees.nr);
  if (b->frees.nr > 0)
    put_back (w, b);
  else {
    q2_frees_destroy (&b->frees);
    free (b);
  }
  return r;
}

int
q2_writer_release (struct q2_writer *w, const struct q2_io *io, unsigned ms,
                   struct qcow2_error *err)
{
  struct q2_batch *b;
  uint64_t last;
  int r = 0;

  q2_writer_assert (w);
  if (!lock_release (w, ms))
    return Q2_WRITER_HUNG;
  /* Not what others add from now on: they may be as fast as this thread. */
  last = q2_flight_stamp (&w->flight);
  while (r == 0 && (b = take_batch (w, last, SIZE_MAX)) != NULL)
    r = release_batch (w, io, b, err);
  q2_mutex_unlock (&w->release_lock);
  return r;
}

/* One piece.  Without the lock for as long as with it: who has more of the
 * processor than this thread, and finds it free, does the rest.
 */
static int
release_piece (struct q2_writer *w, const struct q2_io *io, uint64_t last,
               unsigned ms, bool *ret_done, struct qcow2_error *err)
{
  struct q2_batch *b;
  uint64_t start;
  int r = 0;

  if (!lock_release (w, ms))
    return Q2_WRITER_HUNG;
  start = q2_now_ms ();
  b = take_batch (w, last, GENTLE_RUNS);
  if (b != NULL)
    r = release_batch (w, io, b, err);
  q2_mutex_unlock (&w->release_lock);
  *ret_done = b == NULL;
  if (b != NULL && r == 0) {
    const uint64_t rest = q2_min (q2_now_ms () - start + 1, GENTLE_MAX_MS);

    nanosleep (&(struct timespec) { .tv_nsec = (long) rest * 1000000 }, NULL);
  }
  return r;
}

int
q2_writer_release_gently (struct q2_writer *w, const struct q2_io *io,
                          uint64_t last, unsigned ms, struct qcow2_error *err)
{
  const uint64_t start = q2_now_ms ();
  bool done = false;
  int r = 0;

  q2_writer_assert (w);
  while (r == 0 && !done)
    r = q2_now_ms () - start > ms ? Q2_WRITER_HUNG
      : release_piece (w, io, last, ms, &done, err);
  return r;
}
