/* SPDX-License-Identifier: BSD-3-Clause */
/* image.c - the public functions of qcow2.h.
 *
 * Owns      the life of struct qcow2_image, and which function of which room
 *           does what is asked for; request.c has what all of it begins and
 *           ends with.
 * Locks     none: everything in the image is constant after qcow2_open, or
 *           guards itself.
 */
#include "config.h"

#include "image/request.h"

#include "base/assume.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* For L1 tables and views, besides the caches of the image itself, which are
 * counted four times: caches get half of it, and the first of them half of
 * that.
 */
#define DEFAULT_MEMORY (UINT64_C (256) << 20)
#define MAX_CACHES (UINT64_C (1) << 60)

static void
init_budget (struct qcow2_image *image, const struct qcow2_options *options)
{
  const uint64_t caches = q2_min
    (options->cache_size ? options->cache_size : Q2_DEFAULT_CACHE_SIZE,
     MAX_CACHES) + q2_min (options->cluster_cache_size, MAX_CACHES);

  q2_budget_init (&image->budget, options->budget,
                  options->memory ? options->memory
                  : 4 * caches + DEFAULT_MEMORY, "this image and its views",
                  options->memory_remedy ? options->memory_remedy
                  : "close views of it");
  image->shared.budget = &image->budget;
}

/* Calls of qcow2_idle_commit until what is pending is written although there
 * is always somebody who writes.
 */
#define MAX_BUSY_CALLS 4

struct qcow2_image *
qcow2_open (const struct qcow2_io *host, const struct qcow2_options *options,
            struct qcow2_error *err)
{
  struct qcow2_image *image = calloc (1, sizeof *image);

  if (image == NULL) {
    q2_fail_nomem (err, "the image");
    return NULL;
  }
  image->file_size = host->size;
  q2_io_shared_init (&image->shared);
  init_budget (image, options);
  q2_store_init (&image->store);
  q2_writer_init (&image->writer);
  q2_gate_init (&image->gate);
  q2_mutex_init (&image->pins.lock, 1, "pins.lock");
  image->shared.meter.counting = options->count;
  image->check = options->check;
  image->inspect = options->inspect || options->check;
  if (q2_image_init (image, host, options, err) == 0 &&
      q2_check_end (err) == 0)
    return image;
  qcow2_close (image);
  return NULL;
}

static void
close_image (struct qcow2_image *image)
{
  (void) q2_check (atomic_load (&image->views) == 0);
  (void) q2_check (image->pins.first == NULL);
  /* First the threads, which use everything else. */
  q2_workers_free (image->reader.workers);
  q2_writer_destroy (&image->writer);
  q2_mutex_destroy (&image->pins.lock);
  q2_gate_destroy (&image->gate);
  q2_ahead_free (image->reader.ahead);
  q2_clusters_free (image->reader.clusters);
  q2_budget_give (&image->budget, image->clusters_charge);
  q2_codec_pool_free (image->reader.codecs);
  q2_tables_free (image->reader.tables);
  if (image->reader.cpus != 0)
    q2_streams_destroy (&image->reader.streams);
  q2_store_destroy (&image->store);
  q2_superblock_destroy (&image->superblock);
  q2_io_shared_destroy (&image->shared);
  free (image);
}

static void
close_view (struct qcow2_image *view)
{
  struct qcow2_image *const parent = view->parent;
  const bool counted = view->counted;

  (void) q2_check (parent != NULL || !counted);
  view->view->close (view);
  if (counted)
    (void) q2_check (atomic_fetch_sub (&parent->views, 1) > 0);
}

void
qcow2_close (struct qcow2_image *image)
{
  qcow2_log_fn log;
  struct qcow2_error err;
  void *log_opaque;

  if (image == NULL)
    return;
  log = (image->parent ? image->parent : image)->writer.log;
  log_opaque = (image->parent ? image->parent : image)->writer.log_opaque;
  if (image->view != NULL)
    close_view (image);
  else
    close_image (image);
  /* Nobody is left whose request could fail. */
  if (q2_check_end (&err) == -1 && log)
    log (log_opaque, QCOW2_LOG_WARNING, err.text, err.advice);
}

void
qcow2_idle (struct qcow2_image *image)
{
  /* What others use too is not for a view to empty. */
  if (image->base == NULL)
    q2_ahead_clear (image->reader.ahead);
  else if (image->base != image->parent)
    qcow2_idle (image->base);
}

bool
qcow2_is_short_of_memory (const struct qcow2_image *image)
{
  const struct qcow2_budget *b =
    image->parent ? &image->parent->budget : &image->budget;

  for (; b != NULL; b = b->parent)
    if (qcow2_budget_used (b) > b->max / 4 * 3)
      return true;
  return false;
}

struct qcow2_info
qcow2_get_info (const struct qcow2_image *image)
{
  return q2_image_info (image);
}

bool
qcow2_get_scan (const struct qcow2_image *image, struct qcow2_scan *ret_scan)
{
  const struct q2_writer *const w = &image->writer;

  *ret_scan = w->first_scan;
  if (w->first_scan.failed &&
      w->first_scan.error.kind != QCOW2_ERR_CORRUPT &&
      w->first_scan.error.kind != QCOW2_ERR_UNSUPPORTED)
    return false;
  return w->first_scan.ns > 0;
}

void
qcow2_get_stats (const struct qcow2_image *image, struct qcow2_stats *ret)
{
  const struct qcow2_image *const owner =
    image->parent ? image->parent : image;
  const struct q2_meter *const meter = &owner->shared.meter;
  const struct q2_reader *const r =
    image->base ? &image->base->reader : &image->reader;

  memset (ret, 0, sizeof *ret);
  for (size_t i = 0; i < QCOW2_IO_NR_CLASSES; ++i) {
    ret->io[i].requests = atomic_load (&meter->io[i].requests);
    ret->io[i].bytes = atomic_load (&meter->io[i].bytes);
    ret->io[i].writes = atomic_load (&meter->io[i].writes);
    ret->io[i].written = atomic_load (&meter->io[i].written);
  }
  ret->commits = atomic_load (&owner->writer.commits);
  ret->short_commits = atomic_load (&owner->writer.short_commits);
  ret->host_flushes = atomic_load (&meter->flushes);
  ret->latency_us = atomic_load (&meter->latency_us);
  ret->holds = atomic_load (&owner->gate.holds);
  ret->held_us = atomic_load (&owner->gate.held_us);
  ret->longest_hold_us = atomic_load (&owner->gate.longest_us);
  ret->held_requests = atomic_load (&owner->gate.waited);
  ret->shared_by_writes = atomic_load (&owner->writer.sharing.met);
  ret->inflated_bytes = atomic_load (&r->inflated_bytes);
  q2_tables_get_stats (r->tables, &ret->table_hits, &ret->table_misses);
  q2_clusters_get_stats (r->clusters, &ret->cluster_hits,
                         &ret->cluster_misses);
  q2_ahead_get_stats (r->ahead, &ret->ahead_requests, &ret->ahead_bytes,
                      &ret->ahead_used_bytes);
}

/* ---- Requests ------------------------------------------------------- */

int
qcow2_pread (struct qcow2_image *image, const struct qcow2_io *host,
             void *buf, uint32_t count, uint64_t guest_off,
             struct qcow2_error *err)
{
  struct q2_request req;
  int r;

  if (q2_request_begin (&req, image, host, Q2_REQUEST_READ, count, guest_off,
                        err) == -1)
    return -1;
  r = image->view
    ? image->view->pread (image, host, buf, count, guest_off, err)
    : q2_reader_pread (&image->reader, &req.io, buf, count, guest_off, err);
  return q2_request_end (&req, r, err);
}

int
qcow2_extents (struct qcow2_image *image, const struct qcow2_io *host,
               uint64_t count, uint64_t guest_off, qcow2_extent_fn fn,
               void *fn_opaque, struct qcow2_error *err)
{
  struct q2_request req;
  bool ignored;
  int r;

  if (q2_request_begin (&req, image, host, Q2_REQUEST_READ, count, guest_off,
                        err) == -1)
    return -1;
  r = image->view
    ? image->view->extents (image, host, count, guest_off, fn, fn_opaque, err)
    : q2_reader_extents (&image->reader, &req.io, count, guest_off, fn,
                         fn_opaque, &ignored, err);
  return q2_request_end (&req, r, err);
}

int
qcow2_cache (struct qcow2_image *image, const struct qcow2_io *host,
             uint32_t count, uint64_t guest_off, struct qcow2_error *err)
{
  struct q2_request req;
  int r;

  if (q2_request_begin (&req, image, host, Q2_REQUEST_READ, count, guest_off,
                        err) == -1)
    return -1;
  r = image->view ? image->view->cache (image, host, count, guest_off, err)
    : q2_reader_cache (&image->reader, &req.io, count, guest_off, err);
  return q2_request_end (&req, r, err);
}

/* ---- Changes -------------------------------------------------------- */

int
qcow2_pwrite (struct qcow2_image *image, const struct qcow2_io *host,
              const void *buf, uint32_t count, uint64_t guest_off, bool fua,
              struct qcow2_error *err)
{
  struct q2_request req;
  int r;

  if (q2_request_begin (&req, image, host, Q2_REQUEST_CHANGE, count,
                        guest_off, err) == -1)
    return -1;
  r = q2_writer_pwrite_guest (&image->writer, &req.io, buf, count, guest_off,
                              err);
  return q2_request_end_change (&req, r, fua, err);
}

int
qcow2_pwrite_compressed (struct qcow2_image *image,
                         const struct qcow2_io *host, const void *buf,
                         uint32_t count, uint64_t guest_off, bool fua,
                         struct qcow2_error *err)
{
  struct q2_request req;
  int r;

  if (q2_request_begin (&req, image, host, Q2_REQUEST_CHANGE, count,
                        guest_off, err) == -1)
    return -1;
  r = q2_writer_can_compress (&image->writer, err) == 0
    ? q2_writer_pwrite_compressed (&image->writer, &req.io, buf, count,
                                   guest_off, err) : -1;
  return q2_request_end_change (&req, r, fua, err);
}

int
qcow2_zero (struct qcow2_image *image, const struct qcow2_io *host,
            uint64_t count, uint64_t guest_off, unsigned flags,
            struct qcow2_error *err)
{
  struct q2_request req;
  int r;

  if (q2_request_begin (&req, image, host, Q2_REQUEST_CHANGE, count,
                        guest_off, err) == -1)
    return -1;
  r = q2_writer_zero (&image->writer, &req.io, count, guest_off, flags, err);
  return q2_request_end_change (&req, r, flags & QCOW2_ZERO_FUA, err);
}

int
qcow2_trim (struct qcow2_image *image, const struct qcow2_io *host,
            uint64_t count, uint64_t guest_off, bool fua,
            struct qcow2_error *err)
{
  struct q2_request req;
  int r;

  if (q2_request_begin (&req, image, host, Q2_REQUEST_CHANGE, count,
                        guest_off, err) == -1)
    return -1;
  r = q2_writer_trim (&image->writer, &req.io, count, guest_off, err);
  return q2_request_end_change (&req, r, fua, err);
}

/* ---- Making it durable ---------------------------------------------- */

int
qcow2_flush (struct qcow2_image *image, const struct qcow2_io *host,
             struct qcow2_error *err)
{
  struct q2_request req;

  if (q2_request_begin (&req, image, host, Q2_REQUEST_FLUSH, 0, 0, err) == -1)
    return -1;
  return q2_request_end (&req,
                         q2_writer_flush (&image->writer, &req.io, err), err);
}

void
qcow2_flush_has_failed (struct qcow2_image *image)
{
  q2_writer_become_failed (&image->writer);
}

void
qcow2_file_is_larger (struct qcow2_image *image, uint64_t size)
{
  if (size > image->file_size)
    q2_io_note_size (&image->shared, size);
}

/* Clients that are always busy and never flush must not lose all that they
 * have written when the server is killed.
 */
static bool
is_overdue (struct qcow2_image *image)
{
  const uint64_t commits = atomic_load (&image->writer.commits);

  if (atomic_exchange (&image->idle.commits, commits) != commits)
    image->idle.busy_calls = 0;
  return ++image->idle.busy_calls >= MAX_BUSY_CALLS;
}

/* Whoever has closed the gate may need the thread, so nobody waits for it.
 * Going through it is no change that keeps the image from being idle.
 */
static int
retire_bitmaps (struct qcow2_image *image, const struct qcow2_io *host,
                struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  int r = 0;

  if (!q2_writer_may_retire_bitmaps (&image->writer))
    return 0;
  if (q2_gate_try_enter (&image->gate)) {
    r = q2_writer_retire_bitmaps (&image->writer, &io, &image->gate, err);
    q2_gate_leave (&image->gate);
  }
  atomic_fetch_add (&image->idle.changes, 1);
  return r;
}

int
qcow2_settle (struct qcow2_image *image, const struct qcow2_io *host,
              struct qcow2_error *err)
{
  struct q2_writer *const w = &image->writer;
  int r;

  q2_writer_hold_refcounts (w);
  r = qcow2_flush (image, host, err);
  q2_writer_release_refcounts (w);
  return r;
}

int
qcow2_idle_commit (struct qcow2_image *image, const struct qcow2_io *host,
                   struct qcow2_error *err)
{
  struct q2_writer *const w = &image->writer;
  const uint64_t changes = q2_gate_begun (&image->gate);
  const bool idle =
    atomic_exchange (&image->idle.changes, changes) == changes;

  if (retire_bitmaps (image, host, err) == -1)
    return -1;
  if (w->state != Q2_WRITER_ACTIVE || !q2_writer_is_dirty (w)) {
    image->idle.busy_calls = 0;
    return 0;
  }
  if (!idle)
    return is_overdue (image) ? qcow2_flush (image, host, err) : 0;
  /* Nobody is going to need what was raised ahead. */
  return qcow2_settle (image, host, err);
}
