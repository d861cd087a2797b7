/* SPDX-License-Identifier: BSD-3-Clause */
/* loads.c - brings missing slices into the table cache.
 *
 * Owns      the list of loads in flight.
 * Method    a miss registers its host range as a load, reads outside all
 *           locks, then inserts.  A thread that misses bytes of a
 *           registered range waits for that load and looks again; after a
 *           failed or useless wait it reads for itself, so one
 *           connection's broken backend never fails another's request and
 *           nobody can wait for ever.
 * Locks     loads.lock guards the list of loads and is never held over
 *           I/O; it is taken before shard.lock, never after.
 */
#include "config.h"

#include "meta/cache_impl.h"

#include "base/assume.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The load in flight that overlaps the range, or NULL. */
static const struct q2_load *
find_load_locked (const struct q2_cache *c, uint64_t start, uint64_t end)
{
  const struct q2_load *l;

  q2_mutex_check_held (&c->loads.lock);
  for (l = c->loads.first; l != NULL; l = l->next)
    if (l->start < end && start < l->end)
      break;
  return l;
}

/* Wait for the load in flight that overlaps the range, if there is one, but
 * not for any that starts later: if the slice is not there afterwards, that
 * load failed (or the cache is so small that the slice is gone again) and
 * the caller's own read is the better bet.
 */
static void
wait_for_load_locked (struct q2_cache *c, uint64_t start, uint64_t end)
{
  const struct q2_load *l = find_load_locked (c, start, end);
  uint64_t id;

  q2_mutex_check_held (&c->loads.lock);
  if (l == NULL)
    return;
  id = l->id;
  for (;;) {
    for (l = c->loads.first; l != NULL && l->id != id; l = l->next)
      ;
    if (l == NULL)
      return;
    q2_cond_wait (&c->loads.done, &c->loads.lock);
  }
}

static void
begin_load_locked (struct q2_cache *c, struct q2_load *load)
{
  q2_mutex_check_held (&c->loads.lock);
  load->id = ++c->loads.last_id;
  load->next = c->loads.first;
  c->loads.first = load;
}

/* Returns whether what it has read is good. */
static bool
end_load (struct q2_cache *c, struct q2_load *load)
{
  bool spoiled;

  q2_mutex_lock (&c->loads.lock);
  spoiled = load->spoiled;
  for (struct q2_load **link = &c->loads.first;; link = &(*link)->next)
    if (*link == load) {
      *link = load->next;
      break;
    }
  pthread_cond_broadcast (&c->loads.done);
  q2_mutex_unlock (&c->loads.lock);
  return !spoiled;
}

void
q2_cache_begin_load (struct q2_cache *c, struct q2_load *load)
{
  load->spoiled = load->scan = false;
  q2_mutex_lock (&c->loads.lock);
  begin_load_locked (c, load);
  q2_mutex_unlock (&c->loads.lock);
}

bool
q2_cache_end_load (struct q2_cache *c, struct q2_load *load)
{
  return end_load (c, load);
}

/* Keep a slice that a load has brought, unless it is out of date. */
static void
keep (struct q2_cache *c, const struct q2_load *load, uint64_t host_off,
      const void *slice)
{
  q2_mutex_lock (&c->loads.lock);
  if (!load->spoiled) {
    struct q2_shard *shard;

    q2_cache_lock_or_insert (c, host_off, slice, load->scan, &shard);
    q2_mutex_unlock (&shard->lock);
  }
  q2_mutex_unlock (&c->loads.lock);
}

/* Read the range of the load and keep it; copy out what the caller wants,
 * which starts at 'skip'.
 */
static int
do_load (struct q2_cache *c, const struct q2_io *io,
         const struct q2_load *load, size_t skip, void *buf, size_t want,
         struct qcow2_error *err)
{
  const size_t len = load->end - load->start;
  unsigned char small[4096];
  Q2_CLEANUP_FREE unsigned char *large = NULL;
  unsigned char *bytes = small;

  if (len > sizeof small) {
    bytes = large = malloc (len);
    if (large == NULL)
      return q2_fail_nomem (err, "reading an L2 table");
  }
  if (q2_io_read (io, bytes, len, load->start, QCOW2_IO_L2, err) == -1)
    return -1;
  for (size_t i = 0; i < len; i += c->slice_size)
    keep (c, load, load->start + i, bytes + i);
  if (want > 0)
    memcpy (buf, bytes + skip, want);
  return 0;
}

/* Where a load has failed, which may be what is next to what was wanted, none
 * is of more than the slice that is wanted now.
 */
static void
avoid_bad_locked (const struct q2_cache *c, uint64_t slice_off,
                  struct q2_load *load)
{
  q2_mutex_check_held (&c->loads.lock);
  if (load->start >= c->loads.bad_end || load->end <= c->loads.bad_start)
    return;
  load->start = slice_off;
  load->end = slice_off + c->slice_size;
}

static void
note_bad (struct q2_cache *c, const struct q2_load *load)
{
  if (load->end - load->start <= c->slice_size)
    return;
  q2_mutex_lock (&c->loads.lock);
  c->loads.bad_start = load->start;
  c->loads.bad_end = load->end;
  q2_mutex_unlock (&c->loads.lock);
}

/* The slice is missing: wait for it or load it.  Returns 1 if what was read
 * is out of date.  *ret_wide: more was read than the slice.
 */
static int
read_missing (struct q2_cache *c, const struct q2_io *io, uint64_t host_off,
              size_t skip, void *buf, size_t len, struct q2_cache_span span,
              bool *ret_wide, struct qcow2_error *err)
{
  const uint64_t slice_off = host_off - skip;
  struct q2_load load = {
    .start = slice_off - span.behind, .end = slice_off + span.ahead,
    .scan = span.scan,
  };
  int r;

  q2_mutex_lock (&c->loads.lock);
  c->loads.misses++;
  wait_for_load_locked (c, slice_off, slice_off + c->slice_size);
  if (q2_cache_copy_out (c, host_off, skip, buf, len, span.scan)) {
    q2_mutex_unlock (&c->loads.lock);
    return 0;
  }
  avoid_bad_locked (c, slice_off, &load);
  *ret_wide = load.end - load.start > c->slice_size;
  begin_load_locked (c, &load);
  q2_mutex_unlock (&c->loads.lock);

  r = do_load (c, io, &load, slice_off - load.start + skip, buf, len, err);
  if (r == -1 && err->errnum == EIO)
    note_bad (c, &load);
  if (!end_load (c, &load) && r == 0)
    return 1;
  return r;
}

int
q2_cache_read (struct q2_cache *c, const struct q2_io *io, uint64_t host_off,
               size_t skip, void *buf, size_t len, struct q2_cache_span span,
               struct qcow2_error *err)
{
  bool wide;
  int r;

  if (!q2_assume (span.ahead >= c->slice_size &&
                  span.behind <= host_off - skip &&
                  span.behind + span.ahead <= Q2_CACHE_MAX_LOAD &&
                  skip + len <= c->slice_size, err))
    return -1;
  do {
    if (q2_cache_copy_out (c, host_off, skip, buf, len, span.scan))
      return 0;
    wide = false;
    r = read_missing (c, io, host_off, skip, buf, len, span, &wide, err);
    span.behind = 0;
    span.ahead = c->slice_size;
    /* What cannot be read may be something else. */
  } while (r == 1 || (r == -1 && wide && err->errnum == EIO));
  return r;
}

void
q2_cache_preload (struct q2_cache *c, const struct q2_io *io,
                  uint64_t host_off, size_t len, bool scan)
{
  struct q2_load load = {
    .start = host_off, .end = host_off + len, .scan = scan
  };
  struct qcow2_error ignored;
  bool busy;

  if (!q2_check (len > 0 && len <= Q2_CACHE_MAX_LOAD &&
                 len % c->slice_size == 0))
    return;
  q2_mutex_lock (&c->loads.lock);
  /* Somebody may have loaded it since the caller looked. */
  busy = find_load_locked (c, load.start, load.end) != NULL ||
    q2_cache_contains (c, host_off);
  if (!busy)
    begin_load_locked (c, &load);
  q2_mutex_unlock (&c->loads.lock);
  if (busy)
    return;
  /* The readers who waited will try for themselves. */
  if (do_load (c, io, &load, 0, NULL, 0, &ignored) == -1)
    q2_io_note_bug (io, &ignored);
  end_load (c, &load);
}
