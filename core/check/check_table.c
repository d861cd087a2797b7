/* SPDX-License-Identifier: BSD-3-Clause */
/* check_table.c - the refcount table of an image that is checked.
 *
 * Owns      which of its entries name a refcount block that can be used.
 * Method    after everything else has been counted: a block must lie in the
 *           file, begin at a cluster, and not be used for anything else, be it
 *           another block.  One that does not is reported, and is no block
 *           from then on: a repair makes a new one.
 * Locks     none; see check.c.
 * Spec      "Reference counts".
 */
#include "config.h"

#include "check/check.h"

#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

#define RESERVED_BITS UINT64_C (0x1ff)

struct table {
  struct q2_repair_job *j;
  uint64_t table_off;
  uint64_t file_size;
};

/* Why nothing of the refcounts can be at [host_off, host_off+len), NULL if it
 * can: then it has been counted.
 */
static int
count_clusters (const struct table *t, uint64_t host_off, uint64_t len,
                const char **ret_why, struct qcow2_error *err)
{
  const unsigned bits = t->j->geo->cluster_bits;
  const uint64_t n = q2_ceil_shift (len, bits);

  *ret_why = NULL;
  if (!q2_is_aligned (host_off, t->j->geo->cluster_size))
    *ret_why = "not a multiple of the cluster size";
  else if (host_off >= t->file_size ||
           host_off + len >= t->file_size + t->j->geo->cluster_size)
    *ret_why = "past the end of the file";
  for (uint64_t i = 0; i < n && *ret_why == NULL; ++i) {
    if (q2_work_do (&t->j->r->recount.work, Q2_RECOUNT_CLUSTER, err) == -1)
      return -1;
    switch (q2_counts_add (t->j->counts, (host_off >> bits) + i, 1,
                           Q2_USE_META, 0, NULL)) {
    case Q2_COUNTS_OK:
      break;
    case Q2_COUNTS_CONFLICT:
      *ret_why = "used for something else, too";
      break;
    case Q2_COUNTS_OVERFLOW:    /* never of what is used once */
    case Q2_COUNTS_FULL:
    case Q2_COUNTS_NOMEM:
      return q2_fail (err, QCOW2_ERR_NOMEM, host_off,
                      "counting the references to all clusters takes more "
                      "memory than is allowed");
    }
  }
  return 0;
}

static void
report_entry (const struct table *t, uint64_t idx, uint64_t host_off,
              enum qcow2_finding_kind kind, const char *what, const char *why)
{
  const struct qcow2_finding like = {
    .kind = kind, .severity = QCOW2_FINDING_CORRUPTION, .host_off = host_off,
    .length = t->j->geo->cluster_size, .table_off = t->table_off,
    .index = idx,
  };

  q2_find (t->j->findings, &like, "%s 0x%" PRIx64 ", which is %s (entry "
           "%" PRIu64 " of the refcount table at offset 0x%" PRIx64 ")", what,
           host_off, why, idx, t->table_off);
}

static int
take_entry (struct table *t, uint64_t idx, uint64_t entry,
            struct qcow2_error *err)
{
  struct q2_repair *const r = t->j->r;
  const uint64_t host_off = entry & ~RESERVED_BITS;
  const char *why;

  r->blocks[idx] = 0;
  if (entry & RESERVED_BITS) {
    report_entry (t, idx, entry, QCOW2_FINDING_RESERVED,
                  "a refcount block is said to be at",
                  "an entry with reserved bits");
    r->stale[idx] = true;
  }
  if (host_off == 0)
    return 0;
  if (count_clusters (t, host_off, t->j->geo->cluster_size, &why, err) == -1)
    return -1;
  if (why == NULL)
    r->blocks[idx] = host_off;
  else {
    report_entry (t, idx, host_off, QCOW2_FINDING_REFCOUNT_BLOCK,
                  "a refcount block is said to be at offset", why);
    r->stale[idx] = true;
    r->dropped = true;
  }
  return 0;
}

/* Report why there is no table. */
static int
no_table (const struct table *t, uint64_t bytes, const char *why)
{
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_REFCOUNT_BLOCK,
    .severity = QCOW2_FINDING_CORRUPTION, .host_off = t->table_off,
    .length = bytes, .table_off = QCOW2_NO_OFFSET,
  };

  q2_find (t->j->findings, &like, "the refcount table is said to be at offset "
           "0x%" PRIx64 ", which is %s", t->table_off, why);
  return 1;
}

int
q2_check_refcount_table (struct q2_repair_job *j, const struct q2_header *h,
                         struct qcow2_error *err)
{
  const uint64_t bytes =
    (uint64_t) h->refcount_table_clusters << j->geo->cluster_bits;
  struct table t = {
    .j = j, .table_off = h->refcount_table_offset,
    .file_size = q2_io_size (j->io),
  };
  const char *why;
  bool *stale;

  if (bytes == 0)               /* reported with the header */
    return 1;
  if (count_clusters (&t, t.table_off, bytes, &why, err) == -1)
    return -1;
  if (why != NULL)
    return no_table (&t, bytes, why);
  if (q2_repair_read_table (j, t.table_off, bytes, err) == -1)
    return -1;
  stale = calloc (j->r->nr_blocks, sizeof *stale);
  if (stale == NULL)
    return q2_fail_nomem (err, "the refcount table");
  j->r->stale = stale;
  for (uint64_t idx = 0; idx < j->r->nr_blocks; ++idx)
    if (take_entry (&t, idx, j->r->blocks[idx], err) == -1)
      return -1;
  return 0;
}
