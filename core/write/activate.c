/* SPDX-License-Identifier: BSD-3-Clause */
/* activate.c - what happens before the first change, and at the end.
 *
 * Owns      the life of struct q2_writer, and the feature bits in the header
 *           while the image is written to.
 * Method    opening an image for writing and writing nothing must leave it as
 *           it was, so everything that prepares it is done by the first
 *           request that changes something: what opening has read is dropped,
 *           refcounts and the places of metadata are read, and feature bits
 *           that promise what a writer might break are changed and flushed
 *           (ORDER-7, ORDER-8), all before the request goes on.  What is done
 *           about an image that was not closed is in unclosed.c.
 * Locks     activate_lock.  It is not held while the image is prepared, which
 *           can take long: the requests that come meanwhile need just that,
 *           and wait for it.  It is held over I/O while the image is marked as
 *           corrupt.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* More commits than it can take until nothing is left to be released. */
#define MAX_LAST_COMMITS 16

void
q2_writer_init (struct q2_writer *w)
{
  pthread_condattr_t monotonic;

  q2_mutex_init (&w->activate_lock, 2, "activate_lock");
  q2_mutex_init (&w->solid_lock, 2, "solid_lock");
  q2_mutex_init (&w->link_lock, 4, "link_lock");
  q2_mutex_init (&w->commit_lock, 4, "commit_lock");
  q2_mutex_init (&w->release_lock, 2, "release_lock");
  pthread_condattr_init (&monotonic);
  pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init (&w->committed, &monotonic);
  pthread_condattr_destroy (&monotonic);
  pthread_cond_init (&w->activated, NULL);
  q2_track_init (&w->track);
  q2_ranges_init (&w->clusters);
  q2_ranges_init (&w->l1);
  q2_sharing_init (&w->sharing);
  w->gathering = 1;
  w->patience_ms = Q2_WRITER_PATIENCE_MS;
  w->last_batch = &w->first_batch;
}

void
q2_writer_destroy (struct q2_writer *w)
{
  q2_check (w->suspects == NULL && !w->committing && !w->activating);
  q2_check (atomic_load (&w->nr_committing) == 0 &&
            atomic_load (&w->packing) == 0);
  while (w->first_batch) {
    struct q2_batch *const b = w->first_batch;

    w->first_batch = b->next;
    q2_frees_destroy (&b->frees);
    free (b);
  }
  q2_frees_destroy (&w->unlinked);
  q2_compressors_free (w->compressors);
  q2_track_destroy (&w->track);
  q2_repair_free (w->repair);
  q2_space_free (w->space);
  q2_overlap_free (w->overlap);
  q2_sharing_destroy (&w->sharing);
  q2_since_free (w->since);
  q2_ranges_destroy (&w->l1);
  q2_ranges_destroy (&w->clusters);
  pthread_cond_destroy (&w->activated);
  pthread_cond_destroy (&w->committed);
  q2_mutex_destroy (&w->release_lock);
  q2_mutex_destroy (&w->commit_lock);
  q2_mutex_destroy (&w->link_lock);
  q2_mutex_destroy (&w->solid_lock);
  free (w->new_tables);
  q2_mutex_destroy (&w->activate_lock);
}

/* ---- The first change ----------------------------------------------- */

static int
check_header_is_counted (struct q2_writer *w, struct qcow2_error *err)
{
  if (!q2_space_is_uncovered (w->space, 0))
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                         q2_writer_header (w).refcount_table_offset,
                         "the image has no refcounts for its header");
}

/* A commit must not find that the file is too short for the L1 table, which
 * images that hold nothing yet may be.
 */
static int
make_room_for_l1 (struct q2_writer *w, const struct q2_io *io,
                  struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (w);
  const uint64_t bytes = (uint64_t) h.l1_entries * 8;

  if (bytes == 0)
    return 0;
  if (h.l1_offset > q2_io_size (io))
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                           h.l1_offset,
                           "the L1 table at offset 0x%" PRIx64 " is not in "
                           "the file", h.l1_offset);
  return q2_io_grow (io, h.l1_offset + bytes, err);
}

/* Without memory for it, zeros are written once more (entries.c). */
static unsigned char *
new_table_bits (const struct q2_geometry *geo)
{
  return calloc (geo->l1_needed / 8 + 1, 1);
}

void
q2_writer_forget_new_tables (struct q2_writer *w)
{
  free (w->new_tables);
  w->new_tables = new_table_bits (w->geo);
}

/* Bitmaps get clusters when the header says what a crash may leave. */
static int
take_back_promises (struct q2_writer *w, const struct q2_io *io,
                    enum q2_purpose purpose, struct qcow2_error *err)
{
  if (q2_writer_take_back_promises (w, io, purpose, err) == -1)
    return -1;
  return purpose == Q2_FOR_DISK ? q2_writer_fill_bitmaps (w, io, err) : 0;
}

static int
make_space (struct q2_writer *w, const struct q2_io *io,
            struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (w);

  w->space = q2_space_new (w->geo, &h, w->overlap, &w->flight, io, err);
  return w->space ? 0 : -1;
}

static int
activate (struct q2_writer *w, const struct q2_io *io, enum q2_purpose purpose,
          struct qcow2_error *err)
{
  if (!q2_assume (w->overlap == NULL && w->space == NULL, err))
    return -1;
  /* What other handles read may be out of date from now on. */
  if (!io->host->coherent)
    q2_ahead_disable (w->reader->ahead);
  atomic_store (&io->shared->written, true);
  if (q2_writer_repair (w, io, err) == -1)
    return -1;
  if (w->new_tables == NULL)
    w->new_tables = new_table_bits (w->geo);
  if ((w->overlap = q2_overlap_new (w->geo->cluster_bits,
                                     q2_io_budget (io), err)) == NULL ||
      q2_writer_add_metadata (w, io, err) == -1 ||
      make_space (w, io, err) == -1 ||
      check_header_is_counted (w, err) == -1 ||
      make_room_for_l1 (w, io, err) == -1 ||
      q2_writer_protect (w, io, purpose, err) == -1 ||
      take_back_promises (w, io, purpose, err) == -1)
    return -1;
  return 0;
}

static int
activate_or_clean_up (struct q2_writer *w, const struct q2_io *io,
                      enum q2_purpose purpose, struct qcow2_error *err)
{
  /* It was, for a change that leaves the disk alone. */
  if (w->prepared)
    return take_back_promises (w, io, purpose, err);
  if (activate (w, io, purpose, err) == 0)
    return 0;
  q2_space_free (w->space);     /* the next request tries again */
  q2_overlap_free (w->overlap);
  w->space = NULL;
  w->overlap = NULL;
  w->bitmaps_known = w->bitmaps_share = false;
  return -1;
}

static bool
is_ready (const struct q2_writer *w, enum q2_purpose purpose)
{
  return purpose == Q2_FOR_DISK ? q2_writer_is_for_disk (w) : w->prepared;
}

static int
activate_once (struct q2_writer *w, const struct q2_io *io,
               enum q2_purpose purpose, struct qcow2_error *err)
{
  int r = 0;

  q2_mutex_lock (&w->activate_lock);
  while (w->activating)
    q2_cond_wait (&w->activated, &w->activate_lock);
  if (!is_ready (w, purpose) && (r = q2_writer_check_usable (w, err)) == 0) {
    const bool first = !w->prepared;

    w->activating = true;
    if (first)
      q2_writer_begin_activating (w);
    q2_mutex_unlock (&w->activate_lock);
    r = activate_or_clean_up (w, io, purpose, err);
    q2_mutex_lock (&w->activate_lock);
    q2_check (w->activating);
    if (r == 0 && purpose == Q2_FOR_DISK)
      q2_check (atomic_fetch_add (&w->disk_epoch, 1) % 2 == 0);
    if (first)
      q2_writer_end_activating (w, r == 0);
    w->activating = false;
    pthread_cond_broadcast (&w->activated);
  }
  q2_mutex_unlock (&w->activate_lock);
  return r;
}

int
q2_writer_begin (struct q2_writer *w, const struct q2_io *io,
                 enum q2_purpose purpose, struct qcow2_error *err)
{
  if (q2_writer_check_usable (w, err) == -1)
    return -1;
  if (io->shared->bug)
    return q2_writer_fail_bug (err);
  return is_ready (w, purpose) ? 0 : activate_once (w, io, purpose, err);
}

/* Others are inside the gate, too: one of them may be loading bitmaps. */
bool
q2_writer_keeps_bitmap (struct q2_writer *w, const struct q2_bitmap *b)
{
  bool kept;

  q2_mutex_lock (&w->activate_lock);
  while (w->activating)
    q2_cond_wait (&w->activated, &w->activate_lock);
  kept = q2_track_has (&w->track, b);
  q2_mutex_unlock (&w->activate_lock);
  return kept;
}

void
q2_writer_renew_promises (struct q2_writer *w)
{
  q2_mutex_lock (&w->activate_lock);
  if (q2_writer_is_for_disk (w))
    atomic_fetch_add (&w->disk_epoch, 1);
  /* The file has them, perhaps as others. */
  if (w->track.mode == QCOW2_BITMAPS_DURABLE)
    q2_track_forget (&w->track);
  q2_mutex_unlock (&w->activate_lock);
}

int
q2_writer_flush (struct q2_writer *w, const struct q2_io *io,
                 struct qcow2_error *err)
{
  const enum q2_writer_state state = w->state;

  if (q2_writer_check_committable (w, err) == -1)
    return -1;
  /* Before the first change there is nothing to make durable, nor after the
   * last one.
   */
  return state == Q2_WRITER_ACTIVE || state == Q2_WRITER_CORRUPT
    ? q2_writer_commit (w, io, err) : 0;
}

/* ---- The end -------------------------------------------------------- */

/* Releasing changes refcounts, which makes another commit necessary. */
static int
commit_all (struct q2_writer *w, const struct q2_io *io,
            struct qcow2_error *err)
{
  int r = 0;

  q2_writer_hold_refcounts (w);
  for (unsigned i = 0; r == 0 && i < MAX_LAST_COMMITS; ++i) {
    r = q2_writer_commit (w, io, err);
    if (!q2_writer_is_dirty (w))
      break;
  }
  q2_writer_release_refcounts (w);
  return r;                     /* what cannot be released is leaked */
}

static int
cut_file (struct q2_writer *w, const struct q2_io *io,
          struct qcow2_error *err)
{
  struct q2_ahead_change change;
  uint64_t end;
  int r;

  if (io->host->ops->cut == NULL || q2_io_size (io) == io->file_size)
    return 0;
  r = q2_space_find_end (w->space, io, io->file_size, &end, err);
  if (r != 0)
    return r == -1 ? -1 : 0;
  if (end >= q2_io_size (io))
    return 0;                   /* what is in use goes on behind it */
  q2_io_begin_change (io, end, UINT64_MAX, &change);
  r = io->host->ops->cut (io->host->opaque, end);
  q2_io_end_change (io, &change);
  if (r != 0)
    return q2_fail_io (err, r, end, "giving back space at the end of the "
                       "image file failed: %s", strerror (r));
  return 0;
}

static int
end (struct q2_writer *w, const struct q2_io *io, struct qcow2_error *err)
{
  /* Once more: what a commit lets go of may show that the image is corrupt. */
  if (q2_writer_check_usable (w, err) == -1 ||
      (Q2_PLANTED (Q2_PLANT_LAZY_CLEAN) &&
       q2_writer_mark_closed (w, io, err) == -1) ||
      commit_all (w, io, err) == -1 ||
      q2_writer_check_usable (w, err) == -1 ||
      q2_writer_mark_closed (w, io, err) == -1 || cut_file (w, io, err) == -1)
    return -1;
  q2_writer_become_ended (w);
  return 0;
}

int
q2_writer_end (struct q2_writer *w, const struct q2_io *io,
               struct qcow2_error *err)
{
  const enum q2_writer_state state = w->state;

  /* Nothing was written, or not since it was ended. */
  if (state == Q2_WRITER_OPEN || state == Q2_WRITER_ENDED ||
      (state == Q2_WRITER_BUGGY && !w->prepared))
    return 0;
  return end (w, io, err);
}
