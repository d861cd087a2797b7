/* SPDX-License-Identifier: BSD-3-Clause */
/* activate.c - what happens before the first change, and at the end.
 *
 * Owns      the life of struct q2_writer, and the feature bits in the header
 *           while the image is written to.
 * Method    opening an image for writing and writing nothing must leave it as
 *           it was, so everything that prepares it is done by the first
 *           request that changes something: what was read ahead is dropped,
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

#include "meta/bitmaps.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where the feature bits are in the header of version 3. */
#define FEATURES_OFFSET 72

/* More commits than it can take until nothing is left to be released. */
#define MAX_LAST_COMMITS 16

void
q2_writer_init (struct q2_writer *w)
{
  pthread_condattr_t monotonic;

  pthread_mutex_init (&w->activate_lock, NULL);
  pthread_mutex_init (&w->solid_lock, NULL);
  pthread_mutex_init (&w->link_lock, NULL);
  pthread_mutex_init (&w->commit_lock, NULL);
  pthread_mutex_init (&w->release_lock, NULL);
  pthread_condattr_init (&monotonic);
  pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init (&w->committed, &monotonic);
  pthread_condattr_destroy (&monotonic);
  pthread_cond_init (&w->activated, NULL);
  q2_ranges_init (&w->clusters);
  q2_ranges_init (&w->l1);
  w->gathering = 1;
  w->patience_ms = Q2_WRITER_PATIENCE_MS;
  w->last_batch = &w->first_batch;
}

void
q2_writer_destroy (struct q2_writer *w)
{
  while (w->first_batch) {
    struct q2_batch *const b = w->first_batch;

    w->first_batch = b->next;
    q2_frees_destroy (&b->frees);
    free (b);
  }
  q2_frees_destroy (&w->unlinked);
  q2_repair_free (w->repair);
  q2_space_free (w->space);
  q2_overlap_free (w->overlap);
  q2_ranges_destroy (&w->l1);
  q2_ranges_destroy (&w->clusters);
  pthread_cond_destroy (&w->activated);
  pthread_cond_destroy (&w->committed);
  pthread_mutex_destroy (&w->release_lock);
  pthread_mutex_destroy (&w->commit_lock);
  pthread_mutex_destroy (&w->link_lock);
  pthread_mutex_destroy (&w->solid_lock);
  free (w->new_tables);
  pthread_mutex_destroy (&w->activate_lock);
}

/* ---- Feature bits --------------------------------------------------- */

/* Write the feature bits of w->header, and flush. */
static int
write_features (struct q2_writer *w, const struct q2_io *io,
                struct qcow2_error *err)
{
  unsigned char bits[24];

  if (q2_overlap_check (w->overlap, FEATURES_OFFSET, sizeof bits,
                        Q2_META_HEADER, err) == -1)
    return -1;
  store_be64 (bits, w->header.incompatible);
  store_be64 (bits + 8, w->header.compatible);
  store_be64 (bits + 16, w->header.autoclear);
  if (q2_io_write (io, bits, sizeof bits, FEATURES_OFFSET, QCOW2_IO_HEADER,
                   err) == -1)
    return -1;
  if (q2_io_flush (io, err) == 0)
    return 0;
  w->failed = true;
  return -1;
}

static bool
is_lazy (const struct q2_writer *w)
{
  return w->header.compatible & Q2_COMPAT_LAZY_REFCOUNTS;
}

/* Bits that say that something is up to date, which we do not know and so
 * cannot keep up to date; enabled bitmaps, which we know and still do not;
 * and, if refcounts may be written late, that.  The flush makes all of it
 * durable.
 */
static int
prepare_features (struct q2_writer *w, const struct q2_io *io,
                  struct qcow2_error *err)
{
  const uint64_t known = Q2_AUTOCLEAR_BITMAPS | Q2_AUTOCLEAR_DATA_RAW;
  const struct q2_header before = w->header;

  w->header.autoclear &= known;
  if (is_lazy (w))
    w->header.incompatible |= Q2_INCOMPAT_DIRTY;
  if (w->header.version < 3 ||
      (before.autoclear == w->header.autoclear &&
       before.incompatible == w->header.incompatible &&
       w->header.nr_bitmaps == 0))
    return 0;
  if (q2_bitmaps_mark_in_use (io, &w->header, w->geo, w->overlap, err) == 0 &&
      write_features (w, io, err) == 0)
    return 0;
  w->header = before;
  return -1;
}

/* ---- The first change ----------------------------------------------- */

static int
check_header_is_counted (struct q2_writer *w, struct qcow2_error *err)
{
  if (!q2_space_is_uncovered (w->space, 0))
    return 0;
  return q2_fail (err, QCOW2_ERR_CORRUPT, w->header.refcount_table_offset,
                  "the image has no refcounts for its header; repair it "
                  "with 'qemu-img check -r all'");
}

/* A commit must not find that the file is too short for the L1 table, which
 * images that hold nothing yet may be.
 */
static int
make_room_for_l1 (struct q2_writer *w, const struct q2_io *io,
                  struct qcow2_error *err)
{
  const uint64_t bytes = (uint64_t) w->header.l1_entries * 8;

  if (bytes == 0)
    return 0;
  if (w->header.l1_offset > q2_io_size (io))
    return q2_fail (err, QCOW2_ERR_CORRUPT, w->header.l1_offset,
                    "the L1 table at offset 0x%" PRIx64 " is not in the "
                    "file; repair the image with 'qemu-img check -r all'",
                    w->header.l1_offset);
  return q2_io_grow (io, w->header.l1_offset + bytes, err);
}

static int
activate (struct q2_writer *w, const struct q2_io *io,
          struct qcow2_error *err)
{
  /* What was read before may be out of date from now on. */
  q2_ahead_disable (w->reader->ahead);
  atomic_store (&io->shared->written, true);
  if (q2_writer_repair (w, io, err) == -1)
    return -1;
  /* Without memory for it, zeros are written once more (entries.c). */
  if (w->new_tables == NULL)
    w->new_tables = calloc (w->geo->l1_needed / 8 + 1, 1);
  if ((w->overlap = q2_overlap_new (w->geo->cluster_bits,
                                     q2_io_budget (io), err)) == NULL ||
      q2_writer_add_metadata (w, io, err) == -1 ||
      (w->space = q2_space_new (w->geo, &w->header, w->overlap, &w->flight, io,
                                err))
      == NULL ||
      check_header_is_counted (w, err) == -1 ||
      make_room_for_l1 (w, io, err) == -1 ||
      q2_writer_protect (w, io, err) == -1 ||
      prepare_features (w, io, err) == -1)
    return -1;
  return 0;
}

static int
activate_once (struct q2_writer *w, const struct q2_io *io,
               struct qcow2_error *err)
{
  int r = 0;

  pthread_mutex_lock (&w->activate_lock);
  while (w->activating)
    pthread_cond_wait (&w->activated, &w->activate_lock);
  if (!w->active) {
    w->activating = true;
    pthread_mutex_unlock (&w->activate_lock);
    r = activate (w, io, err);
    if (r == -1) {              /* the next request tries again */
      q2_space_free (w->space);
      q2_overlap_free (w->overlap);
      w->space = NULL;
      w->overlap = NULL;
    }
    pthread_mutex_lock (&w->activate_lock);
    w->active = r == 0;
    w->activating = false;
    pthread_cond_broadcast (&w->activated);
  }
  pthread_mutex_unlock (&w->activate_lock);
  return r;
}

static int
check_usable (struct q2_writer *w, struct qcow2_error *err)
{
  if (w->failed)
    return q2_writer_fail_flushed (err);
  if (w->bug)
    return q2_writer_fail_bug (err);
  if (w->corrupt)
    return q2_fail (err, QCOW2_ERR_CORRUPT, QCOW2_NO_OFFSET,
                    "nothing is written since the image was found to be "
                    "corrupt; repair it with 'qemu-img check -r all'");
  return 0;
}

int
q2_writer_begin (struct q2_writer *w, const struct q2_io *io,
                 struct qcow2_error *err)
{
  if (check_usable (w, err) == -1)
    return -1;
  if (io->shared->bug)
    return q2_writer_fail_bug (err);
  atomic_fetch_add_explicit (&w->changes, 1, memory_order_relaxed);
  if (w->active)
    return 0;
  return activate_once (w, io, err);
}

void
q2_writer_note_error (struct q2_writer *w, const struct q2_io *io,
                      const struct qcow2_error *err)
{
  struct qcow2_error why;

  if (err->kind == QCOW2_ERR_BUG && !atomic_exchange (&w->bug, true) &&
      w->log)
    w->log (w->log_opaque, QCOW2_LOG_WARNING, "nothing is written to the "
            "image any more until all clients have disconnected");
  if (err->kind != QCOW2_ERR_CORRUPT)
    return;
  pthread_mutex_lock (&w->activate_lock);
  if (w->active && !w->corrupt) {
    w->corrupt = true;
    w->header.incompatible |= Q2_INCOMPAT_CORRUPT;
    if (w->log)
      w->log (w->log_opaque, QCOW2_LOG_WARNING, "the image is corrupt: it is "
              "marked so and not written to any more");
    if (w->header.version >= 3 &&
        write_features (w, io, &why) == -1 && w->log)
      w->log (w->log_opaque, QCOW2_LOG_WARNING, why.text);
  }
  pthread_mutex_unlock (&w->activate_lock);
}

int
q2_writer_flush (struct q2_writer *w, const struct q2_io *io,
                 struct qcow2_error *err)
{
  if (w->failed || w->bug)
    return check_usable (w, err);
  /* Before the first change there is nothing to make durable. */
  return w->active ? q2_writer_commit (w, io, err) : 0;
}

/* ---- The end -------------------------------------------------------- */

/* Releasing changes refcounts, which makes another commit necessary. */
static int
commit_all (struct q2_writer *w, const struct q2_io *io,
            struct qcow2_error *err)
{
  for (unsigned i = 0; i < MAX_LAST_COMMITS; ++i) {
    if (q2_writer_commit (w, io, err) == -1)
      return -1;
    if (!q2_writer_is_dirty (w))
      return 0;
  }
  return 0;                     /* what cannot be released is leaked */
}

static int
cut_file (struct q2_writer *w, const struct q2_io *io,
          struct qcow2_error *err)
{
  uint64_t end;
  int r;

  if (io->host->ops->cut == NULL || q2_io_size (io) == io->file_size)
    return 0;
  r = q2_space_find_end (w->space, io, io->file_size, &end, err);
  if (r != 0)
    return r == -1 ? -1 : 0;
  if (end >= q2_io_size (io))
    return 0;                   /* what is in use goes on behind it */
  r = io->host->ops->cut (io->host->opaque, end);
  if (r != 0)
    return q2_fail_io (err, r, end, "giving back space at the end of the "
                       "image file failed: %s", strerror (r));
  return 0;
}

int
q2_writer_end (struct q2_writer *w, const struct q2_io *io,
               struct qcow2_error *err)
{
  if (!w->active && !w->failed)
    return 0;
  if (check_usable (w, err) == -1 || commit_all (w, io, err) == -1)
    return -1;
  if (is_lazy (w)) {
    w->header.incompatible &= ~Q2_INCOMPAT_DIRTY;
    if (write_features (w, io, err) == -1)
      return -1;
  }
  return cut_file (w, io, err);
}
