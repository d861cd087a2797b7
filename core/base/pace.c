/* SPDX-License-Identifier: BSD-3-Clause */
/* pace.c - long work that nobody waits for leaves the processor to others.
 *
 * Owns      nothing.
 * Locks     none.
 */
#include "config.h"

#include "base/pace.h"

#include "base/bits.h"

#include <time.h>

#define MAX_REST_NS UINT64_C (1000000000)

static uint64_t
cpu_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

void
q2_pace_begin (struct q2_pace *p, struct q2_gate *gate)
{
  *p = (struct q2_pace) { q2_gate_begun (gate), cpu_ns () };
}

uint64_t
q2_pace_used (const struct q2_pace *p)
{
  return cpu_ns () - p->cpu_ns;
}

void
q2_pace_rest (struct q2_pace *p, struct q2_gate *gate, unsigned times)
{
  const uint64_t rest = q2_min (q2_pace_used (p) * times, MAX_REST_NS - 1);

  if (q2_gate_begun (gate) != p->begun)
    nanosleep (&(struct timespec) { .tv_nsec = (long) rest }, NULL);
  q2_pace_begin (p, gate);
}
