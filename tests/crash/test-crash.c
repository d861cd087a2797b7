/* SPDX-License-Identifier: BSD-3-Clause */
/* test-crash.c - cuts the power at every moment.
 *
 * Usage: test-crash [--long] [--seed N] [--runs N] [--random N]
 *                   [--variant NAME|all|none] [WORKLOAD...]
 *
 * Runs each workload once (--runs: so often, with other seeds), and one
 * variant of it (--variant: that one, all, or none), then some chosen by a
 * seed (--random: so many), and checks all states that a crash could leave.
 * CRASH_KEEP=FOLDER keeps images with errors.
 */
#include "config.h"

#include "campaign.h"
#include "choice.h"
#include "qemu.h"
#include "unit.h"
#include "variants.h"

#include <getopt.h>
#include <time.h>

static double
seconds (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* make check with a sanitizer: fewer runs, to save time. */
static bool
is_slow (void)
{
  const char *const sanitizer = getenv ("SANITIZER");

  return sanitizer != NULL && strcmp (sanitizer, "no") != 0;
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

/* Each opening of such an image costs some milliseconds. */
static bool
is_expensive (const struct workload *w)
{
  const struct recipe *r = &w->recipe;

  while (r != NULL && r->encryption != QCOW2_ENCRYPTION_LUKS)
    r = r->below;
  return r != NULL;
}

/* Commits of one flush are what it is for, and nothing keeps it from them: not
 * chance, either, as with several clients, or clusters of a snapshot.
 */
static bool
must_be_short (const struct workload *w)
{
  const struct recipe *const r = &w->recipe;

  return strncmp (w->name, "short-", 6) == 0 && r->below == NULL &&
    r->snapshots == 0 &&
    r->encryption == QCOW2_ENCRYPTION_NONE && !r->data_file &&
    w->host.flaky_tables == 0 && w->clients <= 1;
}

static void
run (const struct campaign *options, const struct workload *w,
     unsigned long *ret_states)
{
  struct campaign c = *options;
  const double start = seconds ();

  if (is_expensive (w)) {
    c.requests_percent = c.requests_percent / 2 + 1;
    c.subsets = c.subsets / 2 + 1;
  }
  campaign_run (&c, w);
  /* Where one flush is enough, that is what is tried. */
  if (must_be_short (w))
    CHECK (c.shorts > 0);
  printf ("%-35s seed %-6" PRIu64 " %7lu states %7lu looks %7.2f s%s\n",
          w->name, c.seed, c.states, c.looks, seconds () - start,
          c.failures ? "  FAILED" : "");
  fflush (stdout);
  *ret_states += c.states;
}

static void
run_variant (const struct campaign *options, const struct workload *w,
             size_t which, unsigned long *ret_states)
{
  struct variant v;

  if (variant_make (&v, w, which))
    run (options, &v.w, ret_states);
}

/* The one of that name, all, or one that depends on the seed. */
static void
run_variants (const struct campaign *options, size_t workload,
              const char *wanted, unsigned long *ret_states)
{
  const struct workload *const w = &campaign_workloads[workload];

  for (size_t i = 0; i < nr_variants; ++i)
    if (wanted == NULL ? (workload + options->seed) % nr_variants == i :
        strcmp (wanted, "all") == 0 || strcmp (wanted, variant_names[i]) == 0)
      run_variant (options, w, i, ret_states);
}

static void
run_random (const struct campaign *options, unsigned long *ret_states)
{
  struct rng rng = { options->seed };
  struct choice choice;

  choose (&choice, &rng, true);
  choice.w.clients = rng_below (&rng, 3) == 0 ?
    2 + (unsigned) rng_below (&rng, 4) : 1;
  choice.w.host.delay_us = choice.w.clients > 1 ? 60 : 0;
  choice.w.requests = 160 / choice.w.clients;
  run (options, &choice.w, ret_states);
}

/* What the command line asks for. */
struct request {
  struct campaign c;
  const char *variant;          /* NULL: all */
  unsigned runs, randoms;
  char **names;                 /* of workloads */
  int nr_names;                 /* 0: all */
};

/* Parse the command line; false if it is wrong. */
static bool
parse (struct request *q, int argc, char *argv[])
{
  static const struct option options[] = {
    { "long", no_argument, NULL, 'l' },
    { "seed", required_argument, NULL, 's' },
    { "runs", required_argument, NULL, 'r' },
    { "random", required_argument, NULL, 'n' },
    { "variant", required_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
  };
  int opt;

  *q = (struct request) {
    .c = {
      .seed = 1, .requests_percent = 40, .subsets = 12, .qemu_percent = 100,
      .read_percent = 5, .crashes = 1,
    },
    .runs = 1, .randoms = 40,
  };
  if (is_slow ()) {
    q->c.requests_percent = 15;
    q->c.subsets = 6;
    q->c.qemu_percent = 10;
    q->randoms = 10;
  }
  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
    case 'l':
      q->c.requests_percent = 100;
      q->c.subsets = 60;
      q->c.qemu_percent = 20;
      q->c.crashes = 4;
      break;
    case 's':
      q->c.seed = strtoull (optarg, NULL, 0);
      break;
    case 'r':
      q->runs = (unsigned) strtoul (optarg, NULL, 0);
      break;
    case 'n':
      q->randoms = (unsigned) strtoul (optarg, NULL, 0);
      break;
    case 'v':
      q->variant = optarg;
      break;
    default:
      return false;
    }
  q->names = argv + optind;
  q->nr_names = argc - optind;
  return true;
}

int
main (int argc, char *argv[])
{
  struct request q;
  unsigned long states = 0, spent = 0;
  uint64_t first;

  if (!parse (&q, argc, argv))
    return 2;
  q.c.spent = &spent;
  qemu_init ();
  first = q.c.seed;
  for (unsigned i = 0; i < q.runs; ++i)
    for (size_t j = 0; j < campaign_nr_workloads; ++j)
      if (is_wanted (campaign_workloads[j].name, q.nr_names, q.names)) {
        q.c.seed = first + i;
        if (q.variant == NULL || strcmp (q.variant, "none") == 0)
          run (&q.c, &campaign_workloads[j], &states);
        run_variants (&q.c, j, q.variant, &states);
      }
  /* A commit has run again with reserved space. */
  CHECK (spent > 0 || !is_wanted ("reserve", q.nr_names, q.names));
  for (unsigned i = 0; i < q.randoms && unit_failures () == 0; ++i) {
    q.c.seed = first + i;
    run_random (&q.c, &states);
  }
  qemu_wait ();
  printf ("%lu states, %lu looked at by qemu-img check, %lu read by it\n",
          states, qemu_checks (), qemu_reads ());
  qemu_finish ();
  return unit_finish ();
}
