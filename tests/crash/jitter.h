/* SPDX-License-Identifier: BSD-3-Clause */
/* jitter.h - threads that lose the processor at the worst moments.
 *
 * For programs linked with $(JITTER_WRAP).
 */
#ifndef CRASH_JITTER_H
#define CRASH_JITTER_H

/* Sleep at one in so many mutexes (0: never). */
extern void jitter (unsigned often);

#endif /* CRASH_JITTER_H */
