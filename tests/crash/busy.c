/* SPDX-License-Identifier: BSD-3-Clause */
/* busy.c - see busy.h.
 *
 * Owns      what must hold in each state.
 * Method    snapshots have different names and ticks; which of them a state
 *           has must be right for its tick, and stay so when it is written to.
 */
#include "config.h"

#include "busy.h"
#include "fsck.h"
#include "qemu.h"
#include "qemu_bits.h"
#include "seen.h"
#include "tag.h"

#include "base/be.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define QEMU_EVERY 40
#define BITS_EVERY (4 * QEMU_EVERY)

void
busy_failed (struct busy *b, const char *how, const char *problem)
{
  if (b->failures++ == 0)
    printf ("%s, %s: %s\n", b->what, how, problem);
}

struct qcow2_image *
busy_open (struct host *h, bool writable)
{
  const struct qcow2_options options = {
    .writable = writable, .cache_size = 64 << 10,
  };
  struct qcow2_error err;
  struct qcow2_image *image;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (image == NULL)
    fprintf (stderr, "%s\n", err.text);
  return image;
}

bool
busy_end_image (struct host *h, struct qcow2_image *image)
{
  struct qcow2_error err;
  const int r = qcow2_end (image, &h->io, &err);

  if (r == -1)
    fprintf (stderr, "%s\n", err.text);
  qcow2_close (image);
  return r == 0;
}

/* ---- Snapshots ---------------------------------------------------------- */

struct listing {
  const struct busy *b;
  struct host *h;
  struct qcow2_image *image;
  uint64_t tick;
  unsigned shown;
  const char *problem;
};

static bool
read_all (struct host *h, struct qcow2_image *image, unsigned char *buf,
          uint64_t size)
{
  struct qcow2_error err;

  return qcow2_get_info (image).virtual_size == size &&
    qcow2_pread (image, &h->io, buf, (uint32_t) size, 0, &err) == 0;
}

static bool
reads_as (struct host *h, struct qcow2_image *image,
          const unsigned char *expected, uint64_t size)
{
  static unsigned char buf[BUSY_MAX_DISK];

  return read_all (h, image, buf, size) && memcmp (buf, expected, size) == 0;
}

static struct qcow2_image *
open_view (struct host *h, struct qcow2_image *image, const char *name)
{
  const struct qcow2_name n = { name, strlen (name) };
  struct qcow2_error err;

  return qcow2_open_view (image, &h->io, QCOW2_VIEW_SNAPSHOT, &n, &err);
}

bool
busy_read_snapshot (const struct busy *b, struct host *h,
                    struct qcow2_image *image, const char *name,
                    unsigned char *ret)
{
  struct qcow2_image *const view = open_view (h, image, name);
  const bool ok = view != NULL &&
    read_all (h, view, ret, b->image.disk_size);

  qcow2_close (view);
  return ok;
}

static bool
has_name (const struct busy_snapshot *s, const struct qcow2_name *name)
{
  return strlen (s->name) == name->len &&
    memcmp (s->name, name->bytes, name->len) == 0;
}

static void
look_at_view (struct listing *l, const struct busy_snapshot *s)
{
  struct qcow2_image *const view = open_view (l->h, l->image, s->name);

  if (view == NULL ||
      !reads_as (l->h, view, s->disk, l->b->image.disk_size))
    l->problem = "a snapshot does not read as it must";
  if (l->tick < s->may_from)
    l->problem = "there is a snapshot that was not taken";
  if (l->tick >= s->may_until)
    l->problem = "there is a snapshot that was deleted";
  qcow2_close (view);
}

static int
look_at_snapshot (void *opaque, const struct qcow2_snapshot *snapshot)
{
  struct listing *const l = opaque;

  for (unsigned i = 0; i < l->b->nr_snapshots; ++i)
    if (has_name (&l->b->snapshots[i], &snapshot->name) &&
        !(l->shown >> i & 1)) {
      l->shown |= 1u << i;
      look_at_view (l, &l->b->snapshots[i]);
      return 0;
    }
  l->problem = "there is a snapshot of another name, or one twice";
  return 0;
}

const char *
busy_look_at_snapshots (const struct busy *b, struct host *h,
                        struct qcow2_image *image, uint64_t tick,
                        unsigned *ret_shown)
{
  struct listing l = { b, h, image, tick, 0, NULL };
  struct qcow2_error err;

  if (qcow2_list_snapshots (image, &h->io, look_at_snapshot, &l, &err) == -1)
    return "snapshots cannot be listed";
  *ret_shown = l.shown;
  for (unsigned i = 0; i < b->nr_snapshots; ++i)
    if (!(l.shown >> i & 1) && tick >= b->snapshots[i].must_from &&
        tick < b->snapshots[i].must_until)
      return "a snapshot is missing";
  return l.problem;
}

struct busy_snapshot *
busy_add (struct busy *b, const char *name)
{
  struct busy_snapshot *const s = &b->snapshots[b->nr_snapshots++];

  REQUIRE (b->nr_snapshots <= BUSY_MAX_SNAPSHOTS);
  memset (s, 0, sizeof *s);
  s->must_until = s->may_until = TICK_NEVER;
  snprintf (s->name, sizeof s->name, "%s", name);
  return s;
}

/* ---- After a crash ------------------------------------------------------ */

static bool
write_some (struct host *h, struct qcow2_image *image, unsigned char *disk,
            uint64_t size)
{
  static const unsigned char pattern[1536] = { 1, 2, 3 };
  struct qcow2_error err;

  for (uint64_t at = 0; at + sizeof pattern <= size; at += 37 * 512) {
    memcpy (disk + at, pattern, sizeof pattern);
    if (qcow2_pwrite (image, &h->io, pattern, sizeof pattern, at, false, &err)
        == -1) {
      printf ("%s\n", err.text);
      return false;
    }
  }
  return true;
}

static const char *
repair_leaks (struct host *h)
{
  const struct qcow2_options options = { .check = true, .writable = true };
  const struct qcow2_check_options check = { .repair = QCOW2_REPAIR_LEAKS };
  struct qcow2_check_result result;
  struct qcow2_error err;
  struct qcow2_image *image;
  int r;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (image == NULL)
    return "it cannot be opened to be repaired";
  r = qcow2_check (image, &h->io, &check, &result, &err);
  qcow2_close (image);
  return r == 0 && result.corruptions + result.leaks == 0 ? NULL
    : "a repair of leaks is not enough";
}

/* What the guest had not made durable may be leaked, unless the dirty bit had
 * all be counted.  In version 2 flags that are not set are allowed, too.
 */
static const char *
is_clean (struct host *h, const struct busy *b, bool was_dirty)
{
  struct fsck f;

  fsck_image (h->bytes, h->size, &f);
  if (b->version >= 3 && (f.dirty || f.corruptions > 0 ||
                          (was_dirty && f.leaks > 0))) {
    printf ("%s %s\n", f.text, f.leak_text);
    return "it is not clean after it was written to";
  }
  return repair_leaks (h);
}

static const char *
go_on (struct host *h, struct busy *b, unsigned char *disk, uint64_t tick,
       unsigned shown)
{
  const bool was_dirty = b->version >= 3 && (h->bytes[79] & 1);
  struct qcow2_image *image = busy_open (h, true);
  const char *problem;
  unsigned now = shown;

  if (image == NULL)
    return "it cannot be opened";
  if (!write_some (h, image, disk, b->image.disk_size))
    problem = "it cannot be written to";
  else if (!reads_as (h, image, disk, b->image.disk_size))
    problem = "the disk does not read as was written";
  else
    problem = busy_look_at_snapshots (b, h, image, tick, &now);
  if (problem == NULL && now != shown)
    problem = "there are other snapshots when it is opened again";
  if (!busy_end_image (h, image) && problem == NULL)
    problem = "it does not end well";
  return problem ? problem : is_clean (h, b, was_dirty);
}

/* ---- States ------------------------------------------------------------- */

static const char *
find_risk (struct busy *b, const unsigned char *bytes, uint64_t size)
{
  struct fsck f;
  unsigned risks = 0;

  memset (b->risks, 0, sizeof b->risks);
  fsck_clusters (bytes, size, &f, b->risks, BUSY_MAX_CLUSTERS);
  for (size_t i = 0; i < BUSY_MAX_CLUSTERS; ++i)
    risks |= b->risks[i];
  /* As long as the dirty bit says so it may be: ONE-3.  Then all are counted
   * anew, see is_clean.
   */
  if ((risks & FSCK_TOO_LOW) && !f.dirty)
    return "a refcount is too low";
  if (risks & FSCK_SHARED)
    return "a shared cluster is COPIED";
  return b->only_lowered && (risks & FSCK_EARLY)
    ? "an entry is COPIED before its refcount is lowered" : NULL;
}

static const char *
look_at_disk (const struct busy *b, const unsigned char *disk)
{
  static char text[400];

  for (uint64_t i = 0; i < b->image.disk_size / SECTOR; ++i) {
    const uint32_t id = tag_read (disk + i * SECTOR, i);
    int n;

    if (id != TAG_FOREIGN && ledger_cut_allows (&b->cut, i, id))
      continue;
    n = snprintf (text, sizeof text, "sector %" PRIu64 " has %" PRIu32 "; ",
                  i, id);
    ledger_cut_explain (&b->cut, i, text + n, sizeof text - (size_t) n);
    return text;
  }
  return NULL;
}

static void
ask_qemu (struct busy *b, const struct host *h, const unsigned char *disk)
{
  /* When QEMU has repaired an image that has the dirty bit, and bitmaps, it
   * stores those, and leaks clusters.
   */
  const bool kept_up = b->w->bitmaps != QCOW2_BITMAPS_INVALIDATE;
  const bool may_leak = kept_up && (h->bytes[79] & 1);

  if (b->planted)
    return;
  if (!may_leak && b->states % QEMU_EVERY == 0)
    qemu_submit (h->bytes, h->size, NULL, QEMU_REPAIRED, disk,
                 b->image.disk_size, b->what);
  if (kept_up && b->states % BITS_EVERY == 0)
    qemu_check_bits (h->bytes, h->size, b->states / BITS_EVERY, b->what);
}

static const char *
look_inside (struct host *h, struct busy *b, const struct state *state)
{
  static unsigned char disk[BUSY_MAX_DISK];
  struct qcow2_image *const image = busy_open (h, false);
  const char *problem;
  unsigned shown = 0;

  if (image == NULL)
    return "it cannot be opened";
  problem = read_all (h, image, disk, b->image.disk_size)
    ? look_at_disk (b, disk) : "the disk cannot be read";
  if (problem == NULL)
    problem = busy_look_at_snapshots (b, h, image, state->tick, &shown);
  qcow2_close (image);
  if (problem == NULL && b->judge != NULL)
    problem = b->judge (b, state, disk, shown);
  b->shown[shown]++;
  ask_qemu (b, h, disk);
  return problem ? problem : go_on (h, b, disk, state->tick, shown);
}

static const char *
find_problem (struct busy *b, const struct state *state)
{
  const struct host_spec spec = BUSY_HOST;
  const char *problem = find_risk (b, state->bytes, state->size);
  struct host h;

  if (problem != NULL)
    return problem;
  host_init (&h, &spec, state->bytes, state->size);
  problem = look_inside (&h, b, state);
  host_free (&h);
  return problem;
}

/* What there may be changes with these ticks. */
static uint64_t
era (const struct busy *b, uint64_t tick)
{
  uint64_t nr = 0;

  for (unsigned i = 0; i < b->nr_snapshots; ++i) {
    const struct busy_snapshot *const s = &b->snapshots[i];

    nr += (tick >= s->may_from) + (tick >= s->must_from) +
      (tick >= s->must_until) + (tick >= s->may_until);
  }
  for (unsigned i = 0; i < b->nr_marks; ++i)
    nr += tick >= b->marks[i];
  return nr;
}

static bool
look (void *opaque, const struct state *state)
{
  struct busy *const b = opaque;
  const char *problem;

  ledger_cut_move (&b->cut, state->tick);
  if (!seen_is_new (b->seen, state->hash +
               (b->cut.generation * 64 + era (b, state->tick)) *
               UINT64_C (0x9e3779b97f4a7c15)))
    return true;
  b->states++;
  problem = find_problem (b, state);
  if (problem != NULL)
    busy_failed (b, state->how, problem);
  return problem == NULL;
}

void
busy_replay (struct busy *b, uint64_t seed)
{
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 3, .subsets = 4, .prefix_percent = 60,
  };

  memset (b->seen, 0, NR_SEEN * sizeof *b->seen);
  ledger_cut_init (&b->cut, &b->guest.ledger);
  replay (&b->guest.host, &how, look, b);
  ledger_cut_free (&b->cut);
}

/* ---- The run ------------------------------------------------------------ */

/* The disk is now just what was written last. */
void
busy_look_at_now (struct busy *b)
{
  static unsigned char disk[BUSY_MAX_DISK];
  struct guest *const g = &b->guest;
  const uint64_t now = host_tick (&g->host);
  bool same = read_all (&g->host, g->image, disk, b->image.disk_size);

  for (uint64_t i = 0; same && i < g->ledger.nr_sectors; ++i) {
    const uint32_t id = tag_read (disk + i * SECTOR, i);

    same = id != TAG_FOREIGN &&
      ledger_may_read (&g->ledger, i, id, now, now + 1);
  }
  if (!same)
    busy_failed (b, "at the end", "the disk is not what was written last");
}

bool
busy_has_leaks (struct busy *b, const struct host *h, const char *how)
{
  struct fsck f;

  fsck_image (h->bytes, h->size, &f);
  if (f.dirty || f.corruptions > 0 || f.leaks > 0) {
    busy_failed (b, how, f.corruptions > 0 ? f.text : f.leaks > 0 ? f.leak_text
                 : "the dirty bit");
    return true;
  }
  return false;
}

static void
request (void *opaque, struct rng *rng)
{
  struct busy *const b = opaque;

  unit_context ("%s", b->what);
  guest_request (&b->guest, rng);
}

void
busy_open_guest (struct busy *b)
{
  guest_open (&b->guest);
  if (b->planted)
    b->guest.tolerated = ~0u;
}

static void
add_those_of_recipe (struct busy *b)
{
  b->nr_snapshots = 0;
  for (unsigned i = 0; i < b->w->recipe.snapshots; ++i) {
    char name[16];

    snprintf (name, sizeof name, "s%u", i);
    memcpy (busy_add (b, name)->disk, b->image.snapshot, b->image.disk_size);
  }
}

void
busy_begin (struct busy *b, const struct workload *w, uint64_t seed,
            unsigned nr)
{
  const struct guest_files files = guest_files_of (&b->image);

  REQUIRE (b->image.disk_size <= BUSY_MAX_DISK);
  b->w = w;
  b->failures = 0;
  memset (b->shown, 0, sizeof b->shown);
  b->version = load_be32 (b->image.bytes + 4);
  snprintf (b->what, sizeof b->what, "%s, seed %" PRIu64, w->recipe.options,
            seed);
  unit_context ("%s", b->what);
  add_those_of_recipe (b);
  guest_init (&b->guest, w, seed, &files);
  /* In every other one refcounts are raised ahead. */
  if (b->nr_begun++ % 2 == 0)
    b->guest.refcounts = QCOW2_REFCOUNTS_AHEAD;
  if (b->wrap != NULL)
    b->wrap (&b->guest.host);
  beside_wrap (&b->guest.host);
  b->beside = (struct beside) {
    .step = request, .opaque = b, .percent = (unsigned) (seed % 3 + 1) * 30,
  };
  beside_init (&b->beside, seed);
  busy_open_guest (b);
  beside_steps (&b->beside, nr);
  CHECK (guest_close (&b->guest, true));
}

void
busy_end (struct busy *b)
{
  beside_free (&b->beside);
  guest_free (&b->guest);
}

void
busy_init (struct busy *b, bool planted)
{
  memset (b, 0, sizeof *b);
  b->planted = planted;
  b->seen = calloc (NR_SEEN, sizeof *b->seen);
  REQUIRE (b->seen != NULL);
}

void
busy_free (struct busy *b)
{
  printf ("%lu states, QEMU has read %lu bitmaps\n", b->states,
          qemu_bits_checks ());
  free (b->seen);
}

static bool
is_found (unsigned long (*play) (void))
{
  int status = 0;
  pid_t pid;

  fflush (NULL);
  pid = fork ();
  REQUIRE (pid != -1);
  if (pid == 0) {
    const unsigned long found = play ();

    fflush (NULL);
    _exit (found > 0);
  }
  REQUIRE (waitpid (pid, &status, 0) == pid);
  return WIFSIGNALED (status) ? WTERMSIG (status) == SIGABRT
    : WEXITSTATUS (status) == 1;
}

void
busy_find (int *planted, const struct busy_plant *plants, size_t nr,
           unsigned long (*play) (void))
{
  for (size_t i = 0; i < nr; ++i) {
    printf ("%s:\n", plants[i].name);
    unit_context ("%s", plants[i].name);
    *planted = plants[i].nr;
    CHECK (is_found (play));
  }
}
