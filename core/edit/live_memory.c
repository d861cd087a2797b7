/* SPDX-License-Identifier: BSD-3-Clause */
/* live_memory.c - what an image that others write to has in memory, for a
 * check.
 *
 * Owns      the functions of struct q2_live (check/live.h).
 * Locks     those of the tables, the flight and the space.
 */
#include "config.h"

#include "edit/live.h"

#include "base/assume.h"

#include <string.h>

static int
read_all (struct q2_live_job *j, uint64_t l1_index, unsigned char *table,
          struct qcow2_error *err)
{
  const uint64_t entries = UINT64_C (1) << j->geo.l2_bits;
  uint64_t nr;

  for (uint64_t i = 0; i < entries; i += nr) {
    const struct q2_l2_read read = {
      .l1_index = l1_index, .l2_index = i, .count = entries - i, .scan = true,
      .buf = table + (i << j->geo.entry_bits),
      .size = (entries - i) << j->geo.entry_bits,
    };

    if (q2_tables_read_l2 (j->w->tables, &j->io, &read, &nr, err) == -1 ||
        !q2_assume (nr > 0 && nr <= entries - i, err))
      return -1;
  }
  return 0;
}

/* In flight, as who reads the disk is: the table stays one meanwhile. */
static int
read_table (void *opaque, uint64_t l1_index, uint64_t *ret_entry,
            unsigned char *ret_table, struct qcow2_error *err)
{
  struct q2_live_job *const j = opaque;
  const unsigned token = q2_flight_enter (&j->w->flight);
  int r = 0;

  *ret_entry = q2_tables_l1_entry (j->w->tables, l1_index);
  if (ret_table != NULL && q2_l1e_table (&j->geo, *ret_entry) != 0)
    r = read_all (j, l1_index, ret_table, err);
  else if (ret_table != NULL)
    memset (ret_table, 0, j->geo.l2_table_size);
  q2_flight_leave (&j->w->flight, token);
  return q2_live_was_edited (j) ? q2_live_fail_edited (j, err) : r;
}

static int
blocks (void *opaque, uint64_t first, uint64_t max, uint64_t *ret_host_offs,
        uint64_t *ret_nr, uint64_t *ret_table_off,
        uint64_t *ret_table_clusters, struct qcow2_error *err)
{
  struct q2_live_job *const j = opaque;

  (void) err;
  *ret_nr = q2_space_blocks (j->w->space, first, max, ret_host_offs,
                             ret_table_off, ret_table_clusters);
  return 0;
}

static int
refcounts (void *opaque, uint64_t cluster, uint64_t max,
           uint64_t *ret_values, uint64_t *ret_nr, struct qcow2_error *err)
{
  struct q2_live_job *const j = opaque;

  return q2_writer_refcounts (j->w, &j->io, cluster, max, ret_values, ret_nr,
                              err);
}

static uint64_t
next_covered (void *opaque, uint64_t cluster)
{
  const struct q2_live_job *const j = opaque;

  return q2_space_next_covered (j->w->space, cluster);
}

struct q2_live
q2_live_memory (struct q2_live_job *j)
{
  return (struct q2_live) {
    .opaque = j, .read_table = read_table, .blocks = blocks,
    .refcounts = refcounts, .next_covered = next_covered,
  };
}
