/* SPDX-License-Identifier: BSD-3-Clause */
/* test-crash.c - cuts the power at every moment.
 *
 * Usage: test-crash [--long] [--seed N] [--runs N] [WORKLOAD...]
 *
 * Runs each workload once (--runs: so often, with other seeds) and looks at
 * all that a crash could have left behind; CRASH_KEEP=FOLDER keeps images
 * in which something is wrong.
 */
#include "config.h"

#include "campaign.h"
#include "qemu.h"
#include "unit.h"

#include <getopt.h>
#include <time.h>

static double
seconds (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static bool
is_wanted (const char *name, int argc, char *argv[])
{
  if (argc == 0)
    return true;
  for (int i = 0; i < argc; ++i)
    if (strcmp (name, argv[i]) == 0)
      return true;
  return false;
}

static void
run (const struct campaign *options, const struct workload *w,
     unsigned long *ret_states)
{
  struct campaign c = *options;
  const double start = seconds ();

  campaign_run (&c, w);
  printf ("%-22s seed %-6" PRIu64 " %7lu states %7lu looks %7.2f s%s\n",
          w->name, c.seed, c.states, c.looks, seconds () - start,
          c.failures ? "  FAILED" : "");
  fflush (stdout);
  *ret_states += c.states;
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "long", no_argument, NULL, 'l' },
    { "seed", required_argument, NULL, 's' },
    { "runs", required_argument, NULL, 'r' },
    { NULL, 0, NULL, 0 },
  };
  struct campaign c = {
    .seed = 1, .requests_percent = 40, .subsets = 12, .qemu_percent = 100,
    .read_percent = 5, .crashes = 1,
  };
  unsigned long states = 0;
  uint64_t first;
  unsigned runs = 1;
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
    case 'l':
      c.requests_percent = 100;
      c.subsets = 60;
      c.qemu_percent = 20;
      c.crashes = 4;
      break;
    case 's':
      c.seed = strtoull (optarg, NULL, 0);
      break;
    case 'r':
      runs = (unsigned) strtoul (optarg, NULL, 0);
      break;
    default:
      return 2;
    }
  if (getenv ("SANITIZER") != NULL && strcmp (getenv ("SANITIZER"), "no") != 0)
    c.qemu_percent = c.qemu_percent / 10 + 1;
  qemu_init ();
  first = c.seed;
  for (unsigned i = 0; i < runs; ++i)
    for (size_t j = 0; j < campaign_nr_workloads; ++j)
      if (is_wanted (campaign_workloads[j].name, argc - optind,
                     argv + optind)) {
        c.seed = first + i;
        run (&c, &campaign_workloads[j], &states);
      }
  qemu_wait ();
  printf ("%lu states, %lu looked at by qemu-img check, %lu read by it\n",
          states, qemu_checks (), qemu_reads ());
  qemu_finish ();
  return unit_finish ();
}
