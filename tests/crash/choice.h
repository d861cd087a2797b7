/* SPDX-License-Identifier: BSD-3-Clause */
/* choice.h - a workload from a seed.
 */
#ifndef CRASH_CHOICE_H
#define CRASH_CHOICE_H

#include "guest.h"

struct choice {
  struct workload w;            /* points to what follows */
  char options[200], name[480];
};

/* Any version, cluster size, refcount width ..., any host; 'small': for a
 * crash test, which looks at all of the image again and again.
 */
extern void choose (struct choice *c, struct rng *rng, bool small);

#endif /* CRASH_CHOICE_H */
