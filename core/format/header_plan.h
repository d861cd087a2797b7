/* SPDX-License-Identifier: BSD-3-Clause */
/* header_plan.h - plans writes that change the header so that a crash leaves
 * the old one or the new one.
 *
 * A sector of 512 bytes reaches the disk whole or not at all; sectors of one
 * write reach it in any order.  A plan is a list of writes with a flush after
 * each.  A crash at any moment leaves an area that decodes as the old header,
 * with its extensions and its backing file name, or as the new one:
 *
 *    old   [fields ext ext ext|ext ext name|              |        ]
 *    1     [fields ext ext ext|ext ext name|ext name      |        ]  spare
 *    2     [FIELDS ext JUMP --|------------|ext name      |        ]  sector 0
 *    3     [FIELDS ext JUMP --|ext name    |ext name      |        ]  unused
 *    4     [FIELDS ext ext ext|ext name    |              |        ]  sector 0
 *
 * One write is enough if only one sector in use differs, and two if all other
 * sectors that differ were unused.  JUMP is an extension of an unknown type,
 * whose data is skipped.
 *
 * Spec: "Header extensions": unknown extensions can be ignored.
 */
#ifndef QCOW2_FORMAT_HEADER_PLAN_H
#define QCOW2_FORMAT_HEADER_PLAN_H

#include "format/header_parts.h"

struct q2_header_write {
  uint32_t off, len;            /* multiples of Q2_HEADER_SECTOR */
  const unsigned char *bytes;
};

#define Q2_HEADER_MAX_WRITES 8

struct q2_header_plan {
  struct q2_header_write writes[Q2_HEADER_MAX_WRITES];
  size_t nr_writes;             /* 0: nothing changes */
  bool atomic;                  /* false: a crash may leave neither */

  unsigned char *after;         /* the area after all writes */
  size_t len;
  unsigned char *between;       /* other bytes that are written, or NULL */
};

/* Plan to change the header area, whose first 'len' bytes are given, to what
 * 'parts' say.  'len' is as for q2_header_decode; bytes past it count as
 * unused, so it must include all of the first cluster that is in use.  Fails
 * if the new header does not fit into the first cluster.  The caller checks
 * 'atomic', and frees the plan.
 */
extern int q2_header_plan (struct q2_header_plan *plan, const void *bytes,
                           size_t len, const struct q2_header_parts *parts,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern void q2_header_plan_free (struct q2_header_plan *plan)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_FORMAT_HEADER_PLAN_H */
