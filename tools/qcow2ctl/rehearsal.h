/* SPDX-License-Identifier: BSD-3-Clause */
/* rehearsal.h - a file that can be written to, and stays as it is: what is
 * written is kept in memory.
 */
#ifndef REHEARSAL_H
#define REHEARSAL_H

#include "qcow2.h"

struct rehearsal;

/* Over the bytes that 'below' reaches, which must stay there.  'grows': the
 * real file could.  What is written takes at most 'max_bytes' of memory; a
 * write that needs more fails, and all after it.  NULL: no memory.
 */
extern struct rehearsal *rehearsal_new (const struct qcow2_io *below,
                                        bool grows, uint64_t max_bytes)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void rehearsal_free (struct rehearsal *rehearsal);

/* An I/O handle to the file as it would be now; valid until the next call, and
 * to be used by one thread at a time.
 */
extern const struct qcow2_io *rehearsal_io (struct rehearsal *rehearsal)
  __attribute__ ((__nonnull__));

/* Too much was written. */
extern bool rehearsal_is_full (const struct rehearsal *rehearsal)
  __attribute__ ((__nonnull__));

#endif /* REHEARSAL_H */
