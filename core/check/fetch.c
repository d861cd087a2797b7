/* SPDX-License-Identifier: BSD-3-Clause */
/* fetch.c - reads tables that a walk is coming to, several at a time.
 *
 * Owns      the threads, and the memory that tables are read into.
 * Method    neighbours become one piece; all pieces are read at once, and the
 *           caller waits for them.  Memory for each piece is taken when it is
 *           read into for the first time.
 * Locks     none: a piece is one thread's until all are there.
 */
#include "config.h"

#include "check/fetch.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/workers.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PIECES 16u
#define PIECE (UINT64_C (512) << 10)

struct piece {
  uint64_t host_off, len;
  enum q2_fetched what;
};

struct q2_fetch {
  const struct q2_io *io;
  struct q2_workers *workers;
  uint64_t size;                /* of a table */
  uint64_t max;                 /* bytes of a piece */
  unsigned char *buf;           /* MAX_PIECES of these */
  bool ask;
  enum qcow2_io_class class;
  unsigned nr;
  struct piece pieces[MAX_PIECES];
};

struct q2_fetch *
q2_fetch_new (const struct q2_io *io, uint64_t size)
{
  const uint64_t max = q2_max (PIECE, size);
  struct qcow2_budget *const budget =
    q2_budget_outermost (q2_io_budget (io));
  struct qcow2_error ignored;
  struct q2_fetch *f;

  if (!io->host->concurrent || !q2_io_is_slow (io) ||
      q2_budget_take (budget, MAX_PIECES * max, "tables", &ignored) == -1)
    return NULL;
  f = calloc (1, sizeof *f);
  if (f != NULL) {
    *f = (struct q2_fetch) { .io = io, .size = size, .max = max };
    f->workers = q2_workers_new (MAX_PIECES - 1, &ignored);
    f->buf = q2_buffer_alloc (MAX_PIECES * max);
    if (f->workers != NULL && f->buf != NULL)
      return f;
    q2_workers_free (f->workers);
    q2_buffer_free (f->buf, MAX_PIECES * max);
    free (f);
  }
  q2_budget_give (budget, MAX_PIECES * max);
  return NULL;
}

void
q2_fetch_free (struct q2_fetch *f)
{
  if (f == NULL)
    return;
  q2_workers_free (f->workers);
  q2_buffer_free (f->buf, MAX_PIECES * f->max);
  q2_budget_give (q2_budget_outermost (q2_io_budget (f->io)),
                  MAX_PIECES * f->max);
  free (f);
}

void
q2_fetch_clear (struct q2_fetch *f)
{
  f->nr = 0;
}

bool
q2_fetch_add (struct q2_fetch *f, uint64_t host_off)
{
  struct piece *const last = f->nr > 0 ? &f->pieces[f->nr - 1] : NULL;

  /* What is not in the file is not to keep another one from being read. */
  if (last != NULL && last->host_off + last->len == host_off &&
      last->len + f->size <= f->max && host_off < q2_io_size (f->io) &&
      q2_io_size (f->io) - host_off >= f->size) {
    last->len += f->size;
    return true;
  }
  if (f->nr == MAX_PIECES)
    return false;
  f->pieces[f->nr++] = (struct piece) { host_off, f->size, Q2_FETCHED_NOT };
  return true;
}

static void
fetch_piece (void *arg, size_t i)
{
  struct q2_fetch *const f = arg;
  struct piece *const p = &f->pieces[i];
  const uint64_t end = p->host_off + p->len;
  uint64_t start = p->host_off, stop = end;
  struct q2_io io = *f->io;
  struct qcow2_error ignored;

  if (!q2_is_aligned (p->host_off, f->size) || end > q2_io_size (f->io))
    return;
  io.patient = false;           /* who needs it tries again */
  if (f->ask)
    q2_io_next_data (&io, p->host_off, end, &start, &stop);
  if (start == end)
    p->what = Q2_FETCHED_HOLE;
  else if (start > p->host_off || stop < end)
    return;                     /* holes are not paid for */
  else if (q2_io_read (&io, f->buf + i * f->max, p->len, p->host_off,
                       f->class, &ignored) == 0)
    p->what = Q2_FETCHED_DATA;
  else
    q2_io_note_bug (&io, &ignored);
}

void
q2_fetch_run (struct q2_fetch *f, bool ask, enum qcow2_io_class class)
{
  f->ask = ask;
  f->class = class;
  q2_workers_batch (f->workers, fetch_piece, f, f->nr, MAX_PIECES);
}

/* The piece that has it; MAX_PIECES: none. */
static size_t
find (const struct q2_fetch *f, uint64_t host_off)
{
  for (size_t i = 0; i < f->nr; ++i)
    if (host_off >= f->pieces[i].host_off &&
        host_off - f->pieces[i].host_off < f->pieces[i].len)
      return i;
  return MAX_PIECES;
}

enum q2_fetched
q2_fetch_find (const struct q2_fetch *f, uint64_t host_off, uint64_t len)
{
  size_t i = find (f, host_off);
  const enum q2_fetched what =
    i < MAX_PIECES ? f->pieces[i].what : Q2_FETCHED_NOT;

  while (i < MAX_PIECES && f->pieces[i].what == what) {
    const uint64_t n = f->pieces[i].len - (host_off - f->pieces[i].host_off);

    if (n >= len)
      return what;
    host_off += n;
    len -= n;
    i = find (f, host_off);
  }
  return Q2_FETCHED_NOT;
}

bool
q2_fetch_copy (const struct q2_fetch *f, void *buf, uint64_t len,
               uint64_t host_off)
{
  unsigned char *to = buf;

  if (q2_fetch_find (f, host_off, len) != Q2_FETCHED_DATA)
    return false;
  for (size_t i = find (f, host_off); len > 0 && q2_check (i < MAX_PIECES);
       i = find (f, host_off)) {
    const uint64_t skip = host_off - f->pieces[i].host_off;
    const uint64_t n = q2_min (len, f->pieces[i].len - skip);

    memcpy (to, f->buf + i * f->max + skip, n);
    to += n;
    host_off += n;
    len -= n;
  }
  return len == 0;
}
