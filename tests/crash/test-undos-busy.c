/* SPDX-License-Identifier: BSD-3-Clause */
/* test-undos-busy.c - a guest writes while a snapshot is taken that fails, or
 * is cancelled, and all of it may be interrupted anywhere.
 *
 * Before operations of the thread that takes the snapshot the guest does a
 * request (beside.h).  It is cancelled at each step, or one operation of that
 * thread fails: it is not done at all, or, if it is a write, part of it may
 * reach the file later (late.h).  The files that a crash could leave behind
 * are as busy.h says, without the snapshot.  When all has ended the image is
 * clean, or it has the dirty bit and nothing of it is at risk.
 */
#include "config.h"

#include "busy.h"
#include "fsck.h"
#include "qemu.h"

#include "image/image.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define BEFORE 6                /* requests that no commit has seen, ... */
#define AFTER 8                 /* ... and those when it is undone */
#define FAULTS 12               /* operations that fail, for each seed */

static const struct workload kinds[] = {
  { .recipe = { .options = "cluster_size=512,refcount_bits=64",
                .cluster_bits = 9, .disk_size = 160 * KiB,
                .fill_percent = 60, .snapshots = 1 },
    .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 20 },
  { .recipe = { .options = "cluster_size=1k,compat=0.10",
                .cluster_bits = 10, .disk_size = 384 * KiB,
                .fill_percent = 40 },
    .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 24 },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

static const struct qcow2_name new_name = { "new", 3 };

static struct scene {
  struct busy b;                /* first: its steps get a pointer to it */
  unsigned told, cancel_at;     /* 0: never */
  unsigned long nr, fail_at;    /* operations; 0: none fails */
  bool late;                    /* it may reach the file, and fails there */
  bool in_vain;                 /* no snapshot was taken */
  unsigned long undone, late_ones;      /* runs; writes that may come */
} s;

/* ---- Faults ------------------------------------------------------------- */

static _Thread_local bool fails_late;
static struct qcow2_io_ops inner;

/* Below the steps: the guest's requests do not fail. */
static int
late_pwrite (void *opaque, const void *buf, uint32_t count, uint64_t host_off,
             enum qcow2_io_class io_class)
{
  struct host *const h = &s.b.guest.host;
  int r;

  if (!fails_late)
    return inner.pwrite (opaque, buf, count, host_off, io_class);
  fails_late = false;
  s.late_ones++;
  host_fail (h, 1 << HOST_WRITE, 1, 0, EIO);
  r = inner.pwrite (opaque, buf, count, host_off, io_class);
  host_fail (h, 0, 0, 0, 0);
  return r;
}

static void
wrap (struct host *h)
{
  inner = h->ops;
  h->ops.pwrite = late_pwrite;
}

static int
watch (void *opaque, enum host_op_kind kind)
{
  (void) opaque;
  if (++s.nr != s.fail_at)
    return 0;
  if (!s.late || kind != HOST_WRITE)
    return EIO;
  fails_late = true;
  return 0;
}

static bool
tell (void *opaque, unsigned percent)
{
  (void) opaque;
  (void) percent;
  return ++s.told != s.cancel_at;
}

/* ---- The run ------------------------------------------------------------ */

static bool
is_over (void)
{
  return atomic_load (&s.b.guest.image->writer.state) == Q2_WRITER_FAILED;
}

static void
take (void)
{
  const struct qcow2_snapshot_options options = {
    .name = new_name, .date_sec = 1000000000, .progress = tell,
  };
  struct guest *const g = &s.b.guest;
  struct qcow2_part part = {
    .image = g->image, .io = &g->host.io, .snapshot = &options,
  };
  struct busy_snapshot *const new = busy_add (&s.b, "new");
  struct qcow2_error err = { .text = "" };
  size_t ignored;
  int r;

  s.told = 0;
  s.nr = 0;
  new->may_from = host_tick (&g->host);
  new->must_from = TICK_NEVER;
  g->tolerated = ~0u;
  beside_begin (&s.b.beside);
  r = qcow2_transact (&part, 1, &ignored, &err);
  beside_end (&s.b.beside);
  s.in_vain = part.outcome == QCOW2_OUTCOME_NOT_DONE;
  s.undone += s.in_vain;
  if (s.in_vain)
    new->may_from = TICK_NEVER;
  CHECK (r == 0 || s.fail_at > 0 || err.kind == QCOW2_ERR_CANCELLED);
}

/* 'exact': nothing has failed. */
static void
look_at_end (bool over, bool exact)
{
  const struct host *const h = &s.b.guest.host;
  const bool has_bit = s.b.version >= 3;

  if (exact || (has_bit && !over && !(h->bytes[79] & 1)))
    busy_has_leaks (&s.b, h, "at the end");
}

static void
run (const struct workload *w, uint64_t seed)
{
  struct busy *const b = &s.b;
  struct guest *const g = &b->guest;
  bool over;

  busy_begin (b, w, seed, BEFORE);
  snprintf (b->what, sizeof b->what, "%.50s, seed %" PRIu64 ", step %u, "
            "fault %lu%s", w->recipe.options, seed, s.cancel_at, s.fail_at,
            s.late ? ", late" : "");
  b->beside.before = watch;
  b->beside.percent = 35;
  host_record (&g->host);
  guest_open (g);
  beside_steps (&b->beside, BEFORE);
  take ();
  beside_steps (&b->beside, AFTER);
  over = is_over ();
  if (!over)
    busy_look_at_now (b);
  if (atomic_load (&g->errors) > 0 && !over)
    busy_failed (b, "undoing it", "a request has failed");
  if (!guest_close (g, !over))
    busy_failed (b, "at the end", "it does not end well");
  look_at_end (over, s.fail_at == 0);
}

/* ---- Scenes ------------------------------------------------------------- */

/* Returns whether it has come to what was to happen. */
static bool
play (const struct workload *w, uint64_t seed, unsigned long *failures)
{
  run (w, seed);
  if (s.b.failures == 0 && s.in_vain)
    busy_replay (&s.b, seed);
  busy_end (&s.b);
  *failures += s.b.failures;
  return s.cancel_at > 0 ? s.told >= s.cancel_at : s.nr >= s.fail_at;
}

static unsigned long
cancel_each (const struct workload *w, uint64_t seed)
{
  unsigned long failures = 0;

  s.fail_at = 0;
  for (s.cancel_at = 1; play (w, seed, &failures); ++s.cancel_at)
    ;
  CHECK (s.cancel_at > 3);
  s.cancel_at = 0;
  return failures;
}

/* From some operation on, in steps that hit others with each seed. */
static unsigned long
fail_some (const struct workload *w, uint64_t seed)
{
  unsigned long failures = 0, all;

  s.fail_at = 1000000;
  play (w, seed, &failures);
  all = s.nr;
  for (unsigned i = 0; i < FAULTS; ++i) {
    s.late = (i + seed) % 2;
    s.fail_at = 1 + (i * all + seed * 7 % all) / FAULTS;
    play (w, seed, &failures);
  }
  return failures;
}

int
main (void)
{
  unsigned long failures = 0;

  qemu_init ();
  busy_init (&s.b, false);
  s.b.wrap = wrap;
  for (size_t k = 0; k < NR_KINDS; ++k) {
    recipe_make (&s.b.image, &kinds[k].recipe, 1);
    for (uint64_t seed = 1; seed <= unit_scaled (1); ++seed)
      failures += cancel_each (&kinds[k], seed) + fail_some (&kinds[k], seed);
    recipe_free (&s.b.image);
  }
  CHECK_EQ (failures, 0);
  /* 24 and 8 mostly; who else runs has a say in it. */
  CHECK (s.undone > 12 && s.late_ones > 2);
  busy_free (&s.b);
  qemu_finish ();
  return unit_finish ();
}
