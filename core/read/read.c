/* SPDX-License-Identifier: BSD-3-Clause */
/* read.c - reads bytes of the disk; cache hints.
 *
 * Owns      turning the runs of a request into host requests and
 *           decompressions, and deciding which of them run at once.
 * Method    on a fast host a data run is one host request straight into the
 *           caller's buffer, one run after the other, since that costs least.
 *           On a slow host all host requests of a client's request are in
 *           flight together: data runs go into the caller's buffer, the
 *           streams of compressed clusters into the ahead buffers, many
 *           clusters with one request.  Then the clusters are decompressed, on
 *           several CPUs if no other request needs them.
 * Locks     none.  Work given to other threads ends before the call returns.
 */
#include "config.h"

#include "read/reader.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/lock.h"

#include <string.h>

/* Runs mapped at a time: enough for a 2 MiB request of scattered 64 KiB
 * clusters, small enough for the stack.
 */
#define MAX_RUNS 32

/* Host requests in flight for one client request. */
#define MAX_PARALLEL 32

void
q2_reader_share (struct q2_reader *r, const struct q2_reader *of)
{
  r->store = of->store;
  r->codecs = of->codecs;
  r->clusters = of->clusters;
  r->workers = of->workers;
  r->cpus = of->cpus;
  q2_streams_init (&r->streams, of->streams.max_window);
}

/* ---- One run -------------------------------------------------------- */

/* Ahead buffers have raw bytes of the image file, never of a sector that is
 * being changed; what they do not have is read with care for such ones.
 */
static int
read_data (const struct q2_reader *r, const struct q2_io *io,
           const struct q2_run *run, void *buf, struct qcow2_error *err)
{
  const struct q2_place place = { run->host_off, run->guest_off };
  uint64_t done;

  if (!q2_ahead_any (r->ahead) || r->store->data != NULL ||
      q2_store_is_unaligned (r->store, run->len, place))
    return q2_store_read (r->store, io, buf, run->len, place, err);
  done = q2_ahead_copy (r->ahead, buf, run->len, run->host_off);
  if (r->store->cipher)
    done = q2_align_down (done, Q2_CRYPT_SECTOR);
  q2_store_decrypt (r->store, buf, done, place);
  if (done == run->len)
    return 0;
  return q2_store_read (r->store, io, (unsigned char *) buf + done,
                        run->len - done,
                        (struct q2_place) { run->host_off + done,
                                            run->guest_off + done }, err);
}

static int
read_run (struct q2_reader *r, const struct q2_io *io,
          const struct q2_run *run, void *buf, struct qcow2_error *err)
{
  switch (run->kind) {
  case Q2_RUN_UNALLOCATED:
    if (!r->alone)
      return q2_store_read_below (r->store, buf, run->len, run->guest_off,
                                  err);
    /* fall through */
  case Q2_RUN_ZERO:
    memset (buf, 0, run->len);
    return 0;
  case Q2_RUN_DATA:
    return read_data (r, io, run, buf, err);
  case Q2_RUN_COMPRESSED:
    return q2_decompress_run (r, io, run, buf, err);
  }
  return -1;
}

/* ---- Several at once ------------------------------------------------ */

/* The runs of a request, or of a part of it; workers take them by index. */
struct work {
  struct q2_reader *reader;
  const struct q2_io *io;
  const struct q2_run *runs;    /* the first maps to buf[0] */
  unsigned char *buf;
  const struct q2_pieces *pieces;
  size_t items[MAX_RUNS];       /* indexes of the runs to work on */
  size_t nr_items;
  struct q2_mutex lock;         /* guards the rest */
  bool failed;
  struct qcow2_error error;     /* of the first that failed */
};

static void
do_item (void *arg, size_t i)
{
  struct work *const w = arg;
  const struct q2_run *const run = &w->runs[w->items[i]];
  struct qcow2_error error;

  if (q2_assume (i < w->nr_items && run->guest_off >= w->runs[0].guest_off,
                 &error) &&
      read_run (w->reader, w->io, run,
                w->buf + (run->guest_off - w->runs[0].guest_off),
                &error) == 0)
    return;
  q2_mutex_lock (&w->lock);
  if (!w->failed)
    w->error = error;
  w->failed = true;
  q2_mutex_unlock (&w->lock);
}

/* Pieces come first: they take as long as data runs, and more depends on them.
 */
static void
do_fetch_or_item (void *arg, size_t i)
{
  struct work *const w = arg;

  if (i < w->pieces->nr)
    q2_fetch_piece (w->reader, w->io, &w->pieces->piece[i],
                    QCOW2_IO_COMPRESSED);
  else
    do_item (w, i - w->pieces->nr);
}

static void
choose_items (struct work *w, size_t nr, bool others, bool compressed)
{
  w->nr_items = 0;
  if (!q2_check (nr <= MAX_RUNS))
    nr = MAX_RUNS;
  for (size_t i = 0; i < nr; ++i)
    if (w->runs[i].kind == Q2_RUN_COMPRESSED ? compressed : others)
      w->items[w->nr_items++] = i;
}

/* After all items: 0, or the error of the first that failed. */
static int
end_work (struct work *w, struct qcow2_error *err)
{
  q2_mutex_destroy (&w->lock);
  if (!w->failed)
    return 0;
  *err = w->error;
  return -1;
}

/* How many clusters to decompress at once, leaving CPUs to other requests. */
static unsigned
idle_cpus (struct q2_reader *r)
{
  const unsigned active =
    atomic_load_explicit (&r->active, memory_order_relaxed);

  return active < r->cpus ? r->cpus - active + 1 : 1;
}

/* The runs fill one contiguous part of the buffer. */
static int
read_slow (struct q2_reader *r, const struct q2_io *io,
           const struct q2_run *runs, size_t nr, bool sequential, void *buf,
           struct qcow2_error *err)
{
  struct q2_pieces pieces = { .nr = 0 };
  struct work w = {
    .reader = r, .io = io, .runs = runs, .buf = buf, .pieces = &pieces,
    .lock = Q2_MUTEX_INITIALIZER (3, "work.lock"),
  };
  const bool widen = r->streams.max_window > 0 &&
    (sequential || q2_ahead_is_useful (r->ahead)) &&
    q2_is_worth_widening (r, io, runs, nr);

  if (widen || nr > 1)
    q2_gather (runs, nr, widen, widen, q2_io_end (io), &pieces);
  /* Data runs inside a piece are copied from it afterwards. */
  choose_items (&w, nr, !widen, false);
  q2_workers_batch (r->workers, do_fetch_or_item, &w,
                    pieces.nr + w.nr_items,
                    io->host->concurrent ? MAX_PARALLEL : 1);
  choose_items (&w, nr, widen, true);
  q2_workers_batch (r->workers, do_item, &w, w.nr_items,
                    io->host->concurrent ? idle_cpus (r) : 1);
  return end_work (&w, err);
}

static int
read_fast (struct q2_reader *r, const struct q2_io *io,
           const struct q2_run *runs, size_t nr, unsigned char *buf,
           struct qcow2_error *err)
{
  for (size_t i = 0; i < nr; ++i) {
    if (read_run (r, io, &runs[i], buf, err) == -1)
      return -1;
    buf += runs[i].len;
  }
  return 0;
}

/* True if there are several clusters to decompress, and idle CPUs. */
static bool
is_worth_sharing (struct q2_reader *r, const struct q2_io *io,
                  const struct q2_run *runs, size_t nr)
{
  size_t compressed = 0;

  if (nr == 1 || !io->host->concurrent)
    return false;
  for (size_t i = 0; i < nr; ++i)
    compressed += runs[i].kind == Q2_RUN_COMPRESSED;
  return compressed > 1 && idle_cpus (r) > 1;
}

static int
read_shared (struct q2_reader *r, const struct q2_io *io,
             const struct q2_run *runs, size_t nr, unsigned char *buf,
             struct qcow2_error *err)
{
  struct work w = {
    .reader = r, .io = io, .runs = runs, .buf = buf,
    .lock = Q2_MUTEX_INITIALIZER (3, "work.lock"),
  };

  for (w.nr_items = 0; w.nr_items < nr; ++w.nr_items)
    w.items[w.nr_items] = w.nr_items;
  q2_workers_batch (r->workers, do_item, &w, nr, idle_cpus (r));
  return end_work (&w, err);
}

/* True if the runs are better read together.  For a single run only its own
 * file matters.  Backing images decide for themselves; asking them here would
 * ask each of them once per image above it.
 */
static bool
is_slow (const struct q2_reader *r, const struct q2_io *io, size_t nr)
{
  return nr == 1 ? q2_io_is_slow (io) : q2_store_is_slow (r->store, io);
}

/* Returns true if the request belongs to a sequential reader. */
static bool
read_ahead (struct q2_reader *r, const struct q2_io *io, uint64_t count,
            uint64_t guest_off)
{
  struct q2_stream_advice advice;

  /* Backing images read ahead by themselves; data files never do. */
  if (r->streams.max_window == 0 || r->store->data != NULL)
    return false;
  advice = q2_streams_note (&r->streams, guest_off, count,
                            q2_tables_geometry (r->tables)->virtual_size,
                            q2_prefetch_max (r, io),
                            io->host->ops->borrow == NULL);
  if (advice.from < advice.to) {
    const uint64_t done =
      q2_prefetch_data (r, io, advice.from, advice.to);

    if (done < advice.to)
      q2_streams_fell_short (&r->streams, &advice, done);
  }
  return advice.sequential;
}

static int
read_range (struct q2_reader *r, const struct q2_io *io, unsigned char *buf,
            uint64_t count, uint64_t guest_off, struct qcow2_error *err)
{
  const bool sequential =
    q2_io_is_slow (io) && read_ahead (r, io, count, guest_off);

  while (count > 0) {
    struct q2_run runs[MAX_RUNS];
    size_t nr;
    uint64_t len;
    int ret;

    if (q2_map_runs (r->tables, io, guest_off, count, runs, MAX_RUNS, &nr,
                     err) == -1)
      return -1;
    len = runs[nr - 1].guest_off + runs[nr - 1].len - guest_off;
    if (!q2_assume (runs[0].guest_off == guest_off && len <= count, err))
      return -1;
    if (is_slow (r, io, nr))
      ret = read_slow (r, io, runs, nr, sequential, buf, err);
    else if (is_worth_sharing (r, io, runs, nr))
      ret = read_shared (r, io, runs, nr, buf, err);
    else
      ret = read_fast (r, io, runs, nr, buf, err);
    if (ret == -1)
      return -1;
    buf += len;
    guest_off += len;
    count -= len;
  }
  return 0;
}

int
q2_reader_pread (struct q2_reader *r, const struct q2_io *io, void *buf,
                 uint64_t count, uint64_t guest_off, struct qcow2_error *err)
{
  int ret;

  atomic_fetch_add_explicit (&r->active, 1, memory_order_relaxed);
  ret = read_range (r, io, buf, count, guest_off, err);
  atomic_fetch_sub_explicit (&r->active, 1, memory_order_relaxed);
  return ret;
}

static int
cache_run (struct q2_reader *r, const struct q2_io *io,
           const struct q2_run *run, struct qcow2_error *err)
{
  const struct q2_io data = q2_store_io (r->store, io);

  switch (run->kind) {
  case Q2_RUN_UNALLOCATED:
    return r->alone ? 0
      : q2_store_cache_below (r->store, run->len, run->guest_off, err);
  case Q2_RUN_ZERO:
    return 0;
  case Q2_RUN_DATA:
    q2_io_cache (&data, run->len, run->host_off);
    return 0;
  case Q2_RUN_COMPRESSED:
    q2_io_cache (io, run->csize, run->host_off);
    return 0;
  }
  return 0;
}

int
q2_reader_cache (struct q2_reader *r, const struct q2_io *io, uint64_t count,
                 uint64_t guest_off, struct qcow2_error *err)
{
  while (count > 0) {
    struct q2_run runs[MAX_RUNS];
    size_t nr;

    if (q2_map_runs (r->tables, io, guest_off, count, runs, MAX_RUNS, &nr,
                     err) == -1)
      return -1;
    for (size_t i = 0; i < nr; ++i) {
      const struct q2_run *const run = &runs[i];

      if (cache_run (r, io, run, err) == -1)
        return -1;
      guest_off += run->len;
      count -= run->len;
    }
  }
  return 0;
}
