/* SPDX-License-Identifier: BSD-3-Clause */
/* pack.c - compressing what is written.
 *
 * Owns      what becomes of each of the clusters of a request.
 * Method    a piece of the request after the other is compressed, each cluster
 *           by one thread: that of the request, and workers as far as other
 *           requests that compress leave CPUs for them.  Then the streams are
 *           put into the file together (pack_put.c); clusters that are zeros,
 *           and those that would not become smaller, are written like any
 *           others.
 * Locks     none, and not in flight, while clusters are compressed.
 */
#include "config.h"

#include "write/pack.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

int
q2_writer_can_compress (const struct q2_writer *w, struct qcow2_error *err)
{
  const char *const why =
    w->store->cipher != NULL ? "it is encrypted"
    : w->geo->data_file ? "its data is in a data file"
    : !q2_can_compress (q2_writer_header (w).compression)
    ? "this program was built without the library for that" : NULL;

  if (why == NULL)
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED,
                         QCOW2_ADVICE_NO_COMPRESSION, QCOW2_NO_OFFSET,
                         "compressed clusters cannot be written to this "
                         "image: %s", why);
}

/* ---- Compressing ---------------------------------------------------- */

/* Version 2 cannot say that a cluster is zeros, and not what is below. */
static bool
may_be_zero_entry (const struct q2_pack *p, uint64_t i)
{
  return p->w->geo->version >= 3 ||
    !q2_store_has_below (p->w->store,
                         (p->first + i) << p->w->geo->cluster_bits);
}

static size_t
compress_to (const struct q2_pack *p, uint64_t i, const void *bytes)
{
  const uint64_t size = p->w->geo->cluster_size;

  return q2_compress (p->w->compressors, bytes, size, p->out + i * size,
                      size - 1);
}

/* Behind the end of the disk there are zeros. */
static size_t
compress_last (const struct q2_pack *p, uint64_t i, const void *bytes,
               uint64_t len)
{
  unsigned char *const whole = calloc (1, p->w->geo->cluster_size);
  size_t size;

  if (whole == NULL)
    return 0;
  memcpy (whole, bytes, len);
  size = compress_to (p, i, whole);
  free (whole);
  return size;
}

/* A part of a batch: one cluster. */
static void
press (void *arg, size_t i)
{
  struct q2_pack *const p = arg;
  const uint64_t pos = (uint64_t) i << p->w->geo->cluster_bits;
  const uint64_t len = q2_min (p->w->geo->cluster_size, p->len - pos);

  p->zero[i] = may_be_zero_entry (p, i) && q2_all_are (p->buf + pos, 0, len);
  p->size[i] = (uint32_t)
    (p->zero[i] ? 0
     : len < p->w->geo->cluster_size ? compress_last (p, i, p->buf + pos, len)
     : compress_to (p, i, p->buf + pos));
}

/* Requests that compress at once share the CPUs. */
static void
press_all (struct q2_pack *p)
{
  struct q2_reader *const r = p->w->reader;
  const unsigned others = atomic_fetch_add (&p->w->packing, 1);
  const unsigned threads = (unsigned) q2_max (r->cpus / (others + 1), 1);

  q2_workers_batch (r->workers, press, p, p->nr, threads);
  atomic_fetch_sub (&p->w->packing, 1);
}

/* Move the streams together. */
static void
close_gaps (struct q2_pack *p)
{
  const unsigned bits = p->w->geo->cluster_bits;
  uint64_t end = 0;

  q2_check (p->nr > 0 && p->nr <= Q2_PACK_CLUSTERS);
  p->nr_streams = p->put = 0;
  for (uint64_t i = 0; i < p->nr; ++i) {
    if (p->size[i] == 0)
      continue;
    q2_check (end <= i << bits && p->size[i] >> bits == 0);
    memmove (p->out + end, p->out + (i << bits), p->size[i]);
    p->of[p->nr_streams] = (uint32_t) i;
    p->stream[p->nr_streams++] = p->size[i];
    end += p->size[i];
  }
  memset (p->out + end, 0, q2_pack_block (p->io));
}

/* ---- The others ----------------------------------------------------- */

/* Clusters [i, *ret_end) have no stream in the file, all for the same reason;
 * none: i is *ret_end.
 */
static uint64_t
next_rest (const struct q2_pack *p, uint64_t i, uint64_t *ret_end)
{
  while (i < p->nr && p->size[i] != 0)
    ++i;
  *ret_end = i;
  while (*ret_end < p->nr && p->size[*ret_end] == 0 &&
         p->zero[*ret_end] == p->zero[i])
    ++*ret_end;
  return i;
}

static int
put_rest (const struct q2_pack *p, struct qcow2_error *err)
{
  const unsigned bits = p->w->geo->cluster_bits;
  uint64_t end;

  for (uint64_t i = next_rest (p, 0, &end); i < end;
       i = next_rest (p, end, &end)) {
    const uint64_t guest_off = (p->first + i) << bits;
    const uint64_t pos = i << bits;
    const uint64_t len = q2_min (end << bits, p->len) - pos;
    const int r = p->zero[i]
      ? q2_writer_zero (p->w, p->io, len, guest_off, QCOW2_ZERO_MAY_TRIM, err)
      : q2_writer_pwrite (p->w, p->io, p->buf + pos, len, guest_off, err);

    if (r == -1)
      return -1;
  }
  return 0;
}

/* ---- A request ------------------------------------------------------ */

static int
put_piece (struct q2_pack *p, struct qcow2_error *err)
{
  press_all (p);
  close_gaps (p);
  if (q2_pack_put (p, err) == -1 ||
      !q2_assume (p->put <= p->nr_streams &&
                  (p->too_far || p->put == p->nr_streams), err))
    return -1;
  for (size_t n = p->put; n < p->nr_streams; ++n)
    p->size[p->of[n]] = 0;      /* too far: like the others */
  return put_rest (p, err);
}

/* How many clusters from guest_off on are done together: of one slice. */
static uint64_t
choose_nr (const struct q2_writer *w, uint64_t first, uint64_t left)
{
  const uint64_t slice =
    q2_min (q2_tables_slice_entries (w->tables), Q2_PACK_CLUSTERS);

  return q2_min (q2_min (left, slice - (first & (slice - 1))),
                 q2_max (Q2_PACK_BYTES >> w->geo->cluster_bits, 1));
}

/* Compress and write the first clusters, *ret_len bytes. */
static int
put_some (struct q2_pack *p, const unsigned char *buf, uint64_t count,
          uint64_t guest_off, uint64_t *ret_len, struct qcow2_error *err)
{
  struct q2_writer *const w = p->w;
  const unsigned bits = w->geo->cluster_bits;
  uint64_t charge;
  int r;

  p->first = guest_off >> bits;
  p->nr = choose_nr (w, p->first, q2_ceil_shift (count, bits));
  /* With little memory, one cluster after the other. */
  charge = q2_budget_take_some (w->budget, w->geo->cluster_size,
                                p->nr << bits);
  p->nr = q2_min (p->nr, charge >> bits);
  p->buf = buf;
  p->len = *ret_len = q2_min (count, p->nr << bits);
  p->out = malloc ((p->nr << bits) + q2_pack_block (p->io));
  r = p->out != NULL ? put_piece (p, err)
    : q2_fail_nomem (err, "compressed clusters");
  free (p->out);
  q2_budget_give (w->budget, charge);
  return r;
}

/* The end of the disk may be in the last cluster. */
static bool
are_whole_clusters (const struct q2_geometry *geo, uint64_t count,
                    uint64_t guest_off)
{
  const uint64_t end = guest_off + count;

  return q2_is_aligned (guest_off, geo->cluster_size) &&
    (q2_is_aligned (end, geo->cluster_size) || end == geo->virtual_size);
}

int
q2_writer_pwrite_compressed (struct q2_writer *w, const struct q2_io *io,
                             const void *buf, uint64_t count,
                             uint64_t guest_off, struct qcow2_error *err)
{
  const unsigned char *bytes = buf;
  struct q2_pack *p;
  int r = 0;

  if (!are_whole_clusters (w->geo, count, guest_off))
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "only whole clusters can be written compressed");
  p = malloc (sizeof *p);
  if (p == NULL)
    return q2_fail_nomem (err, "compressed clusters");
  p->w = w;
  p->io = io;
  while (r == 0 && count > 0) {
    uint64_t len;

    r = put_some (p, bytes, count, guest_off, &len, err);
    bytes += len;
    guest_off += len;
    count -= len;
  }
  free (p);
  return r;
}
