/* SPDX-License-Identifier: BSD-3-Clause */
/* error.h - making and prefixing struct qcow2_error.
 *
 * Every error of the core is made by a q2_fail function, which returns -1.
 * Callers may prefix an error on its way up; they do not replace it.
 */
#ifndef QCOW2_BASE_ERROR_H
#define QCOW2_BASE_ERROR_H

#include "qcow2.h"

#include <stdarg.h>

/* Fill in *err with the errno that belongs to the kind; returns -1. */
extern int q2_fail (struct qcow2_error *err, enum qcow2_error_kind kind,
                    uint64_t host_off, const char *fmt, ...)
  __attribute__ ((__nonnull__ (1, 4), __format__ (printf, 4, 5), __cold__));

/* The same, with what to do about it. */
extern int q2_fail_advise (struct qcow2_error *err,
                           enum qcow2_error_kind kind,
                           enum qcow2_advice advice, uint64_t host_off,
                           const char *fmt, ...)
  __attribute__ ((__nonnull__ (1, 5), __format__ (printf, 5, 6), __cold__));

/* The same for a failed host request: kind IO and the given errno (> 0). */
extern int q2_fail_io (struct qcow2_error *err, int errnum,
                       uint64_t host_off, const char *fmt, ...)
  __attribute__ ((__nonnull__ (1, 4), __format__ (printf, 4, 5), __cold__));

/* Out of memory while making 'what'. */
extern int q2_fail_nomem (struct qcow2_error *err, const char *what)
  __attribute__ ((__nonnull__, __cold__));

/* A change has failed with *err: note what is known of it, and put that in
 * words, of at most 300 bytes, and ": " before the text; what does not fit
 * then is cut off at its end.  Returns -1.
 */
extern int q2_fail_outcome (struct qcow2_error *err,
                            enum qcow2_outcome outcome, const char *words)
  __attribute__ ((__nonnull__, __cold__));

/* The host could not read something, and nothing else would help with that,
 * such as another I/O handle; that refcounts can be written anew does not.
 */
static inline bool
q2_is_medium_fault (const struct qcow2_error *err)
{
  return err->kind == QCOW2_ERR_IO &&
    (err->advice == QCOW2_ADVICE_NONE || err->advice == QCOW2_ADVICE_REBUILD);
}

/* The same, of refcounts that were wanted.  Who asked for them may have had to
 * write and flush for that: an error there is not one of these.
 */
static inline bool
q2_is_unread_refcount (const struct qcow2_error *err)
{
  return err->kind == QCOW2_ERR_IO && err->advice == QCOW2_ADVICE_REBUILD;
}

/* Make a printable string of 'len' bytes that came from an image: control
 * characters, quotes, backslashes and non-ASCII bytes become \xNN.  A string
 * that does not fit ends in "...".  'size' is the size of 'out', at least 8.
 * Returns 'out'.
 */
extern const char *q2_printable (char *out, size_t size, const void *bytes,
                                 size_t len)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_BASE_ERROR_H */
