/* SPDX-License-Identifier: BSD-3-Clause */
/* apart.h - work on a thread that belongs to no connection.
 */
#ifndef SHARE_APART_H
#define SHARE_APART_H

/* Call the function on a thread that belongs to no connection, and wait. */
extern void run_apart (void (*fn) (void *opaque), void *opaque);

#endif /* SHARE_APART_H */
