/* SPDX-License-Identifier: BSD-3-Clause */
/* prefetch.c - background jobs that read what will be needed.
 *
 * Owns      the jobs and the borrowed ways to the file they use.
 * Method    a job maps a guest range, which loads the L2 tables it needs,
 *           and fetches the host ranges behind it, several at a time where
 *           its way to the file allows.  Where it does not, the range is
 *           cut into several jobs, each of which borrows a way of its own.
 *           Nothing depends on a job: it may fail, or not be run at all.
 * Locks     none.  A job holds what it has borrowed until it ends, and
 *           whoever closes the connection waits for that.
 */
#include "config.h"

#include "read/reader.h"

#include "base/assume.h"
#include "base/bits.h"

#include <stdlib.h>

#define MAX_RUNS 64
#define MAX_PARALLEL 32

/* Guest bytes per job where each job reads one piece after the other. */
#define SERIAL_JOB_BYTES (UINT64_C (2) << 20)

/* What a request may read ahead while its client waits. */
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

  /* No request fails because of it; but see q2_io_note_bug. */
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

/* Returns false if nothing more can be done in the background now. */
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

/* Without a way of our own the request that is here has to wait for what
 * the next ones will need; reading it in one piece is still the best deal.
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
    /* Then they are loaded when somebody asks. */
  }
}
