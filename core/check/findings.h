/* SPDX-License-Identifier: BSD-3-Clause */
/* findings.h - what a check has found.
 *
 * Counts everything, and passes so many of them on as the caller wants.
 */
#ifndef QCOW2_CHECK_FINDINGS_H
#define QCOW2_CHECK_FINDINGS_H

#include "format/geometry.h"

#include "qcow2.h"

struct q2_findings {
  qcow2_finding_fn fn;          /* or NULL */
  void *opaque;
  uint64_t max_passed;          /* calls of fn */
  uint64_t passed;
  uint64_t nr[QCOW2_NR_SEVERITIES];
  uint64_t nr_kind[QCOW2_NR_FINDINGS];
  /* References may have been missed: what is counted too high may be in use,
   * and what nobody seems to use is perhaps not free.
   */
  bool incomplete;
};

/* Count a finding, whose text is made of 'fmt', and pass it on.  severity,
 * kind, offsets, counts and length are those of *like.
 */
extern void q2_find (struct q2_findings *findings,
                     const struct qcow2_finding *like, const char *fmt, ...)
  __attribute__ ((__nonnull__, __format__ (printf, 3, 4), __cold__));

/* Report what an error says as a finding, unless it is no fault of the image
 * but ends the check: no memory, too much work, nobody waits.  A part that
 * could not be read is an error of the check.  Returns 0 to go on, or -1.
 */
extern int q2_find_error (struct q2_findings *findings,
                          enum qcow2_finding_kind kind,
                          const struct qcow2_error *err)
  __attribute__ ((__nonnull__, __cold__, __warn_unused_result__));

/* The host could not read a refcount block, *err says why: let that say whose
 * refcounts they are, and that none of them is needed to write them anew.  A
 * finding of it, unless 'findings' is NULL.
 */
extern void q2_find_unread_block (struct q2_findings *findings,
                                  const struct q2_geometry *geo, uint64_t idx,
                                  uint64_t host_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (2, 5), __cold__));

#endif /* QCOW2_CHECK_FINDINGS_H */
