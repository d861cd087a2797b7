/* SPDX-License-Identifier: BSD-3-Clause */
/* test-snapshots-busy.c - a guest writes while a snapshot is taken, and all of
 * it may be interrupted anywhere.
 *
 * Before operations of the thread that takes the snapshot the guest does a
 * request (beside.h).  No request may fail.  The snapshot reads as the disk
 * could be read in the moment in which it was captured, and a request that ran
 * then is in it as a whole, or not at all.  Of each file that a crash could
 * leave behind must hold: each sector of the disk has what a crash could leave
 * there (ledger.h), each snapshot reads as it must, no cluster has fewer
 * refcounts than users, and none that may be written in place has several.
 * Then the disk is written to, as a server would after the crash: still every
 * snapshot reads as it must, and the image is clean; in version 2, which has
 * no dirty bit, after a repair of leaks.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built in,
 * it is test-snapshots-busy-planted, and must notice those that concern it.
 */
#include "config.h"

#include "base/plant.h"

#include "beside.h"
#include "fsck.h"
#include "guest.h"
#include "qemu.h"
#include "replay.h"
#include "tag.h"
#include "unit.h"

#include "base/be.h"
#include "image/image.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef Q2_PLANTS
int q2_planted;
#define PLANTED true
#else
#define PLANTED false
#endif

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (6144 * KiB)
#define MAX_CLUSTERS (CAPACITY / 512)
#define MAX_DISK (768 * KiB)
#define NR_SEEN (1u << 16)
#define QEMU_EVERY 40
#define BEFORE 12               /* requests that no commit has seen, ... */
#define AFTER 10                /* ... and those when it is taken */

#define GROWS { .capacity = CAPACITY, .grows = true }
#define REQUESTS                                                              \
  .write = 60, .zero = 14, .trim = 14, .flush = 5, .idle = 1, .fua_percent = 3

static const struct kind {
  struct workload w;
  bool overflows;               /* no cluster can have two users */
} kinds[] = {
  { { .recipe = { .options = "cluster_size=512,refcount_bits=64",
                  .cluster_bits = 9, .disk_size = 256 * KiB,
                  .fill_percent = 80, .snapshots = 1, .zero_percent = 30 },
      .host = GROWS, REQUESTS, .max_sectors = 30 }, false },
  { { .recipe = { .options = "cluster_size=512,refcount_bits=2",
                  .cluster_bits = 9, .disk_size = 128 * KiB,
                  .fill_percent = 60 },
      .host = GROWS, REQUESTS, .max_sectors = 90 }, false },
  { { .recipe = { .options = "cluster_size=512,refcount_bits=1",
                  .cluster_bits = 9, .disk_size = 128 * KiB,
                  .fill_percent = 60, .zero_percent = 10 },
      .host = GROWS, REQUESTS, .max_sectors = 90 }, true },
  { { .recipe = { .options = "cluster_size=1k", .cluster_bits = 10,
                  .disk_size = 512 * KiB, .fill_percent = 70,
                  .compressed = true },
      .host = GROWS, REQUESTS, .max_sectors = 20 }, false },
  { { .recipe = { .options = "cluster_size=1k,compat=0.10",
                  .cluster_bits = 10, .disk_size = 384 * KiB,
                  .fill_percent = 60, .snapshots = 1 },
      .host = GROWS, REQUESTS, .max_sectors = 40 }, false },
  { { .recipe = { .options = "cluster_size=2k,lazy_refcounts=on",
                  .cluster_bits = 11, .disk_size = 768 * KiB,
                  .fill_percent = 50, .snapshots = 2 },
      .host = GROWS, REQUESTS }, false },
  { { .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                  .disk_size = 512 * KiB, .fill_percent = 60,
                  .zero_percent = 20 },
      .host = GROWS, REQUESTS }, false },
  { { .recipe = { .options = "cluster_size=16k,extended_l2=on",
                  .cluster_bits = 14, .disk_size = 512 * KiB,
                  .fill_percent = 60, .snapshots = 1 },
      .host = GROWS, REQUESTS, .max_sectors = 70 }, false },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

struct scene {
  const struct kind *kind;
  struct recipe_image image;
  unsigned version;
  struct guest guest;
  struct beside beside;
  bool taken, captured;
  uint64_t not_yet, by_then;    /* ticks, before the capture and after it */
  unsigned char snapshot[MAX_DISK];     /* if it was taken */
  struct ledger_cut cut;
  char what[100];
  unsigned char risks[MAX_CLUSTERS];
  uint64_t *seen;               /* NR_SEEN hashes of states */
  unsigned long states, failures, old, new;
};

static const struct qcow2_name new_name = { "new", 3 };

static void
failed (struct scene *s, const char *how, const char *problem)
{
  if (s->failures++ == 0)
    printf ("%s, %s: %s\n", s->what, how, problem);
}

static struct qcow2_image *
open_image (struct host *h, bool writable)
{
  const struct qcow2_options options = {
    .writable = writable, .cache_size = 64 * KiB,
  };
  struct qcow2_error err;
  struct qcow2_image *image;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (image == NULL)
    fprintf (stderr, "%s\n", err.text);
  return image;
}

static bool
end_image (struct host *h, struct qcow2_image *image)
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
  const struct scene *s;
  struct host *h;
  struct qcow2_image *image;
  unsigned nr;
  bool has_new, wrong;
  unsigned char *new;           /* not NULL: read the new one into this */
};

static bool
read_all (struct host *h, struct qcow2_image *image, unsigned char *buf,
          uint64_t size)
{
  struct qcow2_error err;

  return qcow2_get_info (image)->virtual_size == size &&
    qcow2_pread (image, &h->io, buf, (uint32_t) size, 0, &err) == 0;
}

static bool
reads_as (struct host *h, struct qcow2_image *image,
          const unsigned char *expected, uint64_t size)
{
  static unsigned char buf[MAX_DISK];

  return read_all (h, image, buf, size) && memcmp (buf, expected, size) == 0;
}

static bool
view_is_right (const struct listing *l, struct qcow2_image *view, bool is_new)
{
  const uint64_t size = l->s->image.disk_size;

  if (view == NULL)
    return false;
  if (is_new && l->new)
    return read_all (l->h, view, l->new, size);
  return reads_as (l->h, view, is_new ? l->s->snapshot
                   : l->s->image.snapshot, size);
}

static int
look_at_snapshot (void *opaque, const struct qcow2_snapshot *snapshot)
{
  struct listing *const l = opaque;
  struct qcow2_error err;
  const bool is_new = snapshot->name.len == new_name.len;
  const struct qcow2_name id = snapshot->id;
  struct qcow2_image *const view =
    qcow2_open_view (l->image, &l->h->io, QCOW2_VIEW_SNAPSHOT_ID, &id, &err);

  l->nr++;
  l->has_new |= is_new;
  l->wrong |= !view_is_right (l, view, is_new);
  qcow2_close (view);
  return 0;
}

/* NULL: all is as it must be. */
static const char *
look_at_snapshots (struct host *h, struct scene *s, struct qcow2_image *image,
                   unsigned char *new, bool *ret_new)
{
  struct listing l = { s, h, image, 0, false, false, new };
  struct qcow2_error err;

  if (qcow2_list_snapshots (image, &h->io, look_at_snapshot, &l, &err) == -1)
    return "snapshots cannot be listed";
  *ret_new = l.has_new;
  if (l.wrong)
    return "a snapshot does not read as it must";
  if (l.has_new && !s->taken)
    return "there is a snapshot that was not taken";
  return l.nr == s->kind->w.recipe.snapshots + l.has_new ? NULL
    : "a snapshot is missing, or there is one too many";
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
is_clean (struct host *h, const struct scene *s, bool was_dirty)
{
  struct fsck f;

  fsck_image (h->bytes, h->size, &f);
  if (s->version >= 3 && (f.dirty || f.corruptions > 0 ||
                          (was_dirty && f.leaks > 0))) {
    printf ("%s %s\n", f.text, f.leak_text);
    return "it is not clean after it was written to";
  }
  return repair_leaks (h);
}

static const char *
go_on (struct host *h, struct scene *s, unsigned char *disk)
{
  const bool was_dirty = s->version >= 3 && (h->bytes[79] & 1);
  struct qcow2_image *image = open_image (h, true);
  const char *problem;
  bool ignored;

  if (image == NULL)
    return "it cannot be opened";
  if (!write_some (h, image, disk, s->image.disk_size))
    problem = "it cannot be written to";
  else if (!reads_as (h, image, disk, s->image.disk_size))
    problem = "the disk does not read as was written";
  else
    problem = look_at_snapshots (h, s, image, NULL, &ignored);
  if (!end_image (h, image) && problem == NULL)
    problem = "it does not end well";
  return problem ? problem : is_clean (h, s, was_dirty);
}

/* ---- States ------------------------------------------------------------- */

static bool
is_new (struct scene *s, uint64_t hash)
{
  const size_t first = hash % NR_SEEN;

  hash |= 1;
  for (size_t i = first; i < first + 64; ++i) {
    if (s->seen[i % NR_SEEN] == hash)
      return false;
    if (s->seen[i % NR_SEEN] == 0) {
      s->seen[i % NR_SEEN] = hash;
      return true;
    }
  }
  return true;
}

static bool
has_risk (struct scene *s, const struct state *state)
{
  struct fsck ignored;

  memset (s->risks, 0, sizeof s->risks);
  fsck_clusters (state->bytes, state->size, &ignored, s->risks, MAX_CLUSTERS);
  for (size_t i = 0; i < MAX_CLUSTERS; ++i)
    if (s->risks[i] & (FSCK_SHARED | FSCK_TOO_LOW))
      return true;
  return false;
}

static const char *
look_at_disk (const struct scene *s, const unsigned char *disk)
{
  static char text[400];

  for (uint64_t i = 0; i < s->image.disk_size / SECTOR; ++i) {
    const uint32_t id = tag_read (disk + i * SECTOR, i);
    int n;

    if (id != TAG_FOREIGN && ledger_cut_allows (&s->cut, i, id))
      continue;
    n = snprintf (text, sizeof text, "sector %" PRIu64 " has %" PRIu32 "; ",
                  i, id);
    ledger_cut_explain (&s->cut, i, text + n, sizeof text - (size_t) n);
    return text;
  }
  return NULL;
}

static void
ask_qemu (struct scene *s, const struct host *h, const unsigned char *disk)
{
  if (!PLANTED && s->states % QEMU_EVERY == 0)
    qemu_submit (h->bytes, h->size, NULL, QEMU_REPAIRED, disk,
                 s->image.disk_size, s->what);
}

static const char *
look_inside (struct host *h, struct scene *s)
{
  static unsigned char disk[MAX_DISK];
  struct qcow2_image *const image = open_image (h, false);
  const char *problem;
  bool new = false;

  if (image == NULL)
    return "it cannot be opened";
  problem = read_all (h, image, disk, s->image.disk_size)
    ? look_at_disk (s, disk) : "the disk cannot be read";
  if (problem == NULL)
    problem = look_at_snapshots (h, s, image, NULL, &new);
  qcow2_close (image);
  s->old += !new;
  s->new += new;
  ask_qemu (s, h, disk);
  return problem ? problem : go_on (h, s, disk);
}

static const char *
find_problem (struct scene *s, const struct state *state)
{
  const struct host_spec spec = GROWS;
  const char *problem;
  struct host h;

  if (has_risk (s, state))
    return "a refcount is too low, or a shared cluster COPIED";
  host_init (&h, &spec, state->bytes, state->size);
  problem = look_inside (&h, s);
  host_free (&h);
  return problem;
}

static bool
look (void *opaque, const struct state *state)
{
  struct scene *const s = opaque;
  const char *problem;

  ledger_cut_move (&s->cut, state->tick);
  if (!is_new (s, state->hash + s->cut.generation *
               UINT64_C (0x9e3779b97f4a7c15)))
    return true;
  s->states++;
  problem = find_problem (s, state);
  if (problem != NULL)
    failed (s, state->how, problem);
  return problem == NULL;
}

/* ---- The run ------------------------------------------------------------ */

static void
request (void *opaque, struct rng *rng)
{
  struct scene *const s = opaque;

  unit_context ("%s", s->what);
  guest_request (&s->guest, rng);
}

/* The thread that takes the snapshot is about to do something.  In between it
 * has captured, perhaps, and no request has begun.
 */
static int
watch (void *opaque, enum host_op_kind kind)
{
  struct scene *const s = opaque;

  (void) kind;
  if (s->captured)
    return 0;
  s->captured = atomic_load (&s->guest.image->writer.sharing.active);
  if (s->captured)
    s->by_then = host_tick (&s->guest.host);
  else
    s->not_yet = host_tick (&s->guest.host);
  return 0;
}

static void
take (struct scene *s)
{
  const struct qcow2_snapshot_options options = {
    .name = new_name, .date_sec = 1000000000,
  };
  struct guest *const g = &s->guest;
  struct qcow2_error err = { .text = "" };

  s->not_yet = host_tick (&g->host);
  s->captured = false;
  beside_begin (&s->beside);
  s->taken =
    qcow2_snapshot_create (g->image, &g->host.io, &options, &err) == 0;
  beside_end (&s->beside);
  CHECK (s->captured || PLANTED);
  if (s->taken == s->kind->overflows)
    failed (s, "taking it", s->taken ? "there is no overflow" : err.text);
}

/* The one that may have run then: those before it had ended. */
static const struct guest_op *
last_begun (const struct scene *s)
{
  const struct ledger *const l = &s->guest.ledger;
  const struct guest_op *last = NULL;

  for (size_t i = 0; i < l->nr_ops; ++i)
    if (!l->ops[i].flush && l->ops[i].start < s->by_then)
      last = &l->ops[i];
  return last;
}

/* A request that ran is in it as a whole, or not at all. */
static void
look_at_across (struct scene *s)
{
  const struct guest_op *const op = last_begun (s);
  uint64_t nr = 0;

  if (op == NULL || op->id == TAG_ZERO)
    return;
  for (uint64_t i = op->sector; i < op->sector + op->count; ++i)
    nr += tag_read (s->snapshot + i * SECTOR, i) == op->id;
  if (nr > 0 && nr < op->count)
    failed (s, "in the snapshot", "a part of a request");
}

static void
look_at_new (struct scene *s)
{
  struct guest *const g = &s->guest;
  const char *problem;
  bool new;

  problem = look_at_snapshots (&g->host, s, g->image, s->snapshot, &new);
  if (problem == NULL && new != s->taken)
    problem = "the snapshot is missing";
  for (uint64_t i = 0; problem == NULL && new && i < g->ledger.nr_sectors;
       ++i) {
    const uint32_t id = tag_read (s->snapshot + i * SECTOR, i);

    if (id == TAG_FOREIGN || !ledger_may_read (&g->ledger, i, id, s->not_yet,
                                               s->by_then))
      problem = "the snapshot does not show the moment";
  }
  if (problem != NULL)
    failed (s, "after it was taken", problem);
  else if (new)
    look_at_across (s);
}

/* The disk is now just what was written last. */
static void
look_at_now (struct scene *s)
{
  static unsigned char disk[MAX_DISK];
  struct guest *const g = &s->guest;
  const uint64_t now = host_tick (&g->host);
  bool same = read_all (&g->host, g->image, disk, s->image.disk_size);

  for (uint64_t i = 0; same && i < g->ledger.nr_sectors; ++i) {
    const uint32_t id = tag_read (disk + i * SECTOR, i);

    same = id != TAG_FOREIGN &&
      ledger_may_read (&g->ledger, i, id, now, now + 1);
  }
  if (!same)
    failed (s, "at the end", "the disk is not what was written last");
}

static bool
has_leaks (struct scene *s, const struct host *h, const char *how)
{
  struct fsck f;

  fsck_image (h->bytes, h->size, &f);
  if (f.dirty || f.corruptions > 0 || f.leaks > 0) {
    failed (s, how, f.corruptions > 0 ? f.text : f.leaks > 0 ? f.leak_text
            : "the dirty bit");
    return true;
  }
  return false;
}

/* In a copy, since the log goes on. */
static void
delete_new (struct scene *s)
{
  const struct host_spec spec = GROWS;
  struct qcow2_image *image;
  struct qcow2_error err;
  struct host h;

  host_init (&h, &spec, s->guest.host.bytes, s->guest.host.size);
  image = open_image (&h, true);
  if (image == NULL ||
      qcow2_snapshot_delete (image, &h.io, &new_name, false, NULL, &err) == -1)
    failed (s, "deleting it", image ? err.text : "it cannot be opened");
  if (image == NULL || end_image (&h, image))
    has_leaks (s, &h, "when it was deleted");
  host_free (&h);
}

static void
open_guest (struct scene *s)
{
  guest_open (&s->guest);
  if (PLANTED)
    s->guest.tolerated = ~0u;
}

static void
run (struct scene *s)
{
  struct guest *const g = &s->guest;

  host_record (&g->host);
  open_guest (s);
  beside_steps (&s->beside, BEFORE);
  take (s);
  beside_steps (&s->beside, AFTER);
  look_at_new (s);
  look_at_now (s);
  if (!guest_close (g, true))
    failed (s, "at the end", "it does not end well");
  if (atomic_load (&g->errors) > 0)
    failed (s, "taking it", "a request has failed");
  if (s->failures == 0 && !has_leaks (s, &g->host, "at the end") && s->taken)
    delete_new (s);
}

/* The disk differs from its snapshots, and shares some tables with them. */
static void
begin (struct scene *s, uint64_t seed)
{
  const struct guest_files files = guest_files_of (&s->image);

  guest_init (&s->guest, &s->kind->w, seed, &files);
  beside_wrap (&s->guest.host);
  s->beside = (struct beside) {
    .step = request, .before = watch, .opaque = s,
    .percent = (unsigned) (seed % 3 + 1) * 30,
  };
  beside_init (&s->beside, seed);
  open_guest (s);
  beside_steps (&s->beside, BEFORE);
  CHECK (guest_close (&s->guest, true));
}

/* ---- Scenes ------------------------------------------------------------- */

static unsigned long
play (struct scene *s, uint64_t seed)
{
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 3, .subsets = 4, .prefix_percent = 60,
  };

  snprintf (s->what, sizeof s->what, "%s, seed %" PRIu64,
            s->kind->w.recipe.options, seed);
  unit_context ("%s", s->what);
  s->failures = s->old = s->new = 0;
  memset (s->seen, 0, NR_SEEN * sizeof *s->seen);
  s->version = load_be32 (s->image.bytes + 4);
  begin (s, seed);
  run (s);
  ledger_cut_init (&s->cut, &s->guest.ledger);
  if (s->failures == 0) {
    replay (&s->guest.host, &how, look, s);
    CHECK (s->failures > 0 || (s->old > 0 && (s->new > 0) == s->taken));
  }
  ledger_cut_free (&s->cut);
  beside_free (&s->beside);
  guest_free (&s->guest);
  return s->failures;
}

/* 'enough': until something was found. */
static unsigned long
play_all (uint64_t first, uint64_t nr, bool enough)
{
  static struct scene s;
  unsigned long failures = 0;

  s.seen = calloc (NR_SEEN, sizeof *s.seen);
  REQUIRE (s.seen != NULL);
  s.states = 0;
  for (size_t k = 0; k < NR_KINDS && !(enough && failures > 0); ++k) {
    s.kind = &kinds[k];
    recipe_make (&s.image, &kinds[k].w.recipe, first);
    for (uint64_t i = 0; i < nr && !(enough && failures > 0); ++i)
      failures += play (&s, first + i);
    recipe_free (&s.image);
  }
  printf ("%lu states\n", s.states);
  free (s.seen);
  return failures;
}

#ifdef Q2_PLANTS
/* In a process of its own, since the engine may notice first, and abort. */
static bool
is_found (int plant)
{
  int status = 0;
  pid_t pid;

  fflush (NULL);
  pid = fork ();
  REQUIRE (pid != -1);
  if (pid == 0) {
    unsigned long found;

    q2_planted = plant;
    found = play_all (1, 1, true);
    fflush (NULL);
    _exit (found > 0);
  }
  REQUIRE (waitpid (pid, &status, 0) == pid);
  return WIFSIGNALED (status) ? WTERMSIG (status) == SIGABRT
    : WEXITSTATUS (status) == 1;
}

static void
find_planted (void)
{
  static const struct { int nr; const char *name; } plants[] = {
    { Q2_PLANT_EARLY_SWITCH, "published before it is durable" },
    { Q2_PLANT_KEEP_COPIED, "L2 entries stay COPIED" },
    { Q2_PLANT_KEEP_COPIED_L1, "L1 entries stay COPIED" },
    { Q2_PLANT_FORGET_SHARING, "a table is copied, and not shared" },
    { Q2_PLANT_COPY_FLAGS, "it is copied with its flags" },
    { Q2_PLANT_SHARE_UNSETTLED, "it is shared as it is in the file" },
  };

  CHECK_EQ (play_all (1, 1, false), 0);
  for (size_t i = 0; i < sizeof plants / sizeof plants[0]; ++i) {
    printf ("%s:\n", plants[i].name);
    unit_context ("%s", plants[i].name);
    CHECK (is_found (plants[i].nr));
  }
}
#endif

int
main (void)
{
  qemu_init ();
#ifdef Q2_PLANTS
  find_planted ();
#else
  CHECK_EQ (play_all (1, unit_scaled (3), false), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
