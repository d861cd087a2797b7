/* SPDX-License-Identifier: BSD-3-Clause */
/* load.c - entries as writers see them.
 *
 * Owns      nothing.
 * Method    entries are read through the table cache, which may have some that
 *           are not in the file yet.
 * Locks     none.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

static int
fail_entry (const struct q2_writer *w, uint64_t guest_cluster,
            const struct q2_entry *e, struct qcow2_error *err)
{
  const uint64_t host_off =
    q2_tables_l2_entry_off (w->tables,
                            q2_l1_index_of_cluster (w->geo, guest_cluster),
                            q2_l2_index_of_cluster (w->geo, guest_cluster));

  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR, host_off,
                         "the L2 entry at offset 0x%" PRIx64 " is corrupt: "
                         "%s", host_off, e->m.problem);
}

int
q2_writer_load (struct q2_change *c, uint64_t guest_cluster, uint64_t max,
                struct q2_entry *e, uint64_t *ret_nr, bool *ret_owned,
                struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  const uint64_t l1_index = q2_l1_index_of_cluster (geo, guest_cluster);
  const uint64_t l2_index = q2_l2_index_of_cluster (geo, guest_cluster);
  const uint64_t per_slice = q2_tables_slice_entries (c->w->tables);
  const uint64_t l1e = q2_tables_l1_entry (c->w->tables, l1_index);
  unsigned char raw[Q2_MAX_ENTRIES * 8];
  struct q2_l2_read read = {
    .l1_index = l1_index, .l2_index = l2_index, .buf = raw,
    .size = sizeof raw,
  };

  max = q2_min (q2_min (max, sizeof raw >> geo->entry_bits),
                per_slice - (l2_index & (per_slice - 1)));
  read.count = *ret_nr = max;
  if (!q2_assume (max > 0 && l1_index < geo->l1_needed, err))
    return -1;
  *ret_owned = q2_l1e_table (geo, l1e) != 0 && (l1e & Q2_ENTRY_COPIED);
  if (q2_l1e_table (geo, l1e) == 0)
    memset (raw, 0, max << geo->entry_bits);
  else if (q2_tables_read_l2 (c->w->tables, c->io, &read, ret_nr, err) == -1)
    return -1;
  for (uint64_t i = 0; i < *ret_nr; ++i) {
    q2_entry_load (geo, raw + (i << geo->entry_bits), &e[i]);
    q2_mapping_check_place (geo, (guest_cluster + i) << geo->cluster_bits,
                            &e[i].m);
    if (e[i].m.kind == Q2_CLUSTER_INVALID) {
      if (i == 0)
        return fail_entry (c->w, guest_cluster, &e[0], err);
      *ret_nr = i;
    }
  }
  return 0;
}

int
q2_writer_read_table (struct q2_change *c, uint64_t l1_index,
                      unsigned char *table, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  const uint64_t entries = UINT64_C (1) << geo->l2_bits;
  uint64_t nr;

  for (uint64_t i = 0; i < entries; i += nr) {
    const struct q2_l2_read read = {
      .l1_index = l1_index, .l2_index = i, .count = entries - i,
      .buf = table + (i << geo->entry_bits),
      .size = (entries - i) << geo->entry_bits,
    };

    if (q2_tables_read_l2 (c->w->tables, c->io, &read, &nr, err) == -1 ||
        !q2_assume (nr > 0 && nr <= entries - i, err))
      return -1;
  }
  return 0;
}
