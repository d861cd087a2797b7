/* SPDX-License-Identifier: BSD-3-Clause */
/* jitter.h - makes threads lose the processor at the worst moments.
 *
 * For programs linked with $(JITTER_WRAP).
 */
#ifndef CRASH_JITTER_H
#define CRASH_JITTER_H

/* Sleep at one in 'often' operations on locks (0: never). */
extern void jitter (unsigned often);

#endif /* CRASH_JITTER_H */
