/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshots.c - walks the snapshot table of an image.
 *
 * Owns      the limit of the whole table, and reading it.
 * Method    nothing tells how long the table is: an entry can be 130 KiB long
 *           and is mostly 80 bytes.  It is read through a buffer, as far as
 *           so many entries usually reach, and further when one is not all
 *           there; so a table takes one request to the host for each half
 *           MiB of it.  If that fails the entry may be readable alone.
 * Locks     none.
 */
#include "config.h"

#include "meta/snapshots.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <errno.h>
#include <string.h>

#define BUFFER ((size_t) 512 << 10)

/* More than most entries take, and what to read besides. */
#define USUAL_ENTRY UINT64_C (128)
#define SLACK (UINT64_C (16) << 10)

struct walk {
  const struct q2_io *io;
  unsigned char *buf;
  uint64_t host_off;            /* of buf[0] */
  uint64_t end;                 /* of what may belong to the table */
  size_t pos, len;              /* of buf: next entry, what is there */
  uint32_t entries;             /* from the next one on */
  bool careful;                 /* nothing is read that is not needed */
};

/* Where to stop reading, given that 'need' bytes of the entry are wanted. */
static uint64_t
read_up_to (const struct walk *w, size_t need)
{
  const uint64_t here = w->host_off + w->pos;
  const uint64_t guess =
    w->careful ? 0 : w->entries * USUAL_ENTRY + SLACK;
  const uint64_t to =
    q2_min (here + q2_min (guess, BUFFER), q2_io_end (w->io));

  /* Whole blocks, and nothing that cannot be read, unless it is needed. */
  return q2_min (q2_max (q2_align_down (to, w->io->host->min_block),
                         here + need), w->end);
}

/* More of the file into the buffer. */
static int
read_on (struct walk *w, uint64_t to, struct qcow2_error *err)
{
  const uint64_t from = w->host_off + w->len;

  if (q2_io_read (w->io, w->buf + w->len, to - from, from, QCOW2_IO_HEADER,
                  err) == -1)
    return -1;
  w->len += to - from;
  return 0;
}

/* Have 'need' bytes of the next entry in the buffer, or all there are. */
static int
fill (struct walk *w, size_t need, struct qcow2_error *err)
{
  const size_t left = w->len - w->pos;
  const uint64_t from = w->host_off + w->len;
  const uint64_t to = read_up_to (w, need);
  uint64_t needed;

  if (left >= need || to <= from)
    return 0;
  memmove (w->buf, w->buf + w->pos, left);
  w->host_off += w->pos;
  w->pos = 0;
  w->len = left;
  if (read_on (w, to, err) == 0)
    return 0;
  needed = q2_min (w->host_off + need, w->end);
  if (err->errnum != EIO || needed >= to)
    return -1;
  w->careful = true;
  return read_on (w, needed, err);
}

/* The next entry, whole unless the table ends in it. */
static int
load_entry (struct walk *w, struct qcow2_error *err)
{
  if (fill (w, Q2_SNAPSHOT_FIXED, err) == -1)
    return -1;
  if (w->len - w->pos < Q2_SNAPSHOT_FIXED)
    return 0;
  return fill (w, q2_min (q2_snapshot_entry_len (w->buf + w->pos),
                          Q2_SNAPSHOT_MAX_ENTRY), err);
}

/* Returns what ended it. */
static int
walk_table (struct walk *w, const struct q2_geometry *geo,
            q2_snapshot_fn fn, void *opaque, struct qcow2_error *err)
{
  for (; w->entries > 0; --w->entries) {
    struct q2_snapshot s;
    int r;

    if (load_entry (w, err) == -1 ||
        q2_snapshot_decode (geo, w->buf + w->pos, w->len - w->pos,
                            w->host_off + w->pos, &s, err) == -1)
      return -1;
    r = fn (opaque, &s, w->host_off + w->pos, err);
    if (r != 0)
      return r;
    w->pos += s.entry_len;
    if (!q2_assume (w->pos <= w->len, err))
      return -1;
  }
  return 0;
}

int
q2_snapshots_walk (const struct q2_io *io, const struct q2_header *h,
                   const struct q2_geometry *geo, q2_snapshot_fn fn,
                   void *opaque, uint64_t *ret_bytes,
                   struct qcow2_error *err)
{
  struct walk w = {
    .io = io, .host_off = h->snapshots_offset, .entries = h->nr_snapshots,
  };
  int r;

  *ret_bytes = 0;
  if (h->nr_snapshots == 0)
    return 0;
  /* Past the end of the file there are zeros, but no snapshots; only the
   * padding of the last one.
   */
  w.end = q2_min (q2_align_up (q2_io_size (io), 8), h->snapshots_offset +
                  Q2_SNAPSHOT_MAX_TABLE);
  w.buf = q2_buffer_alloc (BUFFER);
  if (w.buf == NULL)
    return q2_fail_nomem (err, "the snapshot table");
  r = walk_table (&w, geo, fn, opaque, err);
  q2_buffer_free (w.buf, BUFFER);
  *ret_bytes = w.host_off + w.pos - h->snapshots_offset;
  return r == -1 ? -1 : 0;
}
