/* SPDX-License-Identifier: BSD-3-Clause */
/* l2e.c - decodes L2 entries.
 *
 * Owns      the meaning of the bits; see l2e.h.
 * Method    decodes compressed entries first (their other bits mean something
 *           else), then the standard descriptor, then the subcluster bitmap.
 *           Every 128 bit value has a result.
 * Locks     none; pure.
 */
#include "config.h"

#include "format/l2e.h"

#include "base/bits.h"

static void
invalid (struct q2_mapping *m, const char *problem)
{
  m->kind = Q2_CLUSTER_INVALID;
  m->problem = problem;
}

static void
decode_compressed (const struct q2_geometry *geo, uint64_t descriptor,
                   struct q2_mapping *m)
{
  const uint64_t field = (descriptor >> geo->csize_shift) & geo->csize_mask;

  m->kind = Q2_CLUSTER_COMPRESSED;
  m->host_off = descriptor & geo->coffset_mask;
  if (geo->version == 1)
    m->csize = field;           /* in bytes */
  else                          /* sectors after the one it starts in */
    m->csize = (field + 1) * 512 - (m->host_off & 511);
}

static void
decode_extended (uint64_t bitmap, struct q2_mapping *m)
{
  const uint32_t alloc = (uint32_t) bitmap;
  const uint32_t zero = (uint32_t) (bitmap >> 32);

  if (alloc & zero)
    invalid (m, "a subcluster is marked both allocated and zero");
  else if (!m->placed && alloc)
    invalid (m, "a subcluster is marked allocated in a cluster without "
             "host offset");
  else if (zero == UINT32_MAX)
    m->kind = Q2_CLUSTER_ZERO;
  else if (alloc == UINT32_MAX)
    m->kind = Q2_CLUSTER_DATA;
  else if (alloc == 0 && zero == 0)
    m->kind = Q2_CLUSTER_UNALLOCATED;
  else {
    m->kind = Q2_CLUSTER_SUBCLUSTERS;
    m->alloc_bits = alloc;
    m->zero_bits = zero;
  }
}

static void
decode_standard (const struct q2_geometry *geo, uint64_t descriptor,
                 struct q2_mapping *m)
{
  if (descriptor & geo->zero_flag) {
    if (geo->version < 3)
      invalid (m, "a zero cluster in an image older than version 3");
    else
      m->kind = Q2_CLUSTER_ZERO;
  }
  else
    m->kind = m->placed ? Q2_CLUSTER_DATA : Q2_CLUSTER_UNALLOCATED;
}

void
q2_l2e_decode (const struct q2_geometry *geo, uint64_t descriptor,
               uint64_t bitmap, struct q2_mapping *m)
{
  *m = (struct q2_mapping) { .kind = Q2_CLUSTER_UNALLOCATED };

  if (descriptor & geo->compressed_flag) {
    if (geo->data_file) {
      invalid (m, "a compressed cluster in an image with a data file");
      return;
    }
    decode_compressed (geo, descriptor, m);
    return;
  }

  m->host_off = descriptor & geo->offset_mask;
  /* A data file begins with a cluster, not a header. */
  m->placed = m->host_off != 0 ||
    (geo->data_file && (descriptor & Q2_ENTRY_COPIED));
  /* Version 1 clusters may start at any sector: old writers put them at
   * the end of a file that ended in compressed data.
   */
  if (!q2_is_aligned (m->host_off, geo->table_align)) {
    invalid (m, "the host offset of a cluster is not aligned");
    return;
  }
  if (geo->extended_l2)
    decode_extended (bitmap, m);
  else
    decode_standard (geo, descriptor, m);
}
