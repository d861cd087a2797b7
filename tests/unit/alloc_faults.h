/* SPDX-License-Identifier: BSD-3-Clause */
/* alloc_faults.h - allocations that fail on demand, and are counted, so that
 * a leak shows without a sanitizer.
 *
 * For programs linked with $(ALLOC_WRAP), which puts these wrappers between
 * the engine and the C library.  Any number of threads may allocate.
 */
#ifndef UNIT_ALLOC_FAULTS_H
#define UNIT_ALLOC_FAULTS_H

#include <stdbool.h>

extern _Atomic unsigned long alloc_count;       /* so far; may be set to 0 */
extern _Atomic unsigned long alloc_fail_at;     /* this one fails; 0: none */
extern _Atomic bool alloc_fail_on;      /* and all after it */
extern _Atomic long alloc_live;         /* not freed yet */

#endif /* UNIT_ALLOC_FAULTS_H */
