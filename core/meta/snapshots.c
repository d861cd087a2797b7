/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshots.c - walks the snapshot table of an image.
 *
 * Owns      the limit of the whole table, and reading it.
 * Method    an entry can be 130 KiB long and is mostly 70 bytes, so the table
 *           is read through a buffer that is filled up again when less than
 *           the longest entry is left in it.
 * Locks     none.
 */
#include "config.h"

#include "meta/snapshots.h"

#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define BUFFER (2 * Q2_SNAPSHOT_MAX_ENTRY)

struct walk {
  const struct q2_io *io;
  unsigned char *buf;
  uint64_t host_off;            /* of buf[0] */
  uint64_t end;                 /* of what may belong to the table */
  size_t pos, len;              /* of buf: next entry, what is there */
};

/* Fill up the buffer if there may be too little in it for an entry. */
static int
fill (struct walk *w, struct qcow2_error *err)
{
  const size_t left = w->len - w->pos;
  uint64_t from, n;

  if (left >= Q2_SNAPSHOT_MAX_ENTRY)
    return 0;
  memmove (w->buf, w->buf + w->pos, left);
  w->host_off += w->pos;
  w->pos = 0;
  w->len = left;
  from = w->host_off + left;
  n = from < w->end ? q2_min (BUFFER - left, w->end - from) : 0;
  if (n > 0 && q2_io_read (w->io, w->buf + left, n, from, QCOW2_IO_HEADER,
                           err) == -1)
    return -1;
  w->len += n;
  return 0;
}

static int
walk_table (struct walk *w, const struct q2_header *h,
            const struct q2_geometry *geo, q2_snapshot_fn fn, void *opaque,
            struct qcow2_error *err)
{
  for (uint32_t i = 0; i < h->nr_snapshots; ++i) {
    struct q2_snapshot s;

    if (fill (w, err) == -1)
      return -1;
    if (q2_snapshot_decode (geo, w->buf + w->pos, w->len - w->pos,
                            w->host_off + w->pos, &s, err) == -1 ||
        fn (opaque, &s, w->host_off + w->pos, err) == -1)
      return -1;
    w->pos += s.entry_len;
    assert (w->pos <= w->len);
  }
  return 0;
}

int
q2_snapshots_walk (const struct q2_io *io, const struct q2_header *h,
                   const struct q2_geometry *geo, q2_snapshot_fn fn,
                   void *opaque, uint64_t *ret_bytes,
                   struct qcow2_error *err)
{
  struct walk w = { .io = io, .host_off = h->snapshots_offset };
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
  r = walk_table (&w, h, geo, fn, opaque, err);
  q2_buffer_free (w.buf, BUFFER);
  *ret_bytes = w.host_off + w.pos - h->snapshots_offset;
  return r;
}
