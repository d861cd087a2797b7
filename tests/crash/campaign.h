/* SPDX-License-Identifier: BSD-3-Clause */
/* campaign.h - a workload, all that a crash could have made of it, and what
 * comes after.
 */
#ifndef CRASH_CAMPAIGN_H
#define CRASH_CAMPAIGN_H

#include "guest.h"

#include <stddef.h>

struct campaign {
  uint64_t seed;
  unsigned requests_percent;    /* of what the workloads say; 0: 100 */
  unsigned subsets;             /* see struct replay_spec */
  unsigned qemu_percent, read_percent; /* see struct verifier */
  unsigned crashes;             /* states in which the guest starts again */
  bool quiet;                   /* no CHECK fails because of a state */

  /* What came of it. */
  unsigned long *spent;         /* counts the commits that ran again with what
                                   was kept for them (host.h); NULL: nobody
                                   wants to know */
  unsigned long states, looks, failures;
  char first[600];
};

extern const struct workload campaign_workloads[];
extern const size_t campaign_nr_workloads;

/* Adds to the counts in 'c'. */
extern void campaign_run (struct campaign *c, const struct workload *w);

#endif /* CRASH_CAMPAIGN_H */
