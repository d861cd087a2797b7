/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_tables.c - reads tables of 64 bit entries.
 *
 * Owns      in which pieces tables are read, and that what the host calls a
 *           hole is not.
 * Method    work has a bound that goes with what the file has: a file with
 *           holes can have terabytes of tables in a few KiB, so once some have
 *           been read the host is asked what is a hole.  In a check a piece
 *           that cannot be read is left out, and said so; a small one.
 * Locks     none; see recount.c.
 */
#include "config.h"

#include "check/walk.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/error.h"

bool
q2_walk_asks (const struct q2_walk *w)
{
  return w->believe_holes && w->table_bytes > Q2_WALK_MANY_BYTES &&
    w->io->host->ops->extents != NULL;
}

void
q2_walk_next_data (struct q2_walk *w, uint64_t host_off, uint64_t end,
                   uint64_t *ret_start, uint64_t *ret_end)
{
  const enum q2_fetched fetched =
    w->fetch ? q2_fetch_find (w->fetch, host_off, end - host_off)
    : Q2_FETCHED_NOT;

  *ret_start = host_off;
  *ret_end = end;
  if (q2_walk_asks (w)) {
    if (fetched == Q2_FETCHED_HOLE)
      *ret_start = end;
    else if (fetched == Q2_FETCHED_NOT)
      q2_io_next_data (w->io, host_off, end, ret_start, ret_end);
    q2_work_allow (&w->work,
                   (*ret_end - *ret_start) * Q2_RECOUNT_PAID_BYTE);
  }
  w->table_bytes += *ret_end - host_off;
}

int
q2_walk_read (struct q2_walk *w, uint64_t len, uint64_t host_off,
              enum qcow2_io_class class, struct qcow2_error *err)
{
  if (!q2_assume (len <= w->buf_size, err) ||
      q2_work_do (&w->work, len / 8, err) == -1)
    return -1;
  if (w->fetch != NULL && q2_fetch_copy (w->fetch, w->buf, len, host_off))
    return 0;
  return q2_io_read (w->io, w->buf, len, host_off, class, err);
}

/* [host_off, end) could not be read as a whole: which of its pieces cannot is
 * to be told.
 */
static int
walk_pieces (struct q2_walk *w, uint64_t host_off, uint64_t end,
             const struct q2_walk_use *use, struct qcow2_error *err)
{
  unsigned failures = 0;        /* one after the other */
  int r = 0;

  while (host_off < end && r == 0) {
    const uint64_t n = failures < Q2_WALK_MAX_FAILURES
      ? q2_min (end - host_off, use->piece) : end - host_off;

    if (q2_walk_read (w, n, host_off, use->class, err) == 0) {
      r = use->fn (w, host_off, n, use->opaque, err);
      failures = 0;
    }
    else {
      r = q2_walk_skip (w, QCOW2_FINDING_UNREADABLE, err);
      ++failures;
    }
    host_off += n;
  }
  return r;
}

int
q2_walk_range (struct q2_walk *w, uint64_t len, uint64_t host_off,
               const struct q2_walk_use *use, struct qcow2_error *err)
{
  if (q2_walk_read (w, len, host_off, use->class, err) == 0)
    return use->fn (w, host_off, len, use->opaque, err);
  return w->findings != NULL && len > use->piece && q2_is_medium_fault (err)
    ? walk_pieces (w, host_off, host_off + len, use, err)
    : q2_walk_skip (w, QCOW2_FINDING_UNREADABLE, err);
}

struct entries {
  q2_walk_entry_fn fn;
  void *opaque;
};

/* Of a piece of the table at w->table_off. */
static int
use_entries (struct q2_walk *w, uint64_t host_off, uint64_t len, void *opaque,
             struct qcow2_error *err)
{
  const struct entries *const e = opaque;
  const uint64_t table_off = w->table_off;

  for (uint64_t i = 0; i < len / 8; ++i) {
    const uint64_t entry = load_be64 (w->buf + 8 * i);

    if (entry == 0)
      continue;
    q2_work_allow (&w->work, Q2_RECOUNT_PAID_ENTRY);
    w->index = (host_off - table_off) / 8 + i;
    if (e->fn (w, entry, e->opaque, err) == -1)
      return -1;
  }
  return 0;
}

/* Of what cannot be read as a whole. */
#define SMALL_PIECE UINT64_C (4096)

static int
walk_data (struct q2_walk *w, uint64_t host_off, uint64_t end,
           enum qcow2_io_class class, q2_walk_entry_fn fn, void *opaque,
           struct qcow2_error *err)
{
  struct entries entries = { fn, opaque };
  const struct q2_walk_use use = {
    .piece = SMALL_PIECE, .class = class, .fn = use_entries,
    .opaque = &entries,
  };

  while (host_off < end) {
    const uint64_t n = q2_min (end - host_off, Q2_WALK_PIECE);

    if (q2_walk_range (w, n, host_off, &use, err) == -1)
      return -1;
    host_off += n;
  }
  return 0;
}

int
q2_walk_entries (struct q2_walk *w, uint64_t host_off, uint64_t len,
                 enum qcow2_io_class class, q2_walk_entry_fn fn,
                 void *opaque, struct qcow2_error *err)
{
  const uint64_t file_end = q2_align_up (w->file_size, 8);
  const uint64_t end = q2_min (host_off + len, file_end);
  int r = 0;

  w->table_off = host_off;
  while (host_off < end && r == 0) {
    uint64_t start, stop;

    /* Even a hole costs a question. */
    if (q2_work_do (&w->work, Q2_RECOUNT_CLUSTER, err) == -1)
      return -1;
    q2_walk_next_data (w, host_off, end, &start, &stop);
    start = q2_align_down (start, 8);
    stop = q2_min (q2_align_up (stop, 8), end);
    if (!q2_assume (start >= host_off && start <= stop && stop > host_off,
                    err))
      return -1;
    w->hole_bytes += start - host_off;
    r = walk_data (w, start, stop, class, fn, opaque, err);
    host_off = stop;
  }
  w->table_off = QCOW2_NO_OFFSET;
  return r;
}
