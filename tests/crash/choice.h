/* SPDX-License-Identifier: BSD-3-Clause */
/* choice.h - chooses a workload by a seed. */
#ifndef CRASH_CHOICE_H
#define CRASH_CHOICE_H

#include "guest.h"

#define CHOICE_LAYERS 3

struct choice {
  struct workload w;            /* points to what follows */
  char options[200], name[800];
  struct recipe below[CHOICE_LAYERS];   /* the uppermost first */
  char below_options[CHOICE_LAYERS][200];
};

/* Any version, cluster size, refcount width, encryption ..., any host, with or
 * without backing files and a data file; 'small': for a crash test, which
 * reads all of the image again and again.  'c' must not move.
 */
extern void choose (struct choice *c, struct rng *rng, bool small);

#endif /* CRASH_CHOICE_H */
