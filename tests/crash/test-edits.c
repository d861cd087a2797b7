/* SPDX-License-Identifier: BSD-3-Clause */
/* test-edits.c - changes of an image itself, done, interrupted and failing.
 *
 * Owns      nothing.
 * Method    each case of edits.h is done once, and QEMU and fsck.c judge the
 *           image, to which QEMU then writes.  Of each file that a crash could
 *           leave behind must hold that it is the old image or the new one,
 *           with at worst leaks, and that all snapshots read as before.  Then
 *           each request to the host fails once, and each allocation of
 *           memory.
 *
 *           Linked with a copy of the engine that has the bugs of base/plant.h
 *           built in, it is test-edits-planted, and must notice each of them.
 */
#include "config.h"

#include "base/plant.h"

#include "alloc_faults.h"
#include "edits.h"
#include "fsck.h"
#include "qemu.h"
#include "replay.h"
#include "seen.h"
#include "unit.h"

#include "base/be.h"

#include <errno.h>

#ifdef Q2_PLANTS
int q2_planted;
#endif


/* How often QEMU is asked. */
#ifdef Q2_PLANTS
#define QEMU_PERCENT 0
#else
#define QEMU_PERCENT 100
#endif

struct play {
  struct edit_scene s;
  struct fsck before;
  uint64_t *seen;               /* NR_SEEN hashes of states */
  struct rng rng;
  unsigned qemu_percent;
  unsigned long states, old, new, failures;
};

/* ---- States ------------------------------------------------------------ */

static void
ask_qemu (struct play *p, const struct state *state, bool new, bool dirty,
          bool clean)
{
  const struct edit_scene *const s = &p->s;
  const struct qemu_files files = {
    .options = s->image.qemu_options, .data = state->data,
    .data_size = state->data_size,
  };

  qemu_submit (state->bytes, state->size, &files,
               dirty ? QEMU_REPAIRED : clean ? QEMU_CLEAN : QEMU_SOUND,
               new ? s->after : s->image.disk,
               new ? s->c->size : s->c->recipe.disk_size, s->c->name);
}

static const char *
find_problem (struct play *p, const struct state *state, bool clean)
{
  struct edit_scene *const s = &p->s;
  const char *problem;
  struct fsck fsck;
  bool new;

  fsck_image (state->bytes, state->size, &fsck);
  if (!fsck.dirty && fsck.corruptions > 0)
    return "it is corrupt";
  problem = edit_scene_judge (s, state->bytes, state->size, state->data,
                              state->data_size, &new);
  if (problem != NULL)
    return problem;
  ++*(new ? &p->new : &p->old);
  if (clean && fsck.leaks > p->before.leaks)
    return "clusters are leaked";
  if (rng_below (&p->rng, 100) < p->qemu_percent)
    ask_qemu (p, state, new, fsck.dirty, clean && p->before.leaks == 0);
  return NULL;
}

static bool
look (void *opaque, const struct state *state)
{
  struct play *const p = opaque;
  const char *problem;

  if (!seen_is_new (p->seen, state->hash))
    return true;
  p->states++;
  problem = find_problem (p, state, false);
  if (problem == NULL)
    return true;
  if (p->failures++ == 0) {
    struct fsck fsck;

    fsck_image (state->bytes, state->size, &fsck);
    printf ("%s, %s: %s (%s)\n", p->s.c->name, state->how, problem,
            fsck.text);
    if (getenv ("CRASH_KEEP") != NULL)
      qemu_save (getenv ("CRASH_KEEP"), state->bytes, state->size);
  }
  return false;
}

/* The files as they are. */
static struct state
present (const struct edit_scene *s)
{
  return (struct state) {
    .bytes = s->h.bytes, .size = s->h.size, .data = s->data.bytes,
    .data_size = s->data.size, .how = "at the end",
  };
}

/* ---- Done -------------------------------------------------------------- */

/* What else QEMU must be able to do with it. */
static void
run_checks (const struct edit_scene *s)
{
  char path[300], command[2048];

  if (s->c->checks == NULL)
    return;
  qemu_save ("check.qcow2", s->h.bytes, s->h.size);
  qemu_path (path, sizeof path, "check.qcow2");
  snprintf (command, sizeof command, "set -e; i=%s; %s", path, s->c->checks);
  qemu_save ("check.sh", command, strlen (command));
  qemu_run (0, "sh check.sh >/dev/null");
}

/* How many refcount blocks an image has. */
static uint64_t
count_blocks (const unsigned char *bytes)
{
  const unsigned char *const table = bytes + load_be64 (bytes + 48);
  const uint64_t size =
    (uint64_t) load_be32 (bytes + 56) << load_be32 (bytes + 20);
  uint64_t n = 0;

  for (uint64_t i = 0; i < size; i += 8)
    n += load_be64 (table + i) != 0;
  return n;
}

static void
check_sizes (const struct edit_scene *s)
{
  const bool shrunk = s->c->size < s->c->recipe.disk_size;

  if (s->data.bytes != NULL && s->c->size != s->c->recipe.disk_size)
    CHECK (s->data.size >= s->c->size &&
           s->data.size < s->c->size + 16 * 4096);
  if (shrunk && s->c->device) {
    CHECK_EQ (s->h.size, s->h.spec.capacity);
    CHECK (2 * count_blocks (s->h.bytes) <= count_blocks (s->image.bytes) + 4);
  }
  else if (shrunk && s->c->recipe.snapshots == 0)
    CHECK (s->h.size <= s->image.size);
}

/* Returns whether it could be done at all. */
static bool
do_once (struct play *p)
{
  struct edit_scene *const s = &p->s;
  struct qcow2_error err;
  struct state state;
  const char *problem;

  edit_scene_reset (s);
  state = present (s);
  problem = find_problem (p, &state, false);
  if (!CHECK (problem == NULL)) {
    printf ("%s, before: %s\n", s->c->name, problem);
    return false;
  }
  p->old = 0;
  fsck_image (s->h.bytes, s->h.size, &p->before);
  host_record (&s->h);
  if (!CHECK (edit_scene_run (s, &err) == 0)) {
    printf ("%s: %s\n", s->c->name, err.text);
    return false;
  }
  state = present (s);
  p->qemu_percent = QEMU_PERCENT;
  problem = find_problem (p, &state, true);
  if (!CHECK (problem == NULL) || !CHECK (p->new == 1))
    printf ("%s: %s\n", s->c->name, problem ? problem : "nothing has changed");
  check_sizes (s);
  run_checks (s);
  return problem == NULL;
}

/* ---- Interrupted ------------------------------------------------------- */

/* Returns how many states were wrong. */
static unsigned long
interrupt (struct play *p)
{
  const struct replay_spec how = {
    .seed = 7, .all_subsets = 5, .subsets = 6, .prefix_percent = 100,
  };
  const unsigned long failures = p->failures;

  memset (p->seen, 0, NR_SEEN * sizeof *p->seen);
  p->qemu_percent = QEMU_PERCENT / 50;
  p->old = p->new = 0;
  replay (&p->s.h, &how, look, p);
  return p->failures - failures;
}

/* ---- Failing ----------------------------------------------------------- */

#ifndef Q2_PLANTS
/* QEMU writes to all of the new image, and we read it. */
static void
check_qemu_writes (struct edit_scene *s)
{
  char image[QEMU_IMAGE], path[300], data[300];
  unsigned char *bytes, *raw = NULL;
  uint64_t size, raw_size = 0;
  const char *problem;
  bool new;

  if (s->c->size == 0)
    return;
  qemu_save ("after.qcow2", s->h.bytes, s->h.size);
  qemu_path (path, sizeof path, "after.qcow2");
  qemu_path (data, sizeof data, "after.data");
  if (s->data.bytes != NULL)
    qemu_save ("after.data", s->data.bytes, s->data.size);
  qemu_run (0, "qemu-io -c 'write -P 0x5a 0 %" PRIu64 "' %s >/dev/null",
            s->c->size,
            qemu_image (image, sizeof image, path, s->image.qemu_options,
                        s->data.bytes != NULL ? data : NULL));
  bytes = qemu_load ("after.qcow2", &size);
  if (s->data.bytes != NULL)
    raw = qemu_load ("after.data", &raw_size);
  memset (s->after, 0x5a, s->c->size);
  if (s->c->is_new != NULL)
    memset (s->image.disk, 0x5a, s->c->size);
  problem = edit_scene_judge (s, bytes, size, raw, raw_size, &new);
  if (!CHECK (problem == NULL))
    printf ("after QEMU has written: %s\n", problem);
  free (bytes);
  free (raw);
}

static void
check_after_failure (struct play *p, unsigned long n)
{
  const struct state state = present (&p->s);
  const char *const problem = find_problem (p, &state, false);

  if (!CHECK (problem == NULL))
    printf ("%s, fault %lu: %s\n", p->s.c->name, n, problem);
}

static void
fail_requests (struct play *p, unsigned step)
{
  struct edit_scene *const s = &p->s;
  struct qcow2_error err;
  bool failed = true;

  p->qemu_percent = 1;
  for (unsigned long n = 1; failed && n < 100000;
       n += n < 40 ? 1 : 1 + rng_below (&p->rng, step)) {
    edit_scene_reset (s);
    host_fail (&s->h, 0x7f, n, n % 3 == 0 ? 100000 : 0,
               n % 2 ? EIO : ENOSPC);
    (void) edit_scene_run (s, &err);
    failed = s->h.failed > 0;
    host_fail (&s->h, 0, 0, 0, 0);
    check_after_failure (p, n);
  }
}

static void
fail_memory (struct play *p, unsigned step)
{
  struct edit_scene *const s = &p->s;
  struct qcow2_error err;
  unsigned long most;

  qemu_wait ();
  p->qemu_percent = 0;
  s->no_trim = true;
  edit_scene_reset (s);
  alloc_count = 0;
  CHECK (edit_scene_run (s, &err) == 0);
  most = alloc_count;
  for (unsigned long n = 1; n <= most;
       n += 1 + rng_below (&p->rng, step)) {
    long live;
    int r;

    edit_scene_reset (s);
    live = alloc_live;
    alloc_count = 0;
    alloc_fail_at = n;
    r = edit_scene_run (s, &err);
    alloc_fail_at = 0;
    CHECK (r == 0 || err.text[0] != '\0');
    if (!CHECK_EQ (alloc_live, live))
      printf ("%s, allocation %lu is leaked\n", s->c->name, n);
    check_after_failure (p, n);
  }
  s->no_trim = false;
}
#endif

/* ---- All --------------------------------------------------------------- */

/* Returns how many states after a crash were wrong. */
static unsigned long
play (const struct edit_case *c, bool only_crashes)
{
  struct play p = { .rng = { 11 } };
  unsigned long failures = 0;

  unit_context ("%s", c->name);
  if (!recipe_is_possible (&c->recipe))
    return 0;
  p.seen = calloc (NR_SEEN, sizeof *p.seen);
  REQUIRE (p.seen != NULL);
  edit_scene_init (&p.s, c, 5);
  if (do_once (&p)) {
    failures = interrupt (&p);
#ifdef Q2_PLANTS
    (void) only_crashes;
#else
    CHECK_EQ (failures, 0);
    CHECK (p.old > 0 && p.new > 0);
    printf ("%s: %lu states, %lu old, %lu new\n", c->name, p.states, p.old,
            p.new);
    fflush (stdout);
    if (!only_crashes) {
      fail_requests (&p, 60);
      fail_memory (&p, 40);
      edit_scene_reset (&p.s);
      REQUIRE (edit_scene_run (&p.s, &(struct qcow2_error) { 0 }) == 0);
      check_qemu_writes (&p.s);
    }
#endif
  }
  qemu_wait ();
  edit_scene_free (&p.s);
  free (p.seen);
  return failures;
}

#ifdef Q2_PLANTS
static const struct {
  enum q2_plant nr;
  const char *cases;            /* what their names begin with */
} plants[] = {
  { Q2_PLANT_EARLY_SWITCH, "grow" },
  { Q2_PLANT_EARLY_SWITCH, "shrink, bitmaps" },
  { Q2_PLANT_EARLY_SWITCH, "rebase" },
  { Q2_PLANT_EARLY_SWITCH, "empty" },
  { Q2_PLANT_EARLY_SWITCH, "version 2, zeros above" },
  { Q2_PLANT_EARLY_SWITCH, "wider refcounts" },
  { Q2_PLANT_EARLY_SWITCH, "complete" },
  { Q2_PLANT_LET_GO_EARLY, "grow" },
  { Q2_PLANT_LET_GO_EARLY, "shrink, bitmaps" },
  { Q2_PLANT_LET_GO_EARLY, "empty" },
  { Q2_PLANT_LET_GO_EARLY, "version 2, zeros" },
  { Q2_PLANT_CUT_EARLY, "shrink" },
  { Q2_PLANT_DROP_EARLY, "grow, a snapshot" },
  { Q2_PLANT_DROP_EARLY, "shrink by" },
};

/* Each in some case. */
static void
find_plants (void)
{
  for (size_t i = 0; i < sizeof plants / sizeof plants[0]; ++i) {
    const char *const cases = plants[i].cases;
    unsigned long failures = 0;

    q2_planted = (int) plants[i].nr;
    for (size_t n = 0; failures == 0 && n < nr_edit_cases; ++n)
      if (strncmp (edit_cases[n].name, cases, strlen (cases)) == 0)
        failures = play (&edit_cases[n], true);
    unit_context ("plant %d, %s", q2_planted, cases);
    CHECK (failures > 0);
  }
}
#endif

int
main (int argc, char *argv[])
{
  qemu_init ();
#ifdef Q2_PLANTS
  (void) argc;
  (void) argv;
  find_plants ();
#else
  for (size_t i = 0; i < nr_edit_cases; ++i)
    if (argc < 2 || strstr (edit_cases[i].name, argv[1]) != NULL)
      play (&edit_cases[i], false);
#endif
  qemu_finish ();
  return unit_finish ();
}
