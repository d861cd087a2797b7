/* SPDX-License-Identifier: BSD-3-Clause */
/* layout.c - computes the layout of a new image.
 *
 * Owns      how many clusters each kind of metadata takes.
 * Method    refcount blocks have refcounts for themselves and for their
 *           table: both numbers are raised until they suffice.  They only
 *           rise, and by less each time.
 * Locks     none; pure.
 */
#include "config.h"

#include "edit/layout.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

static void
place (struct q2_region *r, uint64_t *end)
{
  r->first = *end;
  *end += r->nr;
}

int
q2_layout_init (struct q2_layout *ret_layout, const struct q2_geometry *geo,
                uint64_t luks_bytes, uint64_t l2_tables, uint64_t data,
                struct qcow2_error *err)
{
  struct q2_layout l = {
    .l1.nr = q2_ceil_shift (geo->l1_needed * 8, geo->cluster_bits),
    .luks.nr = q2_ceil_shift (luks_bytes, geo->cluster_bits),
    .l2.nr = l2_tables, .data.nr = data,
  };
  const uint64_t rest = 1 + l.l1.nr + l.luks.nr + l.l2.nr + l.data.nr;
  uint64_t blocks = 0, table = 0;

  do {
    l.refcount_blocks.nr = blocks;
    l.refcount_table.nr = table;
    blocks = q2_ceil_shift (rest + blocks + table, geo->refblock_bits);
    table = q2_ceil_shift (blocks * 8, geo->cluster_bits);
  } while (blocks != l.refcount_blocks.nr || table != l.refcount_table.nr);
  if (table << geo->cluster_bits > Q2_MAX_REFCOUNT_TABLE_BYTES)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "%" PRIu64 " clusters of %" PRIu64 " bytes with refcounts "
                    "of %u bits need a refcount table larger than 8 MiB; use "
                    "larger clusters", rest, geo->cluster_size,
                    1u << geo->refcount_order);
  l.end = 1;
  place (&l.refcount_table, &l.end);
  place (&l.refcount_blocks, &l.end);
  place (&l.l1, &l.end);
  place (&l.luks, &l.end);
  place (&l.l2, &l.end);
  place (&l.data, &l.end);
  if (!q2_assume (l.end == rest + blocks + table, err) ||
      !q2_assume (q2_ceil_shift (l.end, geo->refblock_bits) ==
                  l.refcount_blocks.nr, err) ||
      !q2_assume (l.refcount_blocks.nr * 8 <= table << geo->cluster_bits,
                  err))
    return -1;
  *ret_layout = l;
  return 0;
}
