/* SPDX-License-Identifier: BSD-3-Clause */
/* image_builder.h - writes legal images in memory, one L2 entry at a time.
 *
 * Written from the specification; shares no code with the engine, since an
 * error of both would go unnoticed.
 */
#ifndef IMAGE_BUILDER_H
#define IMAGE_BUILDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image_spec {
  unsigned version;             /* 1, 2 or 3 */
  unsigned cluster_bits;
  unsigned l2_bits;             /* version 1 only */
  unsigned refcount_order;      /* version 3; version 2 has 4 */
  bool extended_l2, zstd;       /* version 3 */
  uint64_t virtual_size;
};

/* Clusters that do not belong to the active disk. */
struct builder_extra {
  uint64_t host_off, len;
  uint64_t l1_entries;          /* of an L1 table; else 0 */
};
#define BUILDER_MAX_EXTRA 256

struct image_builder {
  struct image_spec spec;
  uint64_t cluster_size, nr_l2_entries, l2_entry_size, l1_entries, l1_off;

  unsigned char *bytes;         /* the image so far */
  uint64_t size;                /* a multiple of the cluster size */
  uint64_t room;
  uint64_t packed_off, packed_end; /* where the next stream goes */

  uint64_t frozen;              /* tables before this belong to snapshots */
  struct builder_extra extra[BUILDER_MAX_EXTRA];
  size_t nr_extra;
};

/* Big-endian integers of 'len' bytes. */
extern void builder_put (struct image_builder *b, uint64_t host_off,
                         unsigned len, uint64_t value);
extern uint64_t builder_get (const struct image_builder *b,
                             uint64_t host_off, unsigned len);

extern void builder_init (struct image_builder *b,
                          const struct image_spec *spec);
extern void builder_free (struct image_builder *b);

/* Add 'n' clusters of zeros at the end of the file; returns their host offset.
 */
extern uint64_t builder_alloc (struct image_builder *b, uint64_t n);

/* Set the entry of a guest cluster; makes the L2 table if there is none. */
extern void builder_set_entry (struct image_builder *b,
                               uint64_t guest_cluster, uint64_t descriptor,
                               uint64_t bitmap);
extern void builder_get_entry (const struct image_builder *b,
                               uint64_t guest_cluster,
                               uint64_t *ret_descriptor,
                               uint64_t *ret_bitmap);
/* Host offset of that entry, 0 if there is no table. */
extern uint64_t builder_entry_off (const struct image_builder *b,
                                   uint64_t guest_cluster);

/* A new data cluster: returns its host offset. */
extern uint64_t builder_data (struct image_builder *b,
                              uint64_t guest_cluster, const void *cluster);
/* A zero cluster (version 3), with host space kept or without. */
extern void builder_zero (struct image_builder *b, uint64_t guest_cluster,
                          bool keep_space);
/* A compressed cluster.  Returns false, and does nothing, if the bytes do not
 * become smaller or the library is missing.
 */
extern bool builder_compressed (struct image_builder *b,
                                uint64_t guest_cluster, const void *cluster,
                                uint64_t *ret_host_off,
                                uint64_t *ret_csize);
/* Subclusters in a cluster with host space, or (alloc == 0) without. */
extern uint64_t builder_subclusters (struct image_builder *b,
                                     uint64_t guest_cluster, uint32_t alloc,
                                     uint32_t zero, bool keep_space,
                                     const void *cluster);

/* Add a header extension; call it before builder_finish. */
extern void builder_extension (struct image_builder *b, uint32_t type,
                               const void *data, uint32_t len);

/* Write refcounts for everything in use. */
extern void builder_finish (struct image_builder *b);

#endif /* IMAGE_BUILDER_H */
