/* SPDX-License-Identifier: BSD-3-Clause */
/* campaign.c - see campaign.h.
 *
 * Owns      the course of a campaign: an image, clients, a clean end; then a
 *           check of every state of the log; then, from a few of the states,
 *           as after a crash, the same again.
 */
#include "config.h"

#include "campaign.h"

#include "qemu.h"
#include "tag.h"
#include "unit.h"
#include "verify.h"

#define MAX_CRASHES 8

/* A state that is kept. */
struct crash {
  unsigned char *bytes, *data, *disk;
  uint64_t size, data_size;
};

struct course {
  struct campaign *c;
  const struct workload *w;
  struct recipe_image *image;   /* the initial image */
  uint64_t seed;
  struct guest guest;
  struct verifier verifier;
  struct rng rng;
  unsigned long nr_looked;
  struct crash crashes[MAX_CRASHES];
  unsigned nr_crashes, max_crashes;
};

static void *
copy_of (const void *bytes, uint64_t size)
{
  void *const p = malloc (size);

  REQUIRE (p != NULL);
  memcpy (p, bytes, size);
  return p;
}

static void
crash_free (struct crash *crash)
{
  free (crash->bytes);
  free (crash->data);
  free (crash->disk);
}

static void
set_aside (struct crash *crash, const struct state *state,
           const unsigned char *disk, uint64_t disk_size)
{
  crash_free (crash);
  *crash = (struct crash) {
    .bytes = copy_of (state->bytes, state->size), .size = state->size,
    .data = state->data ? copy_of (state->data, state->data_size) : NULL,
    .data_size = state->data_size, .disk = copy_of (disk, disk_size),
  };
}

/* Each state has the same chance to be one of those that are kept. */
static bool
look (void *opaque, const struct state *state)
{
  struct course *const course = opaque;
  const unsigned long states = course->verifier.states;
  uint64_t slot;

  if (!verifier_look (&course->verifier, state))
    return false;
  if (course->max_crashes == 0 || course->verifier.states == states)
    return true;
  slot = course->nr_crashes < course->max_crashes ? course->nr_crashes++ :
    rng_below (&course->rng, ++course->nr_looked + course->max_crashes);
  if (slot < course->max_crashes)
    set_aside (&course->crashes[slot], state, course->verifier.disk,
               course->w->recipe.disk_size);
  return true;
}

static void
run_course (struct course *course, const struct guest_files *files)
{
  struct campaign *const c = course->c;
  struct guest *const g = &course->guest;
  struct verifier *const v = &course->verifier;
  const struct workload *const w = course->w;
  const struct replay_spec spec = {
    .seed = course->seed, .all_subsets = 5, .subsets = c->subsets,
    .prefix_percent = 100,
  };
  struct state end;
  struct fsck before;
  bool ended;

  fsck_image (files->image, files->size, &before);
  /* It could not be repaired and written to then. */
  before.dirty = before.dirty &&
    (w->host.flaky > 0 || w->host.flaky_tables > 0 || w->host.stingy > 0);
  guest_init (g, w, course->seed, files);
  host_record (&g->host);
  guest_open (g);
  guest_run (g);
  host_steady (&g->host);
  guest_read_all (g);
  ended = guest_close (g, true);
  c->shorts += g->shorts;
  host_settle (&g->host);
  CHECK (ended || w->host.bad_flush);
  if (c->spent != NULL)
    *c->spent += g->host.spent;
  verifier_init (v, &g->ledger, w->name, course->image, &w->recipe);
  v->qemu_percent = c->qemu_percent;
  v->read_percent = c->read_percent;
  v->quiet = c->quiet;
  end = (struct state) {
    .bytes = g->host.bytes, .size = g->host.size,
    .data = g->data.bytes, .data_size = g->data.size,
    .tick = host_now (&g->host), .how = "at the end",
  };
  if (replay (&g->host, &spec, look, course) && ended)
    verifier_look_at_end (v, &end, &before);
  c->states += v->states;
  c->looks += v->looks;
  if (v->failures > 0 && c->failures == 0)
    memcpy (c->first, v->first, sizeof c->first);
  c->failures += v->failures;
  verifier_free (v);
  guest_free (g);
}

/* The guest goes on after a crash. */
static void
run_after (struct campaign *c, const struct workload *w, uint64_t seed,
           const struct crash *crash, struct recipe_image *image)
{
  const struct guest_files files = {
    .image = crash->bytes, .size = crash->size, .data = crash->data,
    .data_size = crash->data_size, .disk = crash->disk,
    .layers = &image->layers,
  };
  struct course course = {
    .c = c, .w = w, .image = image, .seed = seed, .rng = { seed },
  };

  run_course (&course, &files);
}

void
campaign_run (struct campaign *c, const struct workload *w)
{
  struct workload scaled = *w;
  struct course course = {
    .c = c, .w = &scaled, .seed = c->seed, .rng = { c->seed },
    .max_crashes = c->crashes < MAX_CRASHES ? c->crashes : MAX_CRASHES,
  };
  struct recipe_image image;
  struct guest_files files;

  unit_context ("%s, seed %" PRIu64, w->name, c->seed);
  if (!recipe_is_possible (&w->recipe))
    return;
  if (c->requests_percent != 0)
    scaled.requests = scaled.requests * c->requests_percent / 100 + 1;
  recipe_make (&image, &w->recipe, c->seed);
  if (!w->host.grows && image.size > w->host.capacity) {
    recipe_free (&image);
    return;
  }
  files = guest_files_of (&image);
  course.image = &image;
  run_course (&course, &files);
  scaled.requests = scaled.requests / 4 + 1;
  for (unsigned i = 0; i < course.nr_crashes; ++i) {
    struct crash *const crash = &course.crashes[i];

    if (c->failures == 0)
      run_after (c, &scaled, c->seed + 1000 + i, crash, &image);
    crash_free (crash);
  }
  recipe_free (&image);
}
