/* SPDX-License-Identifier: BSD-3-Clause */
/* variants.h - the same clients on overlays, encrypted images, and images with
 * a data file.
 */
#ifndef CRASH_VARIANTS_H
#define CRASH_VARIANTS_H

#include "guest.h"

/* Large; must not move while it is in use. */
struct variant {
  struct workload w;            /* points to what follows */
  struct recipe below[3];       /* the uppermost first */
  char name[560];
};

extern const char *const variant_names[];
extern const size_t nr_variants;

/* Returns false if the image of this workload cannot be of that kind. */
extern bool variant_make (struct variant *v, const struct workload *w,
                          size_t which);

#endif /* CRASH_VARIANTS_H */
