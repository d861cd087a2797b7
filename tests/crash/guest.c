/* SPDX-License-Identifier: BSD-3-Clause */
/* guest.c - see guest.h.
 *
 * Owns      choosing requests, and entering them in the ledger.
 * Locks     none of its own.
 */
#include "config.h"

#include "guest.h"

#include "jitter.h"
#include "tag.h"
#include "threads.h"
#include "unit.h"

#define SECTORS_PER_CLUSTER(g)                                                \
  (UINT64_C (1) << ((g)->w->recipe.cluster_bits - 9))

struct range {
  uint64_t sector, count;
};

/* ---- Choices ----------------------------------------------------------- */

static uint64_t
choose_count (const struct guest *g, struct rng *rng)
{
  const uint64_t cluster = SECTORS_PER_CLUSTER (g);
  uint64_t max = g->w->max_sectors ? g->w->max_sectors : 4 * cluster;

  switch (rng_below (rng, 4)) {
  case 0:
    return 1;
  case 1:
    max = max < cluster ? max : cluster;
    break;
  case 2:
    return cluster <= max ? cluster : max;
  default:
    break;
  }
  return 1 + rng_below (rng, max);
}

static uint64_t
next_in_sequence (struct guest *g, struct rng *rng, uint64_t count)
{
  uint64_t sector;

  (void) rng;
  pthread_mutex_lock (&g->ledger.lock);
  sector = g->next_sequential;
  if (sector + count > g->ledger.nr_sectors)
    sector = 0;
  g->next_sequential = sector + count;
  pthread_mutex_unlock (&g->ledger.lock);
  return sector;
}

static struct range
choose_range (struct guest *g, struct rng *rng)
{
  const uint64_t cluster = SECTORS_PER_CLUSTER (g);
  const uint64_t disk = g->ledger.nr_sectors;
  uint64_t among = disk;
  struct range range;

  range.count = choose_count (g, rng);
  if (range.count > disk)
    range.count = disk;
  switch (g->w->pattern) {
  case PATTERN_SEQUENTIAL:
    range.sector = next_in_sequence (g, rng, range.count);
    return range;
  case PATTERN_HOT:
    among = 5 * cluster < disk ? 5 * cluster : disk;
    break;
  case PATTERN_RANDOM:
    break;
  }
  range.sector = rng_below (rng, among);
  if (rng_below (rng, 2) == 0)
    range.sector -= range.sector % cluster;
  if (range.count > disk - range.sector)
    range.count = disk - range.sector;
  return range;
}

/* ---- Requests ---------------------------------------------------------- */

/* The engine returned 'r'. */
static bool
succeeded (struct guest *g, int r, const struct qcow2_error *err)
{
  if (r == 0)
    return true;
  if (!unit_check ((g->tolerated >> err->kind & 1) != 0, __FILE__, __LINE__,
                   "%s: %s", g->w->name, err->text))
    return false;
  atomic_fetch_add (&g->errors, 1);
  return false;
}

static size_t
begin (struct guest *g, uint32_t id, struct range range, bool fua)
{
  const struct guest_op op = {
    .id = id, .fua = fua, .sector = range.sector, .count = range.count,
    .start = host_tick (&g->host),
  };

  return ledger_begin (&g->ledger, &op);
}

/* The whole clusters that the range is in. */
static struct range
around (const struct guest *g, struct range range)
{
  const uint64_t cluster = SECTORS_PER_CLUSTER (g);
  const uint64_t first = range.sector - range.sector % cluster;
  uint64_t end = range.sector + range.count;

  end = (end + cluster - 1) / cluster * cluster;
  if (end > g->ledger.nr_sectors)
    end = g->ledger.nr_sectors;
  return (struct range) { first, end - first };
}

static void
do_write (struct guest *g, struct range range, bool fua, bool zeros,
          bool pack)
{
  const uint32_t id = zeros ? TAG_ZERO : ledger_new_id (&g->ledger);
  unsigned char *buf;
  struct qcow2_error err;
  size_t index;
  int r;

  if (pack)
    range = around (g, range);
  buf = malloc (range.count * SECTOR);
  REQUIRE (buf != NULL);
  tag_fill (buf, range.sector, range.count, id);
  index = begin (g, id, range, fua);
  r = (pack ? qcow2_pwrite_compressed : qcow2_pwrite)
    (g->image, &g->host.io, buf, (uint32_t) (range.count * SECTOR),
     range.sector * SECTOR, fua, &err);
  ledger_end (&g->ledger, index, host_tick (&g->host),
              succeeded (g, r, &err));
  free (buf);
}

static void
do_zero (struct guest *g, struct range range, bool fua, unsigned flags)
{
  const size_t index = begin (g, TAG_ZERO, range, fua);
  struct qcow2_error err;
  int r;

  r = qcow2_zero (g->image, &g->host.io, range.count * SECTOR,
                  range.sector * SECTOR,
                  flags | (fua ? QCOW2_ZERO_FUA : 0), &err);
  if (r == -1 && err.kind == QCOW2_ERR_NOT_FAST &&
      CHECK (flags & QCOW2_ZERO_FAST)) {
    ledger_refused (&g->ledger, index);
    return;
  }
  ledger_end (&g->ledger, index, host_tick (&g->host),
              succeeded (g, r, &err));
}

/* The whole clusters of the range that can be trimmed; the last one of the
 * disk may be partial.
 */
static struct range
whole_clusters (const struct guest *g, struct range range)
{
  const uint64_t cluster = SECTORS_PER_CLUSTER (g);
  uint64_t end = range.sector + range.count;

  if (end < g->ledger.nr_sectors)
    end -= end % cluster;
  range.sector = (range.sector + cluster - 1) / cluster * cluster;
  if (range.sector < g->stuck)
    range.sector = g->stuck;
  range.count = end > range.sector ? end - range.sector : 0;
  return range;
}

static void
do_trim (struct guest *g, struct range range, bool fua)
{
  struct range whole = whole_clusters (g, range);
  struct qcow2_error err;
  size_t index;
  int r;

  if (g->w->discard == QCOW2_DISCARD_IGNORE)
    whole.count = 0;
  index = begin (g, TAG_ZERO, whole, fua);
  r = qcow2_trim (g->image, &g->host.io, range.count * SECTOR,
                  range.sector * SECTOR, fua, &err);
  ledger_end (&g->ledger, index, host_tick (&g->host),
              succeeded (g, r, &err));
}

static void
do_read (struct guest *g, struct range range)
{
  unsigned char *const buf = malloc (range.count * SECTOR);
  const uint64_t start = host_tick (&g->host);
  struct qcow2_error err;
  uint64_t end;

  REQUIRE (buf != NULL);
  memset (buf, 0xa7, range.count * SECTOR);
  if (succeeded (g, qcow2_pread (g->image, &g->host.io, buf,
                                 (uint32_t) (range.count * SECTOR),
                                 range.sector * SECTOR, &err), &err)) {
    end = host_tick (&g->host);
    for (uint64_t i = 0; i < range.count; ++i) {
      const uint32_t id = tag_read (buf + i * SECTOR, range.sector + i);

      if (!unit_check (id != TAG_FOREIGN &&
                       ledger_may_read (&g->ledger, range.sector + i, id,
                                        start, end), __FILE__, __LINE__,
                       "%s, seed %" PRIu64 ": sector %" PRIu64
                       " reads as write %" PRId32 " at tick %" PRIu64,
                       g->w->name, g->seed, range.sector + i, (int32_t) id,
                       end))
        break;
    }
  }
  free (buf);
}

static void
do_flush (struct guest *g, bool idle)
{
  const struct guest_op op = { .flush = true, .start = host_tick (&g->host) };
  struct qcow2_error err;
  size_t index;
  int r;

  /* It guarantees nothing, since it may do nothing. */
  if (idle) {
    r = qcow2_idle_commit (g->image, &g->host.io, &err);
    succeeded (g, r, &err);
    return;
  }
  index = ledger_begin (&g->ledger, &op);
  r = qcow2_flush (g->image, &g->host.io, &err);
  /* A commit's writes have room reserved. */
  CHECK (r == 0 || err.kind != QCOW2_ERR_NO_SPACE || g->commits_lack_space);
  ledger_end (&g->ledger, index, host_tick (&g->host),
              succeeded (g, r, &err));
}

/* One at a time; what a crash has left may be leaked, and never worse. */
static void
do_check (struct guest *g, bool repair)
{
  const struct qcow2_check_options options = {
    .repair = repair ? QCOW2_REPAIR_LEAKS : QCOW2_REPAIR_NONE,
  };
  struct qcow2_check_result result;
  struct qcow2_error err;
  const int r = qcow2_check_live (g->image, &g->host.io, &options, &result,
                                  &err);

  if (r == -1 && err.kind == QCOW2_ERR_BUSY)
    return;
  if (succeeded (g, r, &err))
    unit_check (result.corruptions == 0 && (!repair || result.leaks == 0),
                __FILE__, __LINE__, "%s, seed %" PRIu64 ": %" PRIu64
                " corruptions, %" PRIu64 " leaks", g->w->name, g->seed,
                result.corruptions, result.leaks);
}

void
guest_request (struct guest *g, struct rng *rng)
{
  const struct workload *const w = g->w;
  const bool fua = rng_below (rng, 100) < w->fua_percent;
  uint64_t kind = rng_below (rng, w->write + w->zero + w->trim + w->read +
                             w->flush + w->idle + w->check);

  if (kind < w->write) {
    const bool zeros =
      w->zeros_percent > 0 && rng_below (rng, 100) < w->zeros_percent;
    const bool pack =
      w->pack_percent > 0 && rng_below (rng, 100) < w->pack_percent;

    do_write (g, choose_range (g, rng), fua, zeros, pack);
    return;
  }
  kind -= w->write;
  if (kind < w->zero) {
    static const unsigned flags[] = {
      0, QCOW2_ZERO_MAY_TRIM, QCOW2_ZERO_MAY_TRIM, QCOW2_ZERO_FAST,
      QCOW2_ZERO_FAST | QCOW2_ZERO_MAY_TRIM,
    };

    do_zero (g, choose_range (g, rng), fua, flags[rng_below (rng, 5)]);
    return;
  }
  kind -= w->zero;
  if (kind < w->trim)
    do_trim (g, choose_range (g, rng), fua);
  else if (kind < w->trim + w->read)
    do_read (g, choose_range (g, rng));
  else if (kind >= w->trim + w->read + w->flush + w->idle)
    do_check (g, rng_below (rng, 4) != 0);
  else
    do_flush (g, kind >= w->trim + w->read + w->flush);
}

/* ---- Clients ----------------------------------------------------------- */

static void
client (void *arg, unsigned nr)
{
  struct guest *const g = arg;
  struct rng rng = { g->seed * 1000 + nr };

  unit_context ("%s, seed %" PRIu64, g->w->name, g->seed);
  for (unsigned i = 0; i < g->w->requests; ++i)
    guest_request (g, &rng);
}

void
guest_run (struct guest *g)
{
  struct threads threads;

  if (g->w->clients <= 1)
    client (g, 0);
  else {
    jitter (g->seed % 2 ? 40 : 0);
    threads_start (&threads, g->w->clients, client, g);
    threads_join (&threads);
    jitter (0);
  }
}

void
guest_read_all (struct guest *g)
{
  do_read (g, (struct range) { 0, g->ledger.nr_sectors });
}

/* ---- Life -------------------------------------------------------------- */

struct guest_files
guest_files_of (struct recipe_image *image)
{
  return (struct guest_files) {
    .image = image->bytes, .size = image->size, .data = image->data,
    .data_size = image->data_size, .disk = image->disk,
    .layers = &image->layers,
  };
}

void
guest_init_data (struct host *h, const struct workload *w, const void *data,
                 uint64_t size)
{
  const uint64_t unit = UINT64_C (64) << 10;
  struct host_spec spec = w->host;
  unsigned char *bytes;

  /* Any thread may use it at any time; it can grow past the end of the disk,
   * or has garbage there.
   */
  spec.in_turn = false;
  spec.room = 0;
  spec.capacity = (w->recipe.disk_size + 2 * unit - 1) / unit * unit;
  if (spec.capacity < size)
    spec.capacity = size;
  bytes = calloc (1, spec.capacity);
  REQUIRE (bytes != NULL);
  memcpy (bytes, data, size);
  host_init (h, &spec, bytes, spec.grows || size > w->recipe.disk_size ?
             size : w->recipe.disk_size);
  h->random = 4711;
  /* A raw data file must not become longer than the disk. */
  h->most = (w->recipe.disk_size + h->io.min_block - 1) / h->io.min_block *
    h->io.min_block;
  free (bytes);
}

static void
note_initial (struct guest *g, uint64_t sector, uint32_t id)
{
  REQUIRE (id != TAG_FOREIGN);
  ledger_initial (&g->ledger, sector, id);
  if (id >= g->ledger.next_id)
    g->ledger.next_id = id + 1;
}

static void
init_ledger (struct guest *g, const unsigned char *disk, uint64_t nr_sectors)
{
  ledger_init (&g->ledger, nr_sectors);
  for (uint64_t i = 0; i < nr_sectors; ++i) {
    const uint32_t id = tag_read (disk + i * SECTOR, i);

    note_initial (g, i, id);
    /* After a crash the data file may have a write whose entry still says
     * zeros.
     */
    if (g->w->recipe.data_raw) {
      const uint32_t raw = tag_read (g->data.bytes + i * SECTOR, i);

      if (raw != id && CHECK_EQ (id, TAG_ZERO))
        note_initial (g, i, raw);
    }
  }
}

void
guest_init (struct guest *g, const struct workload *w, uint64_t seed,
            const struct guest_files *files)
{
  memset (g, 0, sizeof *g);
  g->w = w;
  g->seed = seed;
  g->refcounts = w->refcounts;
  if (w->may_fill)
    g->tolerated |= 1u << QCOW2_ERR_NO_SPACE;
  if (w->host.flaky || w->host.flaky_tables || w->host.bad_flush)
    g->tolerated |= 1u << QCOW2_ERR_IO;
  g->commits_lack_space = w->host.mean > 0;
  host_init (&g->host, &w->host, files->image, files->size);
  g->attach.layers = files->layers;
  if (files->data != NULL) {
    guest_init_data (&g->data, w, files->data, files->data_size);
    host_join (&g->host, &g->data);
    g->attach.data = &g->data.io;
    /* A fault in one of the two files. */
    if (seed % 2)
      g->host.spec.bad_flush = 0;
    else
      g->data.spec.bad_flush = 0;
  }
  init_ledger (g, files->disk, w->recipe.disk_size / SECTOR);
}

void
guest_free (struct guest *g)
{
  if (g->host.data != NULL)
    host_free (&g->data);
  host_free (&g->host);
  ledger_free (&g->ledger);
}

/* An image of version 2 cannot hide the backing image, which ends at this
 * sector.
 */
static uint64_t
stuck_until (const struct guest *g)
{
  const struct recipe *const below = g->w->recipe.below;
  const uint64_t cluster = UINT64_C (1) << g->w->recipe.cluster_bits;

  if (below == NULL || qcow2_get_info (g->image).version > 2)
    return 0;
  return (below->disk_size + cluster - 1) / cluster * cluster / SECTOR;
}

void
guest_open (struct guest *g)
{
  struct qcow2_options options = {
    .writable = true, .discard = g->w->discard,
    .cache_size = g->w->cache_size, .compress = g->w->compress,
    .cluster_cache_size =
      g->w->compress || g->w->pack_percent > 0 ? UINT64_C (1) << 20 : 0,
    .detect_zeroes = g->w->detect_zeroes,
    /* Durable bitmaps are not checked against the file as well. */
    .overlap_check = g->w->bitmaps == QCOW2_BITMAPS_DURABLE
      ? QCOW2_OVERLAP_CACHED : QCOW2_OVERLAP_ALL,
    .bitmaps = g->w->bitmaps, .refcounts = g->refcounts,
  };
  struct qcow2_error err;

  attach_options (&g->attach, &options);
  host_reopen (&g->host);
  g->image = qcow2_open (&g->host.io, &options, &err);
  if (!unit_check (g->image != NULL, __FILE__, __LINE__, "%s: %s",
                   g->w->name, g->image ? "" : err.text))
    exit (unit_finish ());
  if (!unit_check (qcow2_get_info (g->image).writable, __FILE__, __LINE__,
                   "%s: read-only: %s", g->w->name,
                   qcow2_get_info (g->image).why_read_only))
    exit (unit_finish ());
  g->stuck = stuck_until (g);
}

bool
guest_close (struct guest *g, bool end)
{
  const struct guest_op op = { .flush = true, .start = host_tick (&g->host) };
  struct qcow2_stats stats;
  struct qcow2_error err;
  bool ok = true;

  if (end) {
    const size_t index = ledger_begin (&g->ledger, &op);

    ok = succeeded (g, qcow2_end (g->image, &g->host.io, &err), &err);
    ledger_end (&g->ledger, index, host_tick (&g->host), ok);
  }
  qcow2_get_stats (g->image, &stats);
  g->shorts = stats.short_commits;
  qcow2_close (g->image);
  g->image = NULL;
  return ok;
}
