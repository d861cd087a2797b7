/* SPDX-License-Identifier: BSD-3-Clause */
/* test-planted.c - proves that the crash tests find bugs.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h; each is
 * switched on in turn, and some state must show it.  Without a bug the same
 * campaigns find nothing.
 *
 * Owns      the switch, q2_planted.
 * Method    a process for each bug, since it may also trigger an assertion of
 *           the engine.
 */
#include "config.h"

#include "base/plant.h"
#include "campaign.h"
#include "qemu.h"
#include "unit.h"
#include "variants.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int q2_planted;

#define MAX_RUNS 6
#define MAX_RARE_RUNS 60
/* What threads do differs from run to run: a bug of theirs is looked for as
   long as it takes. */
#define HUNT_SECONDS 150
#define MAX_SECONDS 300
#define CAUGHT 9                /* exit status of a child */

static const struct plant {
  int nr;
  const char *name;
  const char *workloads[4];     /* where to look, NULL: no more */
  const char *variant;          /* of each of these; NULL: as they are */
  uint64_t rare;                /* only few seeds show it, such as this one; 0:
                                   most do */
} plants[] = {
  { 0, "no bug",
    { "storm-4k", "tiny-64-bit", "threads-4k", "snapshot-4k" }, NULL, 0 },
  { Q2_PLANT_SKIP_FLUSH_2A, "no flush after step 2a",
    { "storm-4k", "random-4k" }, NULL, 0 },
  { Q2_PLANT_SKIP_FLUSH_2B, "no flush after step 2b",
    { "tiny-64-bit", "refcount-table" }, NULL, 0 },
  { Q2_PLANT_EARLY_RELEASE, "space is released before step 3 is flushed",
    { "storm-4k", "fixed-tight" }, NULL, 0 },
  { Q2_PLANT_EARLY_L1, "L1 entries are written in step 2a",
    { "tiny-64-bit", "snapshot-512" }, NULL, 0 },
  { Q2_PLANT_REUSE, "space is used again before the commit",
    { "storm-4k", "fixed-tight" }, NULL, 0 },
  { Q2_PLANT_RELEASE_GATHERING, "a commit releases what the next one lets go",
    { "threads-4k", "threads-tight", "threads-hot" }, NULL, 0 },
  { Q2_PLANT_JOIN_RUNNING, "a flush joins the commit that is running",
    { "threads-4k", "threads-hot", "threads-growth" }, NULL, 0 },
  { 0, "no bug, and a data file", { "storm-4k", "random-4k" }, "data", 0 },
  { Q2_PLANT_SKIP_DATA_FLUSH, "the data file is not flushed in step 2a",
    { "storm-4k", "random-4k" }, "data", 0 },
  { Q2_PLANT_SKIP_DATA_FLUSH, "nor is a raw one",
    { "storm-4k", "random-4k" }, "data-raw", 0 },
  { Q2_PLANT_TRIM_DATA, "a data file is trimmed before its entries are gone",
    { "storm-4k", "random-4k" }, "data", 0 },
  { Q2_PLANT_FORGET_BELOW, "zeros come with a write, not what is below",
    { "random-4k", "storm-4k" }, "image", 0 },
  { Q2_PLANT_ZEROS_ARE_ZEROS, "zeros in the file are zeros, if encrypted",
    { "random-4k", "sequential-4k" }, "aes", 0 },
  { 0, "no bug, and compression", { "compress-4k", "compress-hot" }, NULL, 0 },
  { Q2_PLANT_COUNT_ONCE, "two streams in a cluster count once",
    { "compress-sequential" }, NULL, 0 },
  { Q2_PLANT_FORGET_DECOMPRESSED, "decompressed clusters outlive their streams",
    { "compress-hot", "threads-compress" }, NULL, 0 },
  { 0, "no bug, and checks while requests run",
    { "checked-threads", "checked-4k" }, NULL, 0 },
  { 0, "no bug, and repairs of leaks", { "checked-leaks" }, NULL, 0 },
  { Q2_PLANT_OWN_UNMARKED, "entries get COPIED without the dirty bit",
    { "checked-leaks" }, NULL, 0 },
  { Q2_PLANT_FORGET_TOUCH, "a check does not learn of changes",
    { "checked-threads" }, NULL, 0 },
  { Q2_PLANT_FORGET_PENDING, "a check frees what is let go, and not committed",
    { "checked-4k", "checked-threads" }, NULL, 0 },
  { 0, "no bug, and a refcount table that moves on a host that fails",
    { "flaky-refcount-table" }, NULL, 0 },
  { Q2_PLANT_REWRITE_LIVE_TABLE, "a live refcount table is written at once",
    { "flaky-refcount-table" }, NULL, 170 },
  { Q2_PLANT_REWRITE_DOUBTFUL_TABLE, "so is one that may be live",
    { "flaky-refcount-table" }, NULL, 113 },
  { Q2_PLANT_FORGET_TABLE, "a refcount table that is not written is forgotten",
    { "flaky-refcount-table" }, NULL, 0 },
  { 0, "no bug, and commits of one flush",
    { "short-4k", "short-512", "short-lazy", "short-flaky" }, NULL, 0 },
  { 0, "no bug, and such commits of trims and of lazy images",
    { "short-trims", "short-trims-threads", "short-lazy-flaky",
      "short-lazy-snapshot" }, NULL, 0 },
  { 0, "no bug, and such commits over a layer", { "short-4k" }, "image", 0 },
  { Q2_PLANT_FRESH_OLD, "an entry over a layer is fresh",
    { "short-4k", "short-512" }, "image", 0 },
  { Q2_PLANT_FRESH_REUSED, "a cluster that was in use is fresh",
    { "short-storm", "short-4k" }, NULL, 0 },
  { Q2_PLANT_FRESH_NOISE, "an encrypted cluster is fresh",
    { "short-4k", "short-512" }, "aes", 0 },
  { Q2_PLANT_FRESH_GROWTH, "a file need not be durably as large",
    { "short-lazy" }, NULL, 0 },
  { Q2_PLANT_FRESH_TABLE, "an L2 table need not come before its L1 entry",
    { "lazy-512-tables" }, NULL, 0 },
  { Q2_PLANT_COVER_ALL, "no refcount is urgent",
    { "short-4k", "short-512", "short-storm" }, NULL, 0 },
  { Q2_PLANT_COVER_ALL, "nor without any that is raised ahead",
    { "short-trims", "storm-4k" }, NULL, 0 },
  { Q2_PLANT_COVER_FREED, "a covered cluster is written as free",
    { "short-storm", "short-4k" }, NULL, 0 },
  { Q2_PLANT_LAZY_CLEAN, "the dirty bit is cleared before the last commit",
    { "short-lazy", "lazy" }, NULL, 0 },
  { Q2_PLANT_LAZY_UNMARKED, "the dirty bit is not set first",
    { "short-lazy", "short-lazy-512" }, NULL, 0 },
  { Q2_PLANT_SKIP_REPAIR, "what was not closed is not repaired",
    { "short-lazy", "short-lazy-512" }, NULL, 0 },
  { Q2_PLANT_COVER_TAKEN, "what was raised ahead and taken is given back",
    { "short-4k", "short-512", "short-storm" }, NULL, 0 },
  { Q2_PLANT_FORGET_FLAGS, "a commit that fails forgets what the next one is",
    { "short-flaky" }, NULL, 0 },
};

#define NR_PLANTS (sizeof plants / sizeof plants[0])

static const struct workload *
find (const char *name)
{
  for (size_t i = 0; i < campaign_nr_workloads; ++i)
    if (strcmp (campaign_workloads[i].name, name) == 0)
      return &campaign_workloads[i];
  abort ();
}

static void
run_one (struct campaign *c, const struct plant *plant,
         const struct workload *w)
{
  static struct variant v;
  size_t i = 0;

  if (plant->variant == NULL) {
    campaign_run (c, w);
    return;
  }
  while (strcmp (variant_names[i], plant->variant) != 0)
    ++i;
  if (CHECK (variant_make (&v, w, i) || !qcow2_has_nettle ()))
    campaign_run (c, &v.w);
}

/* Do the clients of one of its workloads run side by side? */
static bool
has_threads (const struct plant *plant)
{
  for (unsigned i = 0; i < 4 && plant->workloads[i] != NULL; ++i)
    if (find (plant->workloads[i])->clients > 1)
      return true;
  return false;
}

/* Run the campaigns until one finds something. */
static int
hunt (const struct plant *plant, unsigned runs)
{
  const time_t until = time (NULL) +
    (plant->nr != 0 && has_threads (plant) ? HUNT_SECONDS : 0);
  /* Failures of the parent are ours as well: it may have missed a bug. */
  const unsigned long before = unit_failures ();

  q2_planted = plant->nr;
  qemu_init ();
  for (unsigned run = 0; run < runs || time (NULL) < until; ++run)
    for (unsigned i = 0; i < 4 && plant->workloads[i] != NULL; ++i) {
      struct campaign c = {
        .seed = (plant->rare ? plant->rare : 100) + run,
        .requests_percent = 60, .subsets = 30, .quiet = true,
        .crashes = plant->nr == Q2_PLANT_SKIP_REPAIR ? 2 : 0,
      };

      run_one (&c, plant, find (plant->workloads[i]));
      if (c.failures > 0) {
        printf ("%s: found after %u runs, %lu states: %s\n", plant->name,
                run + 1, c.states, c.first);
        fflush (stdout);
        return CAUGHT;
      }
      /* Or the clients have noticed. */
      if (plant->nr != 0 && unit_failures () > before) {
        printf ("%s: noticed in run %u\n", plant->name, run + 1);
        fflush (stdout);
        return CAUGHT;
      }
    }
  return unit_failures () > before ? 1 : 0;
}

/* Its messages are expected, so they are dropped. */
static int
hunt_in_child (const struct plant *plant, unsigned runs)
{
  const pid_t pid = fork ();
  int status;

  REQUIRE (pid != -1);
  if (pid == 0) {
    alarm (MAX_SECONDS);
    if (plant->nr != 0) {
      const int null = open ("/dev/null", O_WRONLY);

      dup2 (null, 2);
    }
    status = hunt (plant, runs);
    qemu_finish ();
    _exit (status);
  }
  while (waitpid (pid, &status, 0) == -1)
    REQUIRE (errno == EINTR);
  if (WIFSIGNALED (status))
    printf ("%s: ended by signal %d\n", plant->name, WTERMSIG (status));
  return WIFEXITED (status) ? WEXITSTATUS (status) : 128;
}

int
main (int argc, char *argv[])
{
  for (size_t i = 0; i < NR_PLANTS; ++i) {
    const struct plant *const plant = &plants[i];
    int status;

    if (argc > 1 && atoi (argv[1]) != plant->nr)
      continue;
    fflush (stdout);
    status = hunt_in_child (plant, plant->rare ? MAX_RARE_RUNS :
                            plant->nr ? MAX_RUNS : 2);
    if (status == UNIT_SKIP)
      return UNIT_SKIP;
    unit_check (status == (plant->nr ? CAUGHT : 0), __FILE__, __LINE__,
                "%s: exit status %d", plant->name, status);
  }
  return unit_finish ();
}
