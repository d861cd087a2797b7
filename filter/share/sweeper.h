/* SPDX-License-Identifier: BSD-3-Clause */
/* sweeper.h - the thread that gives back the memory of tables that nobody has
 * read for a while (qcow2-cache-clean-interval).
 */
#ifndef SHARE_SWEEPER_H
#define SHARE_SWEEPER_H

/* Every so many seconds; 0: there is no thread.  If there can be none that is
 * logged.
 */
extern void sweeper_start (unsigned seconds);
/* It has ended when this returns. */
extern void sweeper_stop (void);

#endif /* SHARE_SWEEPER_H */
