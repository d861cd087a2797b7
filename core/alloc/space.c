/* SPDX-License-Identifier: BSD-3-Clause */
/* space.c - where new clusters go, and what becomes free.
 *
 * Owns      the refcounts of an image that is written to, the cursor that
 *           passes over the file in search of free clusters, and what is
 *           reserved for streams.
 * Method    the cursor moves on from claim to claim, so full parts of the
 *           file are looked at once; when it has come to the end of the file
 *           it goes back to the lowest cluster that became free behind it,
 *           and only if there is none the file grows.
 *
 *           A stream is somebody who fills the disk cluster after cluster.
 *           When it comes back for more, a larger window of the file is
 *           reserved for it, so that several streams do not interleave.  A
 *           reservation is only a note here: its refcounts are still 0.
 *
 *           A block of refcounts that is missing is put into the first free
 *           cluster of those it is to cover, so that it covers itself, and
 *           so does a larger refcount table: nothing else has to be
 *           allocated for that.
 * Locks     space.claim_lock: one thread at a time searches, and may wait
 *           for the file to grow or a table to be read; who needs clusters
 *           that are reserved for him does not need it.  space.lock guards
 *           everything, and is not held over I/O.  claim_lock comes first.
 */
#include "config.h"

#include "alloc/space.h"

#include "base/bits.h"
#include "base/error.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#define NR_WINDOWS 16
#define MAX_WINDOW_BYTES (UINT64_C (16) << 20)
#define NONE UINT64_MAX

struct window {
  uint64_t stream;              /* what the next cluster will be for */
  uint64_t start, end;          /* clusters, reserved */
  uint64_t size;                /* as it was claimed */
  bool zero;
  uint64_t last_use;
};

struct q2_space {
  const struct q2_geometry *geo;
  struct q2_overlap *overlap;
  pthread_mutex_t claim_lock;
  pthread_mutex_t lock;
  struct q2_refcounts rc;
  struct window windows[NR_WINDOWS];
  uint64_t clock;               /* for last_use */
  uint64_t cursor;
  uint64_t lowest_freed;        /* behind the cursor; NONE: nothing */
  uint64_t never_used;          /* clusters from here on were never handed
                                   out, and are not in the file as it was */
};

/* ---- Life --------------------------------------------------------------- */

static int
add_blocks (struct q2_space *s, struct qcow2_error *err)
{
  const struct q2_refcounts *const rc = &s->rc;

  for (uint64_t i = 0; i < rc->table_entries; ++i)
    if (rc->table[i] != 0 &&
        q2_overlap_add (s->overlap, rc->table[i], s->geo->cluster_size,
                        Q2_META_REFCOUNT_BLOCK, err) == -1)
      return -1;
  return 0;
}

struct q2_space *
q2_space_new (const struct q2_geometry *geo, const struct q2_header *h,
              struct q2_overlap *overlap, const struct q2_io *io,
              struct qcow2_error *err)
{
  struct q2_space *s = calloc (1, sizeof *s);

  if (s == NULL) {
    q2_fail_nomem (err, "the refcounts");
    return NULL;
  }
  s->geo = geo;
  s->overlap = overlap;
  s->lowest_freed = NONE;
  s->never_used = q2_ceil_shift (q2_io_size (io), geo->cluster_bits);
  pthread_mutex_init (&s->claim_lock, NULL);
  pthread_mutex_init (&s->lock, NULL);
  if (q2_refcounts_init (&s->rc, geo, h, io, err) == -1 ||
      add_blocks (s, err) == -1) {
    q2_space_free (s);
    return NULL;
  }
  return s;
}

void
q2_space_free (struct q2_space *s)
{
  if (s == NULL)
    return;
  q2_refcounts_destroy (&s->rc);
  pthread_mutex_destroy (&s->lock);
  pthread_mutex_destroy (&s->claim_lock);
  free (s);
}

/* ---- Refcounts ---------------------------------------------------------- */

/* Get what a _locked function needs.  Called without a lock. */
static int
load (struct q2_space *s, const struct q2_io *io, const struct q2_need *need,
      struct qcow2_error *err)
{
  struct q2_need_bytes bytes;
  bool ok;

  if (q2_refcounts_read (&s->rc, io, need, &bytes, err) == -1)
    return -1;
  pthread_mutex_lock (&s->lock);
  ok = q2_refcounts_put_locked (&s->rc, &bytes);
  pthread_mutex_unlock (&s->lock);
  return ok ? 0 : Q2_SPACE_COMMIT_FIRST;
}

/* Set the refcounts of a run that is covered to 0 or 1; returns how many of
 * them could be set before something was needed.
 */
static uint64_t
set_run_locked (struct q2_space *s, uint64_t cluster, uint64_t nr,
                uint64_t value, struct q2_need *need)
{
  uint64_t i;

  for (i = 0; i < nr; ++i)
    if (!q2_refcounts_set_locked (&s->rc, cluster + i, value, need))
      break;
  return i;
}

/* The cluster is free again. */
static void
note_freed_locked (struct q2_space *s, uint64_t cluster)
{
  if (cluster < s->cursor)
    s->lowest_freed = q2_min (s->lowest_freed, cluster);
}

/* ---- Windows ------------------------------------------------------------- */

static struct window *
find_window_locked (struct q2_space *s, uint64_t stream)
{
  for (size_t i = 0; i < NR_WINDOWS && stream != Q2_SPACE_NO_STREAM; ++i)
    if (s->windows[i].size > 0 && s->windows[i].stream == stream)
      return &s->windows[i];
  return NULL;
}

static void
drop_window_locked (struct q2_space *s, struct window *w)
{
  if (w->start < w->end)
    note_freed_locked (s, w->start);
  *w = (struct window) { .size = 0 };
}

static struct window *
oldest_window_locked (struct q2_space *s)
{
  struct window *oldest = &s->windows[0];

  for (size_t i = 1; i < NR_WINDOWS; ++i)
    if (s->windows[i].last_use < oldest->last_use)
      oldest = &s->windows[i];
  return oldest;
}

/* If a window begins or lies in [first, first+*nr), cut the run short there;
 * returns where to go on if that leaves nothing, else 0.
 */
static uint64_t
avoid_windows_locked (const struct q2_space *s, uint64_t first, uint64_t *nr)
{
  for (size_t i = 0; i < NR_WINDOWS; ++i) {
    const struct window *const w = &s->windows[i];

    if (w->start >= w->end || w->start >= first + *nr || w->end <= first)
      continue;
    if (w->start <= first)
      return w->end;
    *nr = w->start - first;
  }
  return 0;
}

/* ---- Blocks and tables that are missing ----------------------------------- */

/* Make sure that the clusters can be used for tables: nothing else is there,
 * they are in the file, and, for the first 'zero', read as zeros.
 */
static int
prepare_clusters (struct q2_space *s, const struct q2_io *io,
                  uint64_t cluster, uint64_t nr, uint64_t zero,
                  struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  const uint64_t host_off = cluster << bits;
  bool is_zero;

  if (q2_overlap_check (s->overlap, host_off, nr << bits, Q2_META_NONE, err)
      == -1 ||
      q2_io_grow (io, (cluster + nr) << bits, err) == -1)
    return -1;
  pthread_mutex_lock (&s->lock);
  is_zero = io->host->ops->grow != NULL && cluster >= s->never_used;
  s->never_used = q2_max (s->never_used, cluster + nr);
  pthread_mutex_unlock (&s->lock);
  return is_zero ? 0
    : q2_io_zero (io, zero << bits, host_off, false, QCOW2_IO_REFCOUNT, err);
}

/* How large a refcount table has to become to cover 'cluster', with blocks
 * for that and for the table itself put there.
 */
struct growth {
  uint64_t first_block, blocks; /* that are new */
  uint64_t table_clusters;
};

static struct growth
plan_growth (const struct q2_space *s, uint64_t cluster)
{
  const unsigned bits = s->geo->refblock_bits;
  const uint64_t per_cluster = s->geo->cluster_size / 8;
  struct growth g = {
    .first_block = cluster >> bits, .blocks = 1,
    .table_clusters = s->rc.table_clusters + s->rc.table_clusters / 2 + 1,
  };

  for (;;) {
    const uint64_t last = cluster + g.blocks + g.table_clusters - 1;
    const uint64_t blocks = (last >> bits) - g.first_block + 1;
    const uint64_t clusters =
      q2_max (g.table_clusters, ((last >> bits) + per_cluster) / per_cluster);

    if (blocks == g.blocks && clusters == g.table_clusters)
      return g;
    g.blocks = blocks;
    g.table_clusters = clusters;
  }
}

static int
fail_too_large (uint64_t cluster, unsigned bits, struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_NO_SPACE, cluster << bits,
                  "no space left: a refcount table that covers offset 0x%"
                  PRIx64 " would be larger than the format allows",
                  cluster << bits);
}

static int
grow_table (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
            struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  const struct growth g = plan_growth (s, cluster);
  const uint64_t used = g.blocks + g.table_clusters;
  const uint64_t table_off = (cluster + g.blocks) << bits;
  int r;

  if (g.table_clusters << bits > Q2_MAX_REFCOUNT_TABLE_BYTES)
    return fail_too_large (cluster, bits, err);
  if (prepare_clusters (s, io, cluster, used, g.blocks, err) == -1 ||
      q2_overlap_add (s->overlap, cluster << bits, g.blocks << bits,
                      Q2_META_REFCOUNT_BLOCK, err) == -1 ||
      q2_overlap_add (s->overlap, table_off, g.table_clusters << bits,
                      Q2_META_REFCOUNT_TABLE, err) == -1)
    return -1;
  pthread_mutex_lock (&s->lock);
  if (!q2_refcounts_has_room_locked (&s->rc, used))
    r = Q2_SPACE_COMMIT_FIRST;
  else {
    r = q2_refcounts_move_table_locked (&s->rc, table_off,
                                        (uint32_t) g.table_clusters, err);
    if (r == 0)
      q2_refcounts_cover_locked (&s->rc, g.first_block, g.blocks,
                                 cluster << bits, cluster, used);
  }
  pthread_mutex_unlock (&s->lock);
  if (r != 0)
    q2_overlap_remove (s->overlap, cluster << bits, used << bits);
  return r;
}

/* Make a refcount block that covers the cluster, and put it there. */
static int
cover (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
       struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  const uint64_t block = cluster >> s->geo->refblock_bits;
  int r = 0;

  /* Only who holds claim_lock changes the size of the table. */
  if (block >= s->rc.table_entries)
    return grow_table (s, io, cluster, err);
  if (prepare_clusters (s, io, cluster, 1, 1, err) == -1 ||
      q2_overlap_add (s->overlap, cluster << bits, UINT64_C (1) << bits,
                      Q2_META_REFCOUNT_BLOCK, err) == -1)
    return -1;
  pthread_mutex_lock (&s->lock);
  if (!q2_refcounts_has_room_locked (&s->rc, 1))
    r = Q2_SPACE_COMMIT_FIRST;
  else
    q2_refcounts_cover_locked (&s->rc, block, 1, cluster << bits, cluster, 1);
  pthread_mutex_unlock (&s->lock);
  if (r != 0)
    q2_overlap_remove (s->overlap, cluster << bits, UINT64_C (1) << bits);
  return r;
}

/* ---- Searching ------------------------------------------------------------ */

/* Clusters from here on cannot be used: past 2^56, or not in a file that
 * cannot grow.
 */
static uint64_t
limit (const struct q2_space *s, const struct q2_io *io)
{
  const uint64_t bytes = io->host->ops->grow
    ? UINT64_C (1) << 56 : q2_min (q2_io_end (io), UINT64_C (1) << 56);

  return bytes >> s->geo->cluster_bits;
}

enum look { FOUND, GO_ON, UNCOVERED, NEED, NOTHING };

struct search {
  uint64_t pos;                 /* where to look next */
  uint64_t want;
  uint64_t limit;
  uint64_t file_end;            /* clusters of the file as it is */
  uint64_t first, nr;           /* what was found */
  struct q2_need need;
};

static enum look
look_locked (struct q2_space *s, struct search *f)
{
  uint64_t one = 1, next;

  /* Before the file grows, what became free behind us. */
  if (f->pos >= q2_min (f->file_end, f->limit) && s->lowest_freed != NONE) {
    f->pos = s->lowest_freed;
    s->lowest_freed = NONE;
    return GO_ON;
  }
  if (f->pos >= f->limit)
    return NOTHING;
  next = avoid_windows_locked (s, f->pos, &one);
  if (next != 0) {
    f->pos = next;
    return GO_ON;
  }
  if (q2_refcounts_is_uncovered_locked (&s->rc, f->pos))
    return UNCOVERED;
  if (!q2_refcounts_find_locked (&s->rc, f->pos, f->want, &f->first, &f->nr,
                                 &f->need))
    return NEED;
  f->pos = f->first;
  if (f->nr == 0 || f->first >= f->limit)
    return GO_ON;
  f->nr = q2_min (f->nr, f->limit - f->first);
  next = avoid_windows_locked (s, f->first, &f->nr);
  if (next != 0) {
    f->pos = next;
    return GO_ON;
  }
  return FOUND;
}

/* Find a free run; the cursor moves behind it. */
static int
search (struct q2_space *s, const struct q2_io *io, struct search *f,
        struct qcow2_error *err)
{
  for (;;) {
    enum look look;
    int r = 0;

    f->file_end = q2_io_size (io) >> s->geo->cluster_bits;
    pthread_mutex_lock (&s->lock);
    look = look_locked (s, f);
    s->cursor = look == FOUND ? f->first + f->nr : f->pos;
    pthread_mutex_unlock (&s->lock);
    switch (look) {
    case FOUND:
      return 0;
    case GO_ON:
      break;
    case UNCOVERED:
      r = cover (s, io, f->pos, err);
      break;
    case NEED:
      r = load (s, io, &f->need, err);
      break;
    case NOTHING:
      return q2_fail (err, QCOW2_ERR_NO_SPACE, QCOW2_NO_OFFSET,
                      "no space left: all %" PRIu64 " clusters that the "
                      "image file has room for are in use", f->limit);
    }
    if (r != 0)
      return r;
  }
}

/* The run is to be used: it is no metadata and lies in the file. */
static int
check_run (struct q2_space *s, const struct q2_io *io,
           const struct search *f, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;

  if (q2_overlap_check (s->overlap, f->first << bits, f->nr << bits,
                        Q2_META_NONE, err) == -1)
    return -1;
  return q2_io_grow (io, (f->first + f->nr) << bits, err);
}

/* Put what others have reserved and not used yet back. */
static bool
drop_windows (struct q2_space *s)
{
  bool any = false;

  pthread_mutex_lock (&s->lock);
  for (size_t i = 0; i < NR_WINDOWS; ++i) {
    any |= s->windows[i].start < s->windows[i].end;
    drop_window_locked (s, &s->windows[i]);
  }
  pthread_mutex_unlock (&s->lock);
  return any;
}

static int
find_run (struct q2_space *s, const struct q2_io *io, struct search *f,
          struct qcow2_error *err)
{
  int r;

  pthread_mutex_lock (&s->lock);
  f->pos = s->cursor;
  pthread_mutex_unlock (&s->lock);
  f->limit = limit (s, io);
  r = search (s, io, f, err);
  if (r == 0)
    r = check_run (s, io, f, err);
  return r;
}

/* The same, and if there is no space: with less, and in what is reserved. */
static int
find_run_somehow (struct q2_space *s, const struct q2_io *io,
                  struct search *f, uint64_t least, struct qcow2_error *err)
{
  int r = find_run (s, io, f, err);

  if (r == -1 && err->kind == QCOW2_ERR_NO_SPACE &&
      (drop_windows (s) || f->want > least)) {
    /* Perhaps the file could not grow that far, or not at all. */
    pthread_mutex_lock (&s->lock);
    if (f->nr > 0)
      note_freed_locked (s, f->first);
    pthread_mutex_unlock (&s->lock);
    f->want = least;
    r = find_run (s, io, f, err);
  }
  return r;
}

/* How much to reserve: what is asked for, and more and more for streams. */
static uint64_t
choose_size_locked (struct q2_space *s, uint64_t stream, uint64_t want)
{
  const struct window *const w = find_window_locked (s, stream);
  const uint64_t max = MAX_WINDOW_BYTES >> s->geo->cluster_bits;

  return w ? q2_max (want, q2_min (2 * w->size, max)) : want;
}

/* Reserve a window for the stream.  Called with claim_lock. */
static int
claim (struct q2_space *s, const struct q2_io *io, uint64_t stream,
       uint64_t want, struct qcow2_error *err)
{
  struct search f = { .nr = 0 };
  struct window *w;
  int r;

  pthread_mutex_lock (&s->lock);
  w = find_window_locked (s, stream);
  if (w && w->start < w->end) { /* somebody else has claimed it meanwhile */
    pthread_mutex_unlock (&s->lock);
    return 0;
  }
  f.want = choose_size_locked (s, stream, want);
  pthread_mutex_unlock (&s->lock);
  r = find_run_somehow (s, io, &f, 1, err);
  if (r != 0)
    return r;
  pthread_mutex_lock (&s->lock);
  w = find_window_locked (s, stream);
  if (w == NULL) {
    w = oldest_window_locked (s);
    drop_window_locked (s, w);
  }
  *w = (struct window) {
    .stream = stream, .start = f.first, .end = f.first + f.nr,
    .size = f.nr, .last_use = ++s->clock,
    .zero = io->host->ops->grow != NULL && f.first >= s->never_used,
  };
  s->never_used = q2_max (s->never_used, w->end);
  pthread_mutex_unlock (&s->lock);
  return 0;
}

/* ---- Allocating ------------------------------------------------------------ */

/* Take from the stream's window.  Returns 0 if it has nothing. */
static uint64_t
take_locked (struct q2_space *s, uint64_t stream, uint64_t want,
             struct q2_space_run *ret, struct q2_need *need)
{
  struct window *const w = find_window_locked (s, stream);

  ret->nr = 0;
  need->slice_off = NONE;
  if (w == NULL || w->start >= w->end)
    return 0;
  ret->cluster = w->start;
  ret->zero = w->zero;
  ret->nr = set_run_locked (s, w->start, q2_min (want, w->end - w->start), 1,
                            need);
  w->start += ret->nr;
  w->stream += ret->nr;
  w->last_use = ++s->clock;
  return ret->nr;
}

/* Tables have a window of their own, under a number no cluster has. */
#define TABLES (Q2_SPACE_NO_STREAM - 1)

int
q2_space_alloc (struct q2_space *s, const struct q2_io *io, uint64_t stream,
                uint64_t want, struct q2_space_run *ret,
                struct qcow2_error *err)
{
  const uint64_t id = stream == Q2_SPACE_NO_STREAM ? TABLES : stream;
  int r = 0;

  while (r == 0) {
    struct q2_need need;

    pthread_mutex_lock (&s->lock);
    take_locked (s, id, want, ret, &need);
    pthread_mutex_unlock (&s->lock);
    if (ret->nr > 0)
      return 0;
    if (need.slice_off != NONE) {
      r = load (s, io, &need, err);
      continue;
    }
    pthread_mutex_lock (&s->claim_lock);
    r = claim (s, io, id, want, err);
    pthread_mutex_unlock (&s->claim_lock);
  }
  return r;
}

void
q2_space_undo (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
               uint64_t nr)
{
  struct qcow2_error ignored;

  while (nr > 0) {
    struct q2_need need;
    uint64_t n;

    pthread_mutex_lock (&s->lock);
    n = set_run_locked (s, cluster, nr, 0, &need);
    if (n > 0)
      note_freed_locked (s, cluster);
    pthread_mutex_unlock (&s->lock);
    if (n == 0 && load (s, io, &need, &ignored) != 0)
      return;
    cluster += n;
    nr -= n;
  }
}

/* ---- Releasing -------------------------------------------------------------- */

/* How many clusters from the start of the run have the same refcount as the
 * first, which goes to *ret_value.
 */
static uint64_t
count_alike_locked (struct q2_space *s, const struct q2_free_run *run,
                    uint64_t *ret_value, struct q2_need *need)
{
  uint64_t i, value;

  if (!q2_refcounts_get_locked (&s->rc, run->cluster, ret_value, need))
    return 0;
  for (i = 1; i < run->nr; ++i) {
    struct q2_need ignored;

    if (!q2_refcounts_get_locked (&s->rc, run->cluster + i, &value, &ignored)
        || value != *ret_value)
      break;
  }
  return i;
}

/* Set them, all or none of what is returned; see set_run_locked. */
static uint64_t
lower_locked (struct q2_space *s, uint64_t cluster, uint64_t nr,
              uint64_t value, struct q2_need *need)
{
  const uint64_t n = set_run_locked (s, cluster, nr, value, need);

  if (n > 0 && value == 0)
    note_freed_locked (s, cluster);
  return n;
}

/* Release the start of a run and take it off. */
static int
release_some (struct q2_space *s, const struct q2_io *io,
              struct q2_free_run *run, bool trim, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  struct q2_need need;
  uint64_t n, value;

  pthread_mutex_lock (&s->lock);
  n = count_alike_locked (s, run, &value, &need);
  pthread_mutex_unlock (&s->lock);
  if (n == 0)
    return load (s, io, &need, err);
  /* Nobody can have use for the bytes: nothing points to the clusters, and
   * as their refcounts are not 0 they are not handed out.
   */
  if (value == 1 && trim)
    q2_io_trim (io, n << bits, run->cluster << bits);
  if (value > 0) {
    pthread_mutex_lock (&s->lock);
    n = lower_locked (s, run->cluster, n, value - 1, &need);
    pthread_mutex_unlock (&s->lock);
    if (n == 0)
      return load (s, io, &need, err);
  }
  run->cluster += n;
  run->nr -= n;
  return 0;
}

int
q2_space_release (struct q2_space *s, const struct q2_io *io,
                  struct q2_frees *frees, bool trim, struct qcow2_error *err)
{
  int r = 0;

  while (r == 0 && frees->nr > 0) {
    struct q2_free_run *const run = &frees->runs[frees->nr - 1];

    r = release_some (s, io, run, trim, err);
    if (run->nr == 0)
      frees->nr--;
  }
  return r;
}

int
q2_space_find_end (struct q2_space *s, const struct q2_io *io, uint64_t min,
                   uint64_t *ret_end, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  uint64_t c = q2_ceil_shift (q2_io_size (io), bits);

  drop_windows (s);
  while (c << bits > min) {
    struct q2_need need;
    uint64_t value;
    bool known;
    int r;

    pthread_mutex_lock (&s->lock);
    known = q2_refcounts_get_locked (&s->rc, c - 1, &value, &need);
    pthread_mutex_unlock (&s->lock);
    if (!known) {
      r = load (s, io, &need, err);
      if (r != 0)
        return r;
    }
    else if (value > 0)
      break;
    else
      c--;
  }
  *ret_end = q2_max (min, c << bits);
  return 0;
}

bool
q2_space_is_uncovered (struct q2_space *s, uint64_t cluster)
{
  bool uncovered;

  pthread_mutex_lock (&s->lock);
  uncovered = q2_refcounts_is_uncovered_locked (&s->rc, cluster);
  pthread_mutex_unlock (&s->lock);
  return uncovered;
}

/* ---- Commit ------------------------------------------------------------------ */

bool
q2_space_is_pressed (struct q2_space *s)
{
  return q2_cache_nr_dirty (s->rc.cache) >
    q2_cache_capacity (s->rc.cache) / 4;
}

bool
q2_space_is_dirty (struct q2_space *s)
{
  bool dirty;

  pthread_mutex_lock (&s->lock);
  dirty = q2_refcounts_is_dirty_locked (&s->rc);
  pthread_mutex_unlock (&s->lock);
  return dirty;
}

int
q2_space_gather (struct q2_space *s, struct q2_refcounts_dirty *d,
                 struct qcow2_error *err)
{
  int r;

  pthread_mutex_lock (&s->lock);
  r = q2_refcounts_gather_locked (&s->rc, d, err);
  pthread_mutex_unlock (&s->lock);
  return r;
}

int
q2_space_write (struct q2_space *s, const struct q2_refcounts_dirty *d,
                const struct q2_io *io, struct qcow2_error *err)
{
  return q2_refcounts_write (&s->rc, d, io, err);
}

int
q2_space_write_links (struct q2_space *s, const struct q2_refcounts_dirty *d,
                      const struct q2_io *io, struct qcow2_error *err)
{
  return q2_refcounts_write_links (&s->rc, d, io, err);
}

void
q2_space_end_gather (struct q2_space *s, struct q2_refcounts_dirty *d,
                     bool written, struct q2_frees *frees)
{
  struct q2_refcounts *const rc = &s->rc;

  pthread_mutex_lock (&s->lock);
  for (unsigned i = 0; written && i < d->nr_old; ++i) {
    const uint64_t off = rc->old[i].host_off;
    const uint32_t nr = rc->old[i].clusters;

    q2_overlap_remove (s->overlap, off, (uint64_t) nr << s->geo->cluster_bits);
    if (q2_frees_reserve (frees, 1))
      q2_frees_add (frees, off >> s->geo->cluster_bits, nr);
  }
  if (written) {
    for (unsigned i = d->nr_old; i < rc->nr_old; ++i)
      rc->old[i - d->nr_old] = rc->old[i];
    rc->nr_old -= d->nr_old;
  }
  q2_refcounts_end_gather_locked (rc, d, written);
  pthread_mutex_unlock (&s->lock);
}
