/* SPDX-License-Identifier: BSD-3-Clause */
/* test-commit.c - qcow2_commit, done, interrupted and failing.
 *
 * Owns      the table of cases: an image made by QEMU, which is committed into
 *           the one right below it.
 * Method    two files in memory with one log: whatever a crash leaves of both
 *           together, the disk reads as before.  QEMU judges what is there at
 *           the end.  Then each request to either host fails once, and each
 *           allocation of memory.
 *
 *           Linked with a copy of the engine that has the bugs of base/plant.h
 *           built in, it is test-commit-planted, and must notice them.
 */
#include "config.h"

#include "base/be.h"
#include "base/plant.h"

#include "alloc_faults.h"
#include "fsck.h"
#include "memory_io.h"
#include "qemu.h"
#include "recipe.h"
#include "replay.h"
#include "unit.h"

#include <errno.h>

#ifdef Q2_PLANTS
int q2_planted;
#endif

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (UINT64_C (8) << 20)

/* ---- Cases -------------------------------------------------------------- */

static const struct recipe lowest = {
  .options = "cluster_size=4k", .cluster_bits = 12,
  .disk_size = 500 * KiB, .fill_percent = 60,
};
static const struct recipe middle = {
  .options = "cluster_size=512", .cluster_bits = 9,
  .disk_size = 400 * KiB, .fill_percent = 50, .below = &lowest,
};
static const struct recipe lazy = {
  .options = "cluster_size=4k,lazy_refcounts=on", .cluster_bits = 12,
  .disk_size = 600 * KiB, .fill_percent = 50,
};
static const struct recipe old = {
  .options = "compat=0.10,cluster_size=4k", .cluster_bits = 12,
  .disk_size = 400 * KiB, .fill_percent = 30, .compressed = true,
  .below = &lowest,
};
static const struct recipe subclusters = {
  .options = "cluster_size=16k,extended_l2=on", .cluster_bits = 14,
  .disk_size = 401 * KiB, .fill_percent = 50, .below = &lowest,
};
static const struct recipe raw = {
  .raw = true, .cluster_bits = 12, .disk_size = 251 * KiB + 100,
  .fill_percent = 60,
};

struct commit_case {
  const char *name;
  struct recipe recipe;
  unsigned flags;
};

#define ZEROS .fill_percent = 30, .zero_percent = 25

static const struct commit_case cases[] = {
  { "clusters that are larger", {
      .options = "cluster_size=4k", .cluster_bits = 12,
      .disk_size = 400 * KiB, ZEROS, .below = &middle }, 0 },
  { "into lazy refcounts, a smaller disk", {
      .options = "cluster_size=512", .cluster_bits = 9,
      .disk_size = 301 * KiB, ZEROS, .below = &lazy }, 0 },
  { "into version 2, compressed", {
      .options = "cluster_size=8k", .cluster_bits = 13,
      .disk_size = 400 * KiB, .compressed = true, ZEROS, .below = &old }, 0 },
  { "into subclusters", {
      .options = "cluster_size=16k,extended_l2=on", .cluster_bits = 14,
      .disk_size = 401 * KiB, ZEROS, .below = &subclusters }, 0 },
  { "encrypted, into a raw one that is shorter", {
      .options = "cluster_size=4k", .cluster_bits = 12,
      .disk_size = 400 * KiB, .encryption = QCOW2_ENCRYPTION_LUKS, ZEROS,
      .below = &raw }, 0 },
  { "version 2, kept", {
      .options = "compat=0.10,cluster_size=4k", .cluster_bits = 12,
      .disk_size = 400 * KiB, .fill_percent = 40, .below = &middle },
    QCOW2_COMMIT_KEEP },
};
#define NR_CASES (sizeof cases / sizeof cases[0])

struct play {
  const struct commit_case *c;
  struct recipe_image image;
  struct layer *below;          /* as it was */
  struct host h, base;
  bool no_trim;                 /* the hosts cannot; they take memory for
                                   that */
  unsigned calls_left;          /* of the progress function; 0: any number */
  unsigned long states, emptied, failures;
};

/* ---- Opening ------------------------------------------------------------ */

struct answer {
  struct qcow2_file file;
};

static int
open_base (void *opaque, const struct qcow2_reference *ref,
           struct qcow2_file *ret, struct qcow2_error *err)
{
  const struct answer *const a = opaque;

  (void) ref;
  (void) err;
  *ret = a->file;
  return 0;
}

struct pair {
  struct qcow2_image *image;
  struct answer base;
};

static void
close_pair (struct play *p, struct pair *pair)
{
  qcow2_close (pair->image);
  qcow2_close (pair->base.file.image);
  layers_close (&p->image.layers);
}

static int
open_pair (struct play *p, struct pair *pair, const struct qcow2_io *io,
           const struct qcow2_io *base_io, bool writing,
           struct qcow2_error *err)
{
  struct attach below = { .layers = &p->image.layers };
  struct qcow2_options options = { .writable = writing };

  attach_options (&below, &options);
  options.raw = p->below->raw;
  options.writable = writing && !options.raw;
  *pair = (struct pair) { NULL, { { NULL, base_io } } };
  pair->base.file.image = qcow2_open (base_io, &options, err);
  if (pair->base.file.image == NULL)
    return -1;
  options.raw = false;
  options.writable = writing;
  options.open_file = open_base;
  options.open_file_opaque = &pair->base;
  pair->image = qcow2_open (io, &options, err);
  return pair->image ? 0 : -1;
}

/* ---- The operation ------------------------------------------------------ */

static void
reset (struct play *p)
{
  const struct host_spec spec = {
    .capacity = CAPACITY, .grows = true, .trim = HOST_TRIM_GARBAGE,
    .no_trim = p->no_trim,
  };

  if (p->h.bytes != NULL) {
    host_free (&p->h);
    host_free (&p->base);
  }
  host_init (&p->h, &spec, p->image.bytes, p->image.size);
  host_init (&p->base, &spec, p->below->bytes, p->below->size);
  host_join (&p->h, &p->base);
}

/* Cancels the call after so many. */
static bool
count_down (void *opaque, unsigned percent)
{
  unsigned *const left = opaque;

  CHECK (percent <= 100);
  return *left == 0 || --*left > 0;
}

static int
commit (struct play *p, struct qcow2_error *err)
{
  const struct qcow2_progress progress = { .fn = count_down, .opaque = &p->calls_left };
  struct pair pair;
  int r;

  host_reopen (&p->h);
  p->base.io.concurrent = true;
  r = open_pair (p, &pair, &p->h.io, &p->base.io, true, err);
  if (r == 0)
    r = qcow2_commit (pair.image, &p->h.io, &pair.base.file, p->c->flags,
                      &progress, err);
  close_pair (p, &pair);
  return r;
}

/* ---- The judge ---------------------------------------------------------- */

static const char *
judge_file (const unsigned char *bytes, uint64_t size)
{
  struct fsck fsck;

  fsck_image (bytes, size, &fsck);
  return !fsck.dirty && fsck.corruptions > 0 ? "it is corrupt" : NULL;
}

static const char *
judge (struct play *p, const struct state *s)
{
  unsigned char *const buf = malloc (p->c->recipe.disk_size);
  const char *problem = judge_file (s->bytes, s->size);
  struct memory_io m, base;
  struct pair pair;
  struct qcow2_error err;

  REQUIRE (buf != NULL);
  if (problem == NULL && !p->below->raw &&
      judge_file (s->data, s->data_size) != NULL)
    problem = "the backing image is corrupt";
  memory_io_init (&m, (void *) (uintptr_t) s->bytes, s->size);
  memory_io_init (&base, (void *) (uintptr_t) s->data, s->data_size);
  base.io.concurrent = true;
  if (open_pair (p, &pair, &m.io, &base.io, false, &err) == -1 ||
      qcow2_pread (pair.image, &m.io, buf, (uint32_t) p->c->recipe.disk_size,
                   0, &err) == -1)
    problem = "the disk cannot be read";
  else if (memcmp (buf, p->image.disk, p->c->recipe.disk_size) != 0)
    problem = "the disk has changed";
  close_pair (p, &pair);
  free (buf);
  p->emptied += load_be64 (s->bytes + 40) != load_be64 (p->image.bytes + 40);
  return problem;
}

static bool
look (void *opaque, const struct state *s)
{
  struct play *const p = opaque;
  const char *const problem = judge (p, s);

  p->states++;
  if (problem == NULL)
    return true;
  if (p->failures++ == 0)
    printf ("%s, %s: %s\n", p->c->name, s->how, problem);
  return false;
}

#ifndef Q2_PLANTS
static struct state
present (const struct play *p)
{
  return (struct state) {
    .bytes = p->h.bytes, .size = p->h.size, .data = p->base.bytes,
    .data_size = p->base.size, .how = "at the end",
  };
}
#endif

/* All that the image had is in the one below: that alone is the disk. */
static void
ask_qemu (struct play *p)
{
  const uint64_t disk_size = p->c->recipe.disk_size;
  char image[QEMU_IMAGE], path[300];
  unsigned char *disk;
  uint64_t size;

  qemu_save (p->below->name, p->base.bytes, p->base.size);
  qemu_save ("after.qcow2", p->h.bytes, p->h.size);
  qemu_path (path, sizeof path, "after.qcow2");
  qemu_run (0, "qemu-img check -q %s",
            qemu_image (image, sizeof image, path, p->image.qemu_options,
                        NULL));
  if (!p->below->raw)
    qemu_run (0, "qemu-img check -q %s", p->below->name);
  qemu_run (0, "qemu-img convert -f %s -O raw %s after.raw",
            p->below->raw ? "raw" : "qcow2", p->below->name);
  disk = qemu_load ("after.raw", &size);
  if (CHECK (size >= disk_size))
    CHECK (memcmp (disk, p->image.disk, disk_size) == 0);
  free (disk);
  qemu_run (0, "qemu-img convert -O raw %s after.raw", image);
  disk = qemu_load ("after.raw", &size);
  if (CHECK_EQ (size, disk_size))
    CHECK (memcmp (disk, p->image.disk, size) == 0);
  free (disk);
  qemu_save (p->below->name, p->below->bytes, p->below->size);
}

/* ---- Failing ------------------------------------------------------------ */

#ifndef Q2_PLANTS
static void
fail_requests (struct play *p, struct host *h)
{
  bool failed = true;

  for (unsigned long n = 1; failed && n < 100000;
       n += n < 20 ? 1 : 1 + n / 5) {
    struct qcow2_error err;
    struct state s;
    const char *problem;

    reset (p);
    host_fail (h, 0x7f, n, n % 3 == 0 ? 100000 : 0, n % 2 ? EIO : ENOSPC);
    (void) commit (p, &err);
    failed = h->failed > 0;
    host_fail (h, 0, 0, 0, 0);
    s = present (p);
    problem = judge (p, &s);
    if (!CHECK (problem == NULL))
      printf ("%s, fault %lu: %s\n", p->c->name, n, problem);
  }
}

/* Afterwards it can be done as if nothing had been. */
static void
cancel (struct play *p)
{
  struct qcow2_error err;
  unsigned n, step = 1;
  int r = -1;

  for (n = 1; r == -1; n += step++) {
    struct state s;

    reset (p);
    p->calls_left = n;
    r = commit (p, &err);
    p->calls_left = 0;
    CHECK (r == 0 || err.kind == QCOW2_ERR_CANCELLED);
    s = present (p);
    CHECK (judge (p, &s) == NULL);
    CHECK (r == 0 || commit (p, &err) == 0);
    s = present (p);
    CHECK (judge (p, &s) == NULL);
  }
  CHECK (n > 3);
}

static void
fail_memory (struct play *p)
{
  struct qcow2_error err;
  unsigned long most;

  p->no_trim = true;
  reset (p);
  alloc_count = 0;
  CHECK (commit (p, &err) == 0);
  most = alloc_count;
  for (unsigned long n = 1; n <= most; n += n < 40 ? 1 : 1 + n / 10) {
    const char *problem;
    struct state s;
    long live;

    reset (p);
    live = alloc_live;
    alloc_count = 0;
    alloc_fail_at = n;
    (void) commit (p, &err);
    alloc_fail_at = 0;
    if (!CHECK_EQ (alloc_live, live))
      printf ("%s, allocation %lu is leaked\n", p->c->name, n);
    s = present (p);
    problem = judge (p, &s);
    if (!CHECK (problem == NULL))
      printf ("%s, allocation %lu: %s\n", p->c->name, n, problem);
  }
}
#endif

/* ---- All ---------------------------------------------------------------- */

static unsigned long
play (const struct commit_case *c)
{
  const struct replay_spec how = {
    .seed = 7, .all_subsets = 4, .subsets = 4, .prefix_percent = 100,
  };
  const bool keep = c->flags & QCOW2_COMMIT_KEEP;
  struct play p = { .c = c };
  struct qcow2_error err;

  unit_context ("%s", c->name);
  if (!recipe_is_possible (&c->recipe))
    return 0;
  recipe_make (&p.image, &c->recipe, 5);
  p.below = &p.image.layers.layer[p.image.layers.nr - 1];
  reset (&p);
  host_record (&p.h);
  if (!CHECK (commit (&p, &err) == 0))
    printf ("%s: %s\n", c->name, err.text);
  ask_qemu (&p);
  replay (&p.h, &how, look, &p);
#ifndef Q2_PLANTS
  CHECK_EQ (p.failures, 0);
  CHECK (p.states > p.emptied && (p.emptied > 0) == !keep);
  printf ("%s: %lu states, %lu of them emptied\n", c->name, p.states,
          p.emptied);
  fail_requests (&p, &p.h);
  fail_requests (&p, &p.base);
  cancel (&p);
  fail_memory (&p);
#endif
  (void) keep;
  host_free (&p.h);
  host_free (&p.base);
  recipe_free (&p.image);
  return p.failures;
}

int
main (int argc, char *argv[])
{
  qemu_init ();
#ifdef Q2_PLANTS
  (void) argc;
  (void) argv;
  q2_planted = Q2_PLANT_EMPTY_EARLY;
  /* Into an image, and into a raw file. */
  CHECK (play (&cases[2]) > 0);
  CHECK (play (&cases[4]) > 0);
#else
  for (size_t i = 0; i < NR_CASES; ++i)
    if (argc < 2 || strstr (cases[i].name, argv[1]) != NULL)
      play (&cases[i]);
#endif
  qemu_finish ();
  return unit_finish ();
}
