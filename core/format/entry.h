/* SPDX-License-Identifier: BSD-3-Clause */
/* entry.h - L2 entries of versions 2 and 3, decoded and encoded for writers.
 *
 * A reader only needs to know what a cluster reads as.  A writer also needs to
 * know whether it has space, whether that is shared, and the state of each
 * subcluster.  Without extended L2 entries a cluster counts as 32 equal
 * subclusters, so that callers need not tell the two kinds apart.
 *
 * Spec: "Cluster mapping", "Extended L2 Entries".
 */
#ifndef QCOW2_FORMAT_ENTRY_H
#define QCOW2_FORMAT_ENTRY_H

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "format/l2e.h"

#define Q2_ALL_SUBCLUSTERS UINT32_MAX

struct q2_entry {
  struct q2_mapping m;
  bool copied;                  /* host_off may be written in place */
  uint32_t alloc, zero;         /* subclusters that are data at host_off (or
                                   compressed), that read as zeros */
};

/* Bytes of an entry in its table. */
static inline size_t
q2_entry_size (const struct q2_geometry *geo)
{
  return (size_t) 1 << geo->entry_bits;
}

static inline void
q2_entry_load (const struct q2_geometry *geo, const void *raw,
               struct q2_entry *e)
{
  const uint64_t descriptor = load_be64 (raw);
  const uint64_t bitmap =
    geo->extended_l2 ? load_be64 ((const unsigned char *) raw + 8) : 0;

  q2_l2e_decode (geo, descriptor, bitmap, &e->m);
  /* A cluster of a data file is never shared, whatever the flag says. */
  e->copied = e->m.kind != Q2_CLUSTER_COMPRESSED &&
    e->m.kind != Q2_CLUSTER_INVALID && e->m.placed &&
    ((descriptor & Q2_ENTRY_COPIED) || geo->data_file);
  e->alloc = e->zero = 0;
  switch (e->m.kind) {
  case Q2_CLUSTER_DATA:
  case Q2_CLUSTER_COMPRESSED:
    e->alloc = Q2_ALL_SUBCLUSTERS;
    break;
  case Q2_CLUSTER_ZERO:
    e->zero = Q2_ALL_SUBCLUSTERS;
    break;
  case Q2_CLUSTER_SUBCLUSTERS:
    e->alloc = e->m.alloc_bits;
    e->zero = e->m.zero_bits;
    break;
  case Q2_CLUSTER_UNALLOCATED:
  case Q2_CLUSTER_INVALID:
    break;
  }
}

/* Encode an entry that is not compressed: 'host_off' with the COPIED flag if
 * 'copied'; or 0 and not 'copied' for no cluster.  Without extended entries
 * 'alloc' and 'zero' must each be 0 or all ones; 'zero' needs version 3.
 */
static inline void
q2_entry_store (const struct q2_geometry *geo, void *raw, uint64_t host_off,
                bool copied, uint32_t alloc, uint32_t zero)
{
  uint64_t descriptor = host_off;

  (void) q2_check ((alloc & zero) == 0 &&
                   (host_off & ~geo->offset_mask) == 0 &&
                   q2_is_aligned (host_off, geo->cluster_size));
  (void) q2_check (geo->extended_l2 ||
                   ((alloc == 0 || alloc == Q2_ALL_SUBCLUSTERS) &&
                    (zero == 0 || zero == Q2_ALL_SUBCLUSTERS)));
  (void) q2_check (zero == 0 || geo->version >= 3);
  (void) q2_check (host_off != 0 || geo->data_file || (!copied && !alloc));
  if (copied)
    descriptor |= Q2_ENTRY_COPIED;
  if (zero != 0)
    descriptor |= geo->zero_flag;
  store_be64 (raw, descriptor);
  if (geo->extended_l2)
    store_be64 ((unsigned char *) raw + 8,
                (uint64_t) zero << Q2_BITMAP_ZERO_SHIFT | alloc);
}

/* True if an entry can say that a stream ends there. */
static inline bool
q2_entry_can_store_stream (const struct q2_geometry *geo, uint64_t host_end)
{
  return host_end <= geo->coffset_mask;
}

/* Encode an entry of a stream of 'size' bytes, at least 1. */
static inline void
q2_entry_store_stream (const struct q2_geometry *geo, void *raw,
                       uint64_t host_off, uint64_t size)
{
  const uint64_t sectors = (host_off + size - 1) / 512 - host_off / 512;

  store_be64 (raw, geo->compressed_flag | sectors << geo->csize_shift |
              host_off);
  if (geo->extended_l2)
    store_be64 ((unsigned char *) raw + 8, 0);
}

/* The clusters of the image file that an entry refers to. */
static inline uint64_t
q2_entry_clusters (const struct q2_geometry *geo, const struct q2_entry *e,
                   uint64_t *ret_first)
{
  const uint64_t len =
    e->m.kind == Q2_CLUSTER_COMPRESSED ? e->m.csize : geo->cluster_size;

  *ret_first = e->m.host_off >> geo->cluster_bits;
  if (e->m.host_off == 0 || e->m.kind == Q2_CLUSTER_INVALID ||
      geo->data_file)
    return 0;
  return ((e->m.host_off + len - 1) >> geo->cluster_bits) - *ret_first + 1;
}

/* The subclusters that [guest_off, guest_off+len) touches; the range must lie
 * in one cluster.
 */
static inline uint32_t
q2_entry_mask (const struct q2_geometry *geo, uint64_t guest_off,
               uint64_t len)
{
  const uint64_t in_cluster = guest_off & (geo->cluster_size - 1);
  const unsigned first = (unsigned) (in_cluster >> geo->subcluster_bits);
  const unsigned last =
    (unsigned) ((in_cluster + len - 1) >> geo->subcluster_bits);
  uint32_t mask;

  (void) q2_check (len > 0 && in_cluster + len <= geo->cluster_size);
  if (!geo->extended_l2)
    return Q2_ALL_SUBCLUSTERS;
  mask = Q2_ALL_SUBCLUSTERS >> (31 - last);
  return mask & (Q2_ALL_SUBCLUSTERS << first);
}

/* True if the range, which must lie in one cluster, can be written in place,
 * without a change of the entry.
 */
static inline bool
q2_entry_is_in_place (const struct q2_geometry *geo,
                      const struct q2_entry *e, uint64_t guest_off,
                      uint64_t len)
{
  const uint32_t touched = q2_entry_mask (geo, guest_off, len);

  return e->copied && (e->alloc & touched) == touched;
}

#endif /* QCOW2_FORMAT_ENTRY_H */
