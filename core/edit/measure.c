/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.c - how large a new image gets.
 *
 * Owns      qcow2_measure.
 * Method    the layout of an image whose disk is all allocated tells what its
 *           metadata takes; a source image tells how many clusters have data.
 * Locks     none.
 */
#include "config.h"

#include "edit/create.h"

#include "base/assume.h"
#include "base/bits.h"

/* Clusters of the new image that have data, found from extents in ascending
 * order.
 */
struct tally {
  unsigned cluster_bits;
  uint64_t clusters;
  uint64_t next;                /* the first cluster not counted yet */
  uint64_t done;                /* guest offset up to which all is known */
};

static int
add_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct tally *const t = opaque;
  const uint64_t first =
    q2_max (guest_off >> t->cluster_bits, t->next);
  const uint64_t end = q2_ceil_shift (guest_off + len, t->cluster_bits);

  q2_check (guest_off == t->done && len > 0);
  t->done = guest_off + len;
  if (type == QCOW2_EXTENT_DATA && first < end) {
    t->clusters += end - first;
    t->next = end;
  }
  return 0;
}

static int
count_data (struct qcow2_image *image, const struct qcow2_io *io,
            struct tally *t, struct qcow2_error *err)
{
  const uint64_t size = qcow2_get_info (image).virtual_size;

  while (t->done < size)
    if (qcow2_extents (image, io, size - t->done, t->done, add_extent, t, err)
        == -1)
      return -1;
  return 0;
}

/* Spec: "Bitmaps": the bits and their table are whole clusters; the directory
 * has an entry of 24 bytes and the name, padded to 8 bytes, for each.
 */
struct bitmaps {
  unsigned cluster_bits;
  uint64_t virtual_size;
  uint64_t directory, clusters;
};

static int
add_bitmap (void *opaque, const struct qcow2_bitmap *bitmap)
{
  struct bitmaps *const b = opaque;
  const uint64_t bits = b->virtual_size / bitmap->granularity +
    (b->virtual_size % bitmap->granularity != 0);
  const uint64_t data = q2_ceil_shift (q2_ceil_shift (bits, 3),
                                       b->cluster_bits);

  b->directory += q2_align_up (24 + bitmap->name.len, 8);
  b->clusters += data + q2_ceil_shift (data * 8, b->cluster_bits);
  return 0;
}

static int
measure_source (struct qcow2_image *image, const struct qcow2_io *io,
                const struct q2_geometry *geo, uint64_t *ret_clusters,
                struct qcow2_measurement *m, struct qcow2_error *err)
{
  struct tally t = { .cluster_bits = geo->cluster_bits };
  struct bitmaps b = {
    .cluster_bits = geo->cluster_bits, .virtual_size = geo->virtual_size,
  };

  if (count_data (image, io, &t, err) == -1)
    return -1;
  if (qcow2_get_info (image).nr_bitmaps > 0 &&
      qcow2_list_bitmaps (image, io, add_bitmap, &b, err) == -1)
    return -1;
  *ret_clusters = t.clusters;
  m->bitmaps = (b.clusters + q2_ceil_shift (b.directory, geo->cluster_bits))
    << geo->cluster_bits;
  return 0;
}

int
qcow2_measure (const struct qcow2_create_options *options,
               struct qcow2_image *image, const struct qcow2_io *io,
               struct qcow2_measurement *ret, struct qcow2_error *err)
{
  struct qcow2_measurement m = { .bitmaps = 0 };
  struct q2_geometry geo;
  struct q2_luks luks;
  struct q2_layout all;
  uint64_t guest_clusters, data = 0;

  if (q2_create_check (options, &geo, &luks, err) == -1)
    return -1;
  guest_clusters = q2_layout_guest_clusters (&geo);
  if (q2_layout_init (&all, &geo, q2_create_luks_bytes (options, &luks),
                      geo.l1_needed,
                      geo.data_file ? 0 : guest_clusters, err) == -1)
    return -1;
  if (image != NULL &&
      measure_source (image, io, &geo, &data, &m, err) == -1)
    return -1;
  if (options->preallocation >= QCOW2_PREALLOCATE_FALLOC)
    data = guest_clusters;
  if (!q2_assume (all.end >= all.data.nr, err))
    return -1;
  data = q2_min (data, guest_clusters); /* the source may be longer */
  m.fully_allocated = all.end << geo.cluster_bits;
  m.required = (all.end - all.data.nr + (geo.data_file ? 0 : data))
    << geo.cluster_bits;
  if (q2_check_end (err) == -1)
    return -1;
  *ret = m;
  return 0;
}
