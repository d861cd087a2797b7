/* SPDX-License-Identifier: BSD-3-Clause */
/* prefetch.c - background jobs that read ahead.
 *
 * Owns      the jobs and the I/O handles that they borrow.
 * Method    a job maps a guest range, which loads the L2 tables it needs, and
 *           fetches the host ranges, several at a time if its I/O handle
 *           allows.  If not, the range is cut into several jobs, each of which
 *           borrows a handle of its own.  Nothing depends on a job: it may
 *           fail, or never run.
 * Locks     none.  A job keeps its borrowed handle until it ends, and closing
 *           the connection waits for that.
 */
#include "config.h"

#include "read/reader.h"

#include "base/assume.h"
#include "base/bits.h"

#include <stdlib.h>

#define MAX_RUNS 64
#define MAX_PARALLEL 32

/* Guest bytes per job if a job reads one piece after the other. */
#define SERIAL_JOB_BYTES (UINT64_C (2) << 20)

/* How much a request may read ahead while its client waits. */
#define MAX_INLINE (UINT64_C (2) << 20)

struct prefetch {
  struct q2_job job;            /* first: the pool hands out this pointer */
  struct q2_reader *reader;
  struct qcow2_io host;         /* borrowed */
  struct q2_io io;              /* over 'host' */
  uint64_t from, to;            /* guest range */
};

struct fetch {
  struct prefetch *prefetch;
  const struct q2_pieces *pieces;
};

static void
fetch_one (void *arg, size_t i)
{
  const struct fetch *const f = arg;

  q2_fetch_piece (f->prefetch->reader, &f->prefetch->io,
                  &f->pieces->piece[i], QCOW2_IO_DATA);
}

static void
run_data (struct prefetch *p)
{
  struct q2_reader *const r = p->reader;
  struct q2_pieces pieces = { .nr = 0 };
  struct fetch fetch = { p, &pieces };

  while (p->from < p->to) {
    struct q2_run runs[MAX_RUNS];
    struct qcow2_error ignored;
    size_t nr;

    if (q2_map_runs (r->tables, &p->io, p->from, p->to - p->from, runs,
                     MAX_RUNS, &nr, &ignored) == -1) {
      q2_io_note_bug (&p->io, &ignored);
      break;
    }
    q2_gather (runs, nr, true,
               q2_is_worth_widening (r, &p->io, runs, nr),
               q2_io_end (&p->io), &pieces);
    p->from = runs[nr - 1].guest_off + runs[nr - 1].len;
  }
  q2_workers_batch (r->workers, fetch_one, &fetch, pieces.nr,
                    p->host.concurrent ? MAX_PARALLEL : 1);
}

static void
end (struct prefetch *p)
{
  struct qcow2_error why;

  /* No request fails; but see q2_io_note_bug. */
  if (q2_check_end (&why) == -1)
    q2_io_note_bug (&p->io, &why);
  p->host.ops->give_back (&p->host);
  free (p);
}

static void
data_job (struct q2_job *job)
{
  struct prefetch *const p = (struct prefetch *) job;

  run_data (p);
  end (p);
}

static void
tables_job (struct q2_job *job)
{
  struct prefetch *const p = (struct prefetch *) job;

  q2_tables_preload (p->reader->tables, &p->io, p->reader->workers, p->from,
                     p->to - p->from);
  end (p);
}

/* Returns false if no further job can be submitted now. */
static bool
submit (struct q2_reader *r, const struct q2_io *io, uint64_t from,
        uint64_t to, void (*fn) (struct q2_job *))
{
  struct prefetch *p;

  p = malloc (sizeof *p);
  if (p == NULL)
    return false;
  *p = (struct prefetch) {
    .job = { .fn = fn, .group = &r->jobs }, .reader = r, .io = *io,
    .from = from, .to = to,
  };
  if (io->host->ops->borrow (io->host->opaque, &p->host) != 0) {
    free (p);
    return false;
  }
  p->io.host = &p->host;
  if (!q2_workers_submit (r->workers, &p->job)) {
    end (p);
    return false;
  }
  return true;
}

/* Without a handle to borrow the present request has to wait for bytes that
 * the next ones will need; reading them in one piece is still the best choice.
 */
static void
read_ahead_inline (struct q2_reader *r, const struct q2_io *io,
                   uint64_t from, uint64_t to)
{
  struct prefetch p = {
    .reader = r, .host = *io->host, .io = *io, .from = from, .to = to,
  };

  run_data (&p);
}

uint64_t
q2_prefetch_max (const struct q2_reader *r, const struct q2_io *io)
{
  return io->host->ops->borrow ? r->streams.max_window
    : q2_min (r->streams.max_window, MAX_INLINE);
}

uint64_t
q2_prefetch_data (struct q2_reader *r, const struct q2_io *io, uint64_t from,
                  uint64_t to)
{
  const uint64_t step = io->host->concurrent ? to - from : SERIAL_JOB_BYTES;

  if (io->host->ops->borrow == NULL) {
    read_ahead_inline (r, io, from, to);
    return to;
  }
  while (from < to) {
    const uint64_t next = q2_min (from + step, to);

    if (!submit (r, io, from, next, data_job))
      break;
    from = next;
  }
  return from;
}

void
q2_prefetch_tables (struct q2_reader *r, const struct q2_io *io,
                    uint64_t from, uint64_t to)
{
  if (from < to && io->host->ops->borrow &&
      !submit (r, io, from, to, tables_job)) {
    /* A request loads them when it needs them. */
  }
}
