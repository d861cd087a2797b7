/* SPDX-License-Identifier: BSD-3-Clause */
/* create_tables.c - the tables of a new image.
 *
 * Owns      what is in them.
 * Method    all tables of a kind lie next to each other, so the entries of a
 *           kind are one sequence, which is written in large pieces.
 * Locks     none; the image is nobody else's yet.
 * Spec      "Reference counts", "Cluster mapping".
 */
#include "config.h"

#include "edit/create.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "format/entry.h"
#include "format/refcount_bits.h"

#include <string.h>

/* A multiple of every entry and of 2^21, the largest cluster. */
#define PIECE (UINT32_C (2) << 20)

/* The entries 'first' to first + nr - 1 of all tables of a kind; 'buf' is all
 * zero before.
 */
typedef void (*fill_fn) (const struct q2_create *c, uint64_t first,
                         uint64_t nr, unsigned char *buf);

static void
fill_offsets (const struct q2_create *c, const struct q2_region *tables,
              uint64_t flag, uint64_t first, uint64_t nr, unsigned char *buf)
{
  for (uint64_t i = first; i < q2_min (first + nr, tables->nr); ++i)
    store_be64 (buf + 8 * (i - first),
                (tables->first + i) << c->geo.cluster_bits | flag);
}

static void
fill_refcount_table (const struct q2_create *c, uint64_t first, uint64_t nr,
                     unsigned char *buf)
{
  fill_offsets (c, &c->layout.refcount_blocks, 0, first, nr, buf);
}

static void
fill_refcount_blocks (const struct q2_create *c, uint64_t first, uint64_t nr,
                      unsigned char *buf)
{
  const uint64_t end = q2_min (first + nr, c->layout.end);

  for (uint64_t i = first; i < end; ++i)
    q2_refcount_set (buf, c->geo.refcount_order, i - first, 1);
}

static void
fill_l1 (const struct q2_create *c, uint64_t first, uint64_t nr,
         unsigned char *buf)
{
  fill_offsets (c, &c->layout.l2, Q2_ENTRY_COPIED, first, nr, buf);
}

/* What is decrypted that was never written is no zeros, so an encrypted image
 * says that they are.  Extended entries have space, but no subcluster that is
 * data yet: so they
 * read as the backing image does, or as zeros.  Only a raw data file must be
 * read from the start.
 */
static void
fill_l2 (const struct q2_create *c, uint64_t first, uint64_t nr,
         unsigned char *buf)
{
  const unsigned bits = c->geo.cluster_bits;
  const uint64_t end =
    q2_min (first + nr, q2_layout_guest_clusters (&c->geo));
  const uint64_t base =
    c->geo.data_file ? 0 : c->layout.data.first << bits;
  const bool encrypted = c->options->encryption != QCOW2_ENCRYPTION_NONE;
  const uint32_t alloc =
    encrypted || (c->geo.extended_l2 && !c->options->data_file_raw)
    ? 0 : Q2_ALL_SUBCLUSTERS;
  const uint32_t zero =
    encrypted && !c->geo.extended_l2 ? Q2_ALL_SUBCLUSTERS : 0;

  for (uint64_t i = first; i < end; ++i)
    q2_entry_store (&c->geo, buf + (i - first) * q2_entry_size (&c->geo),
                    base + (i << bits), true, alloc, zero);
}

static int
write_region (struct q2_create *c, const struct q2_region *r,
              enum qcow2_io_class class, unsigned bits_of_entry,
              fill_fn fill, unsigned char *buf, struct qcow2_error *err)
{
  const uint64_t start = r->first << c->geo.cluster_bits;
  const uint64_t len = r->nr << c->geo.cluster_bits;

  /* Behind the header, and no entry is in two pieces. */
  if (!q2_assume (r->nr == 0 || (r->first > 0 && r->first + r->nr <=
                                 c->layout.end), err) ||
      !q2_assume (PIECE * 8 % bits_of_entry == 0, err))
    return -1;
  for (uint64_t off = 0; off < len; off += PIECE) {
    const uint64_t n = q2_min (len - off, PIECE);

    memset (buf, 0, n);
    fill (c, off * 8 / bits_of_entry, n * 8 / bits_of_entry, buf);
    if (q2_io_write (&c->io, buf, n, start + off, class, err) == -1 ||
        q2_progress_add (&c->progress, n, Q2_CREATE_CANCELLED, err) == -1)
      return -1;
  }
  return 0;
}

int
q2_create_tables (struct q2_create *c, struct qcow2_error *err)
{
  const struct q2_layout *const l = &c->layout;
  unsigned char *const buf = q2_buffer_alloc (PIECE);
  int r = -1;

  if (buf == NULL)
    return q2_fail_nomem (err, "tables of the new image");
  if (write_region (c, &l->refcount_table, QCOW2_IO_REFCOUNT, 64,
                    fill_refcount_table, buf, err) == 0 &&
      write_region (c, &l->refcount_blocks, QCOW2_IO_REFCOUNT,
                    1u << c->geo.refcount_order, fill_refcount_blocks, buf,
                    err) == 0 &&
      write_region (c, &l->l1, QCOW2_IO_L1, 64, fill_l1, buf, err) == 0 &&
      write_region (c, &l->l2, QCOW2_IO_L2, 8u << c->geo.entry_bits, fill_l2,
                    buf, err) == 0)
    r = 0;
  q2_buffer_free (buf, PIECE);
  return r;
}
