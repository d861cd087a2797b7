/* SPDX-License-Identifier: BSD-3-Clause */
/* guest.c - what becomes of a guest's write.
 *
 * Owns      the choice for each part of it: zeros, compressed clusters, or
 *           bytes that are written as they are.
 * Method    zeros are looked for in each cluster that the write touches, in
 *           the part that it touches; neighbours that are alike are written
 *           together.  Whole clusters are compressed, if that is wanted, and
 *           what is left at the ends goes the other way.
 * Locks     none.
 */
#include "config.h"

#include "write/writer.h"

#include "base/bits.h"

/* A range of the disk and its new bytes. */
struct part {
  const unsigned char *buf;
  uint64_t start, end;
};

static struct part
cut (const struct part *p, uint64_t start, uint64_t end)
{
  return (struct part) { p->buf + (start - p->start), start, end };
}

/* What the part has of its first cluster is zeros; *ret_end is the end of
 * that.
 */
static bool
begins_with_zeros (const struct q2_writer *w, const struct part *p,
                   uint64_t *ret_end)
{
  const uint64_t size = w->geo->cluster_size;

  *ret_end = q2_min (q2_align_down (p->start, size) + size, p->end);
  return q2_all_are (p->buf, 0, *ret_end - p->start);
}

/* The longest first part that is zeros, or has none. */
static struct part
first_run (const struct q2_writer *w, const struct part *p, bool *ret_zero)
{
  uint64_t end, next;

  *ret_zero = begins_with_zeros (w, p, &end);
  while (end < p->end) {
    const struct part rest = cut (p, end, p->end);

    if (begins_with_zeros (w, &rest, &next) != *ret_zero)
      break;
    end = next;
  }
  return cut (p, p->start, end);
}

static int
put_plain (struct q2_writer *w, const struct q2_io *io, const struct part *p,
           struct qcow2_error *err)
{
  return p->start == p->end ? 0
    : q2_writer_pwrite (w, io, p->buf, p->end - p->start, p->start, err);
}

static int
put_zeros (struct q2_writer *w, const struct q2_io *io, const struct part *p,
           struct qcow2_error *err)
{
  const unsigned flags = w->detect_zeroes == QCOW2_DETECT_ZEROES_UNMAP
    ? QCOW2_ZERO_MAY_TRIM : 0;

  return q2_writer_zero (w, io, p->end - p->start, p->start, flags, err);
}

/* Not compressed. */
static int
put (struct q2_writer *w, const struct q2_io *io, const struct part *p,
     struct qcow2_error *err)
{
  struct part rest = *p;

  if (w->detect_zeroes == QCOW2_DETECT_ZEROES_OFF)
    return put_plain (w, io, p, err);
  while (rest.start < rest.end) {
    bool zero;
    const struct part run = first_run (w, &rest, &zero);
    const int r = zero ? put_zeros (w, io, &run, err)
      : put_plain (w, io, &run, err);

    if (r == -1)
      return -1;
    rest = cut (&rest, run.end, rest.end);
  }
  return 0;
}

/* Whole clusters in the middle are compressed. */
static int
put_compressed (struct q2_writer *w, const struct q2_io *io,
                const struct part *p, struct qcow2_error *err)
{
  const uint64_t size = w->geo->cluster_size;
  const uint64_t body = q2_min (q2_align_up (p->start, size), p->end);
  /* The last cluster ends where the disk does. */
  const uint64_t body_end = p->end == w->geo->virtual_size ? p->end
    : q2_max (body, q2_align_down (p->end, size));
  const struct part head = cut (p, p->start, body);
  const struct part whole = cut (p, body, body_end);
  const struct part tail = cut (p, body_end, p->end);

  if (put (w, io, &head, err) == -1 ||
      (body < body_end &&
       q2_writer_pwrite_compressed (w, io, whole.buf, body_end - body, body,
                                    err) == -1))
    return -1;
  return put (w, io, &tail, err);
}

int
q2_writer_pwrite_guest (struct q2_writer *w, const struct q2_io *io,
                        const void *buf, uint64_t count, uint64_t guest_off,
                        struct qcow2_error *err)
{
  const struct part all = { buf, guest_off, guest_off + count };

  return w->compress ? put_compressed (w, io, &all, err)
    : put (w, io, &all, err);
}
