/* SPDX-License-Identifier: BSD-3-Clause */
/* gather.c - chooses the host ranges to fetch for a set of runs.
 *
 * Owns      the size of requests to a slow host.
 * Method    a run gives exactly its own range, cut into pieces if it is too
 *           long.  If clusters are known to be packed in the order of the
 *           disk, the file is divided into chunks, and the whole chunks with
 *           the runs are fetched: so a chunk is requested once, in any order
 *           of readers.
 * Locks     none; claims of the ahead buffers let only one thread read a
 *           range.
 */
#include "config.h"

#include "read/reader.h"

#include "base/assume.h"
#include "base/bits.h"

/* True if one of the two is compressed, and b follows a in the file, perhaps
 * after a gap for alignment.
 */
static bool
follows (const struct q2_geometry *geo, const struct q2_run *a,
         const struct q2_run *b)
{
  const uint64_t len = a->kind == Q2_RUN_COMPRESSED ? a->csize : a->len;

  if (a->kind < Q2_RUN_DATA || b->kind < Q2_RUN_DATA ||
      (a->kind == Q2_RUN_DATA && b->kind == Q2_RUN_DATA))
    return false;
  return b->host_off > a->host_off &&
    b->host_off - a->host_off < len + geo->cluster_size;
}

bool
q2_is_packed (const struct q2_geometry *geo, const struct q2_run *runs,
              size_t nr)
{
  size_t pairs = 0;

  for (size_t i = 1; i < nr; ++i)
    pairs += follows (geo, &runs[i - 1], &runs[i]);
  return nr > 1 && pairs >= nr / 2;
}

bool
q2_is_worth_widening (struct q2_reader *r, const struct q2_io *io,
                      const struct q2_run *runs, size_t nr)
{
  const struct q2_geometry *const geo = q2_tables_geometry (r->tables);
  const struct q2_run *const last = &runs[nr - 1];
  const uint64_t next = q2_align_down (last->guest_off, geo->cluster_size) +
    geo->cluster_size;
  struct q2_run pair[2] = { *last };
  struct qcow2_error ignored;
  size_t nr_after;

  if (nr > 1)
    return q2_is_packed (geo, runs, nr);
  if (last->kind != Q2_RUN_COMPRESSED || next >= geo->virtual_size)
    return false;
  return q2_map_runs (r->tables, io, next, 1, &pair[1], 1, &nr_after,
                      &ignored) == 0 && q2_is_packed (geo, pair, 2);
}

/* Add [start, end), at most one chunk, to the pieces. */
static void
add_piece (struct q2_pieces *p, uint64_t start, uint64_t end)
{
  struct q2_piece *const last = p->nr ? &p->piece[p->nr - 1] : NULL;

  if (!q2_check (start < end && end - start <= Q2_PIECE_BYTES))
    return;
  if (last && start <= last->end && end >= last->start &&
      q2_max (end, last->end) - q2_min (start, last->start)
      <= Q2_PIECE_BYTES) {
    last->start = q2_min (start, last->start);
    last->end = q2_max (end, last->end);
  }
  else if (p->nr < Q2_MAX_PIECES)
    p->piece[p->nr++] = (struct q2_piece) { start, end };
}

static void
add_range (struct q2_pieces *p, uint64_t start, uint64_t end)
{
  while (start < end) {
    const uint64_t next = q2_min (end, start + Q2_PIECE_BYTES);

    add_piece (p, start, next);
    start = next;
  }
}

void
q2_gather (const struct q2_run *runs, size_t nr, bool data, bool widen,
           uint64_t file_size, struct q2_pieces *p)
{
  for (size_t i = 0; i < nr; ++i) {
    const struct q2_run *const run = &runs[i];
    uint64_t start = run->host_off, end;

    if (run->host_off >= file_size)
      continue;
    if (run->kind == Q2_RUN_COMPRESSED)
      end = run->host_off + run->csize;
    else if (run->kind == Q2_RUN_DATA && data)
      end = run->host_off + run->len;
    else
      continue;
    if (widen) {
      start = q2_align_down (start, Q2_PIECE_BYTES);
      end = q2_align_up (end, Q2_PIECE_BYTES);
    }
    add_range (p, start, q2_min (end, file_size));
  }
}

void
q2_fetch_piece (struct q2_reader *r, const struct q2_io *io,
                const struct q2_piece *piece, enum qcow2_io_class class)
{
  struct q2_ahead_buf *buf;
  uint64_t from = piece->start;

  /* Each byte once: what a write has spoiled meanwhile is left to requests. */
  while ((buf = q2_ahead_claim (r->ahead, from, piece->end))) {
    struct qcow2_error ignored;
    int ret;

    from = buf->end;
    ret = q2_io_read (io, buf->bytes, buf->end - buf->start, buf->start,
                      class, &ignored);
    q2_ahead_commit (r->ahead, buf, ret == 0);
    if (ret == -1) {
      q2_io_note_bug (io, &ignored);
      return;
    }
  }
}
