/* SPDX-License-Identifier: BSD-3-Clause */
/* campaign.h - runs a workload, checks all states that a crash could leave,
 * and goes on from some of them.
 */
#ifndef CRASH_CAMPAIGN_H
#define CRASH_CAMPAIGN_H

#include "guest.h"

#include <stddef.h>

struct campaign {
  uint64_t seed;
  unsigned requests_percent;    /* of the workloads' numbers; 0: 100 */
  unsigned subsets;             /* see struct replay_spec */
  unsigned qemu_percent, read_percent; /* see struct verifier */
  unsigned crashes;             /* states in which the guest starts again */
  bool quiet;                   /* no CHECK fails because of a state */

  /* Results. */
  unsigned long shorts;         /* commits that needed one flush */
  unsigned long *spent;         /* commits that ran again with reserved space
                                   (host.h), or NULL */
  unsigned long states, looks, failures;
  char first[600];
};

extern const struct workload campaign_workloads[];
extern const size_t campaign_nr_workloads;

/* Adds to the counts in 'c'. */
extern void campaign_run (struct campaign *c, const struct workload *w);

#endif /* CRASH_CAMPAIGN_H */
