/* SPDX-License-Identifier: BSD-3-Clause */
/* test-snapshot-between.c - snapshots are taken while guests write.
 *
 * Owns      nothing.
 * Method    the guest does a request before operations of the thread that
 *           takes the snapshot (beside.h).  Each of these operations fails, or
 *           that thread is told to stop, at each step: no request of the guest
 *           may fail because of that, its disk must read as it was written,
 *           and what was said of the snapshot must be what the file has.  Of
 *           several images, records that are written to one after the other
 *           must be in the snapshots so.  In no order at all, by threads:
 *           test-crowd.c.
 */
#include "config.h"

#include "beside.h"
#include "fsck.h"
#include "guest.h"
#include "jitter.h"
#include "tag.h"
#include "threads.h"
#include "unit.h"

#include "base/be.h"
#include "image/image.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (4096 * KiB)
#define MAX_CLUSTERS (CAPACITY / 512)
#define MAX_DISK (256 * KiB)
#define BEFORE 10               /* requests that no commit has seen, ... */
#define AFTER 6                 /* ... and those when it is over */

#define NAME(s) { s, sizeof (s) - 1 }
#define REQUESTS                                                              \
  .write = 60, .zero = 14, .trim = 14, .read = 6, .flush = 5, .idle = 1,      \
  .fua_percent = 3

static const struct kind {
  struct qcow2_create_options create;
  struct workload w;
} kinds[] = {
  { { .virtual_size = 192 * KiB, .version = 3, .cluster_size = 512 },
    { .name = "512", .recipe = { .cluster_bits = 9, .disk_size = 192 * KiB },
      .host = { .capacity = CAPACITY, .grows = true }, REQUESTS,
      .max_sectors = 60 } },
  { { .virtual_size = 256 * KiB, .version = 2, .cluster_size = 1024 },
    { .name = "1k, version 2",
      .recipe = { .cluster_bits = 10, .disk_size = 256 * KiB },
      .host = { .capacity = CAPACITY, .grows = true }, REQUESTS,
      .max_sectors = 60 } },
  { { .virtual_size = 192 * KiB, .version = 3, .cluster_size = 512,
      .refcount_bits = 2, .lazy_refcounts = true },
    { .name = "512, lazy, 2 bits",
      .recipe = { .cluster_bits = 9, .disk_size = 192 * KiB },
      .host = { .capacity = CAPACITY, .grows = true }, REQUESTS,
      .max_sectors = 60 } },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

static const struct qcow2_snapshot_options options = { .name = NAME ("s") };

/* ---- One image ---------------------------------------------------------- */

/* What happens to the thread that takes the snapshot. */
struct fault {
  unsigned kinds;               /* of operations */
  unsigned long at, more;       /* 0: none */
  int errnum;
  unsigned cancel_at;           /* 0: never */
};

struct scene {
  const struct kind *kind;
  const struct fault *fault;
  struct guest guest;
  struct beside beside;
  bool captured;
  uint64_t not_yet, by_then;    /* ticks, before the capture and after it */
  unsigned long nr;             /* operations that could fail */
  unsigned told;                /* how often there was progress */
  enum qcow2_outcome outcome;
};

/* Nothing may be found, whatever goes on.  Returns whether it was to the end.
 */
static bool
check_live (struct guest *g, bool repair)
{
  const struct qcow2_check_options o = {
    .repair = repair ? QCOW2_REPAIR_LEAKS : QCOW2_REPAIR_NONE,
  };
  struct qcow2_check_result result;
  struct qcow2_error err;

  if (qcow2_check_live (g->image, &g->host.io, &o, &result, &err) == -1) {
    if (!CHECK_EQ (err.kind, QCOW2_ERR_BUSY))
      printf ("%s\n", err.text);
    return false;
  }
  CHECK_EQ (result.corruptions + result.leaks + result.leaks_fixed +
            result.corruptions_fixed, 0);
  return true;
}

/* A check waits until there is a snapshot, or none. */
static void
request (void *opaque, struct rng *rng)
{
  struct scene *const s = opaque;

  if (s->fault->kinds == 0 && rng_below (rng, 40) == 0)
    check_live (&s->guest, rng_below (rng, 2));
  else
    guest_request (&s->guest, rng);
}

static void
note_moment (struct scene *s)
{
  if (s->captured)
    return;
  s->captured = atomic_load (&s->guest.image->writer.sharing.active);
  if (s->captured)
    s->by_then = host_tick (&s->guest.host);
  else
    s->not_yet = host_tick (&s->guest.host);
}

static int
watch (void *opaque, enum host_op_kind kind)
{
  struct scene *const s = opaque;
  const struct fault *const f = s->fault;

  note_moment (s);
  if (!(f->kinds & 1u << kind))
    return 0;
  s->nr++;
  return f->at > 0 && s->nr >= f->at && s->nr <= f->at + f->more
    ? f->errnum : 0;
}

static bool
tell (void *opaque, unsigned percent)
{
  struct scene *const s = opaque;

  (void) percent;
  return ++s->told != s->fault->cancel_at;
}

static void
create (struct host *h, const struct kind *kind)
{
  struct qcow2_error err;

  host_init (h, &kind->w.host, "", 0);
  REQUIRE (qcow2_create (&h->io, &kind->create, &err) == 0);
}

static void
begin (struct scene *s, const struct kind *kind, const struct fault *fault,
       uint64_t seed)
{
  static const unsigned char zeros[MAX_DISK];
  struct guest_files files = { .disk = zeros };
  struct host h;

  create (&h, kind);
  files.image = h.bytes;
  files.size = h.size;
  memset (s, 0, sizeof *s);
  s->kind = kind;
  s->fault = fault;
  guest_init (&s->guest, &kind->w, seed, &files);
  host_free (&h);
  beside_wrap (&s->guest.host);
  s->beside = (struct beside) {
    .step = request, .before = watch, .opaque = s, .percent = 40,
    .patience_us = 2000,
  };
  beside_init (&s->beside, seed);
  guest_open (&s->guest);
  beside_steps (&s->beside, 3 * BEFORE);
  REQUIRE (guest_close (&s->guest, true));
  guest_open (&s->guest);
  beside_steps (&s->beside, BEFORE);
}

static bool
is_over (const struct scene *s)
{
  return atomic_load (&s->guest.image->writer.state) == Q2_WRITER_FAILED;
}

/* Whether one has failed that had no reason to. */
static void
check_requests (struct scene *s)
{
  unit_check (atomic_load (&s->guest.errors) == 0 || is_over (s), __FILE__,
              __LINE__, "%lu requests have failed",
              atomic_load (&s->guest.errors));
}

static int
take (struct scene *s, struct qcow2_error *err)
{
  const struct qcow2_snapshot_options with_progress = {
    .name = options.name, .progress = tell, .progress_opaque = s,
  };
  struct qcow2_part part = {
    .image = s->guest.image, .io = &s->guest.host.io,
    .snapshot = &with_progress,
  };
  size_t ignored;
  int r;

  s->not_yet = host_tick (&s->guest.host);
  s->guest.tolerated = ~0u;
  beside_begin (&s->beside);
  r = qcow2_transact (&part, 1, &ignored, err);
  beside_end (&s->beside);
  s->outcome = part.outcome;
  return r;
}

/* ---- What there is afterwards ------------------------------------------- */

static struct qcow2_image *
open_snapshot (struct qcow2_image *image, struct host *h, const char *name)
{
  const struct qcow2_name n = { name, strlen (name) };
  struct qcow2_error err;

  return qcow2_open_view (image, &h->io, QCOW2_VIEW_SNAPSHOT, &n, &err);
}

static void
check_snapshot (struct scene *s, struct host *h, struct qcow2_image *view)
{
  static unsigned char buf[MAX_DISK];
  struct ledger *const l = &s->guest.ledger;
  struct qcow2_error err;

  if (!CHECK (s->captured) ||
      !CHECK (qcow2_pread (view, &h->io, buf,
                           (uint32_t) (l->nr_sectors * SECTOR), 0, &err) == 0))
    return;
  for (uint64_t i = 0; i < l->nr_sectors; ++i) {
    const uint32_t id = tag_read (buf + i * SECTOR, i);

    if (!CHECK (id != TAG_FOREIGN &&
                ledger_may_read (l, i, id, s->not_yet, s->by_then)))
      return;
  }
}

/* It has the snapshot if it must, and only if it may; and that is right. */
static void
check_file (struct scene *s)
{
  const struct qcow2_options read_only = { .writable = false };
  struct host *const h = &s->guest.host;
  struct qcow2_image *image, *view;
  struct qcow2_error err;

  host_reopen (h);
  image = qcow2_open (&h->io, &read_only, &err);
  if (!CHECK (image != NULL))
    return;
  view = open_snapshot (image, h, "s");
  CHECK (view == NULL || s->outcome != QCOW2_OUTCOME_NOT_DONE);
  CHECK (view != NULL || s->outcome != QCOW2_OUTCOME_DONE);
  if (view != NULL)
    check_snapshot (s, h, view);
  qcow2_close (view);
  qcow2_close (image);
}

static void
check_risks (const struct host *h)
{
  static unsigned char risks[MAX_CLUSTERS];
  struct fsck f;
  bool any = false;

  memset (risks, 0, sizeof risks);
  fsck_clusters (h->bytes, h->size, &f, risks, MAX_CLUSTERS);
  for (size_t i = 0; i < MAX_CLUSTERS; ++i)
    any |= risks[i] & (FSCK_SHARED | FSCK_TOO_LOW);
  CHECK (!any);
}

/* 'exact': nothing has failed but what was told to stop. */
static void
check_clean (const struct host *h, bool exact)
{
  const bool has_bit = load_be32 (h->bytes + 4) >= 3;
  struct fsck f;

  check_risks (h);
  fsck_image (h->bytes, h->size, &f);
  /* Flags that are not set count as corruptions. */
  if (exact || (has_bit && !(h->bytes[79] & 1)))
    unit_check (!f.dirty && f.corruptions == 0 && f.leaks == 0, __FILE__,
                __LINE__, "%s %s", f.text, f.leak_text);
}

static void
finish (struct scene *s, bool exact)
{
  struct guest *const g = &s->guest;
  bool over;

  beside_steps (&s->beside, AFTER);
  check_requests (s);
  guest_read_all (g);
  over = is_over (s);
  CHECK (!over || !exact);
  CHECK (guest_close (g, !over));
  check_file (s);
  if (over)
    check_risks (&g->host);
  else
    check_clean (&g->host, exact);
  beside_free (&s->beside);
  guest_free (g);
}

/* ---- Faults ------------------------------------------------------------- */

/* Returns whether it has come to that fault. */
static bool
run_fault (const struct kind *kind, const struct fault *f, uint64_t seed,
           unsigned *counts)
{
  static struct scene s;
  struct qcow2_error err = { .text = "" };
  bool hit;
  int r;

  begin (&s, kind, f, seed);
  r = take (&s, &err);
  hit = f->at > 0 && s.nr >= f->at;
  if (!CHECK (r == 0 || hit))
    printf ("%s\n", err.text);
  CHECK (r == -1 || s.outcome == QCOW2_OUTCOME_DONE);
  counts[s.outcome]++;
  finish (&s, !hit);
  return hit;
}

static void
test_faults_of (const struct kind *kind, unsigned host_kinds, int errnum,
                uint64_t seed)
{
  unsigned counts[3] = { 0 };

  for (unsigned more = 0; more < 2; ++more) {
    struct fault f = {
      .kinds = host_kinds, .more = more * 1000, .errnum = errnum, .at = 1,
    };

    do {
      unit_context ("%s, seed %" PRIu64 ": operation %lu of %x fails with %d, "
                    "and %lu more", kind->w.name, seed, f.at, host_kinds,
                    errnum, f.more);
    } while (run_fault (kind, &f, seed * 1000 + f.at, counts) &&
             ++f.at < 1000);
    CHECK (f.at > 2);
  }
  CHECK (counts[QCOW2_OUTCOME_NOT_DONE] > 0 && counts[QCOW2_OUTCOME_DONE] > 0);
}

static void
test_faults (void)
{
  const unsigned changes = 1 << HOST_WRITE | 1 << HOST_ZERO | 1 << HOST_GROW;

  for (uint64_t seed = 1; seed <= unit_scaled (3); ++seed)
    for (size_t k = 0; k < NR_KINDS; ++k) {
      test_faults_of (&kinds[k], 1 << HOST_READ, EIO, seed);
      test_faults_of (&kinds[k], changes, EIO, seed);
      test_faults_of (&kinds[k], changes, ENOSPC, seed);
      test_faults_of (&kinds[k], 1 << HOST_FLUSH, EIO, seed);
    }
}

/* ---- Cancelling --------------------------------------------------------- */

static void
test_cancel (void)
{
  static struct scene s;

  for (size_t k = 0; k < NR_KINDS; ++k)
    for (uint64_t seed = 1; seed <= unit_scaled (5); ++seed) {
      struct fault f = { .cancel_at = 0 };
      bool hit;

      do {
        struct qcow2_error err = { .text = "" };
        int r;

        f.cancel_at++;
        unit_context ("%s, seed %" PRIu64 ": it is cancelled at step %u",
                      kinds[k].w.name, seed, f.cancel_at);
        begin (&s, &kinds[k], &f, seed + 100 * f.cancel_at);
        r = take (&s, &err);
        hit = s.told >= f.cancel_at;
        if (!CHECK (r == (hit ? -1 : 0)))
          printf ("%s\n", err.text);
        if (hit)
          CHECK_EQ (err.kind, QCOW2_ERR_CANCELLED);
        CHECK (hit == (s.outcome == QCOW2_OUTCOME_NOT_DONE));
        finish (&s, true);
      } while (hit && f.cancel_at < 100);
      CHECK (f.cancel_at > 2);
    }
}

/* ---- Two who change snapshots ------------------------------------------- */

struct two {
  struct guest guest;
  unsigned nr;                  /* of the snapshot that the other one has */
};

static int
take_named (struct two *t, const char *name)
{
  const struct qcow2_snapshot_options o = { .name = { name, strlen (name) } };
  struct qcow2_error err;

  return qcow2_snapshot_create (t->guest.image, &t->guest.host.io, &o, &err);
}

static int
delete_named (struct two *t, const char *name, struct qcow2_error *err)
{
  const struct qcow2_name n = { name, strlen (name) };

  return qcow2_snapshot_delete (t->guest.image, &t->guest.host.io, &n, false,
                                NULL, err);
}

/* Another snapshot table, and guest data where the old one was. */
static void
replace_table (void *opaque, struct rng *rng)
{
  struct two *const t = opaque;
  struct qcow2_error err;
  char old[16], new[16];

  snprintf (old, sizeof old, "t%u", t->nr);
  snprintf (new, sizeof new, "t%u", ++t->nr);
  CHECK_EQ (take_named (t, new), 0);
  CHECK_EQ (delete_named (t, old, &err), 0);
  for (unsigned i = 0; i < 20; ++i)
    guest_request (&t->guest, rng);
}

/* The table that names it may be replaced while it is looked for. */
static void
test_two (void)
{
  static const unsigned char zeros[MAX_DISK];
  static struct two t;
  struct beside b = {
    .step = replace_table, .opaque = &t, .percent = 100,
  };
  struct guest_files files = { .disk = zeros };
  struct qcow2_error err = { .text = "" };
  struct host h;

  unit_context ("two change snapshots");
  create (&h, &kinds[0]);
  files.image = h.bytes;
  files.size = h.size;
  guest_init (&t.guest, &kinds[0].w, 1, &files);
  host_free (&h);
  beside_wrap (&t.guest.host);
  guest_open (&t.guest);
  CHECK_EQ (take_named (&t, "t0"), 0);
  beside_init (&b, 1);
  for (unsigned i = 0; i < 20; ++i) {
    CHECK_EQ (take_named (&t, "s"), 0);
    beside_begin (&b);
    if (!CHECK_EQ (delete_named (&t, "s", &err), 0))
      printf ("%s\n", err.text);
    beside_end (&b);
  }
  beside_free (&b);
  guest_read_all (&t.guest);
  CHECK (guest_close (&t.guest, true));
  check_clean (&t.guest.host, true);
  guest_free (&t.guest);
}

/* ---- Several images ----------------------------------------------------- */

#define MAX_IMAGES 4
#define SLOTS 64                /* of records, all over the disk */
#define SLOT_SIZE (192 * KiB / SLOTS)

struct group {
  unsigned nr;
  unsigned slow;                /* one without records; or nr */
  struct host h[MAX_IMAGES];
  struct qcow2_image *image[MAX_IMAGES];
  unsigned next;                /* image that record 'record' is written to */
  uint64_t record;
  bool failed;
  _Atomic bool stop;
};

static void
fill_record (unsigned char *buf, uint64_t record)
{
  for (unsigned i = 0; i < 512; i += 8)
    store_be64 (buf + i, record);
}

/* To the first image, then to the second, and so on. */
static void
go_to_next (struct group *g)
{
  do {
    g->next = (g->next + 1) % g->nr;
    g->record += g->next == 0;
  } while (g->next == g->slow);
}

static void
write_record (void *opaque, struct rng *rng)
{
  struct group *const g = opaque;
  struct qcow2_error err;
  unsigned char buf[512];
  const unsigned i = g->next;

  fill_record (buf, g->record);
  g->failed |= qcow2_pwrite (g->image[i], &g->h[i].io, buf, sizeof buf,
                             g->record % SLOTS * SLOT_SIZE, false, &err) == -1;
  if (rng_below (rng, 30) == 0)
    g->failed |= qcow2_flush (g->image[i], &g->h[i].io, &err) == -1;
  go_to_next (g);
}

/* Returns the last record of an image's snapshot; it has all before that. */
static uint64_t
last_record (struct group *g, unsigned i)
{
  struct qcow2_image *const view = open_snapshot (g->image[i], &g->h[i], "s");
  unsigned char expected[512], buf[512];
  struct qcow2_error err;
  uint64_t last = 0;

  if (!CHECK (view != NULL))
    return 0;
  for (unsigned pass = 0; pass < 2; ++pass)
    for (uint64_t slot = 0; slot < SLOTS; ++slot) {
      uint64_t record = last - (last + SLOTS - slot) % SLOTS;

      CHECK (qcow2_pread (view, &g->h[i].io, buf, sizeof buf,
                          slot * SLOT_SIZE, &err) == 0);
      if (pass == 0 && load_be64 (buf) > last)
        last = load_be64 (buf);
      if (record > last)        /* there was none so early */
        record = 0;
      fill_record (expected, record);
      if (pass == 1)
        CHECK_BYTES (buf, expected, sizeof buf);
    }
  qcow2_close (view);
  return last;
}

static void
begin_group (struct group *g, unsigned nr, unsigned slow)
{
  const struct qcow2_options writable = { .writable = true };
  struct qcow2_error err;

  memset (g, 0, sizeof *g);
  g->nr = nr;
  g->slow = slow;
  g->record = 1;
  for (unsigned i = 0; i < nr; ++i) {
    create (&g->h[i], &kinds[0]);
    beside_wrap (&g->h[i]);
    host_reopen (&g->h[i]);
    g->image[i] = qcow2_open (&g->h[i].io, &writable, &err);
    REQUIRE (g->image[i] != NULL);
  }
}

static void
take_all (struct group *g)
{
  struct qcow2_part parts[MAX_IMAGES];
  struct qcow2_error err = { .text = "" };
  size_t ignored;

  for (unsigned i = 0; i < g->nr; ++i)
    parts[i] = (struct qcow2_part) {
      .image = g->image[i], .io = &g->h[i].io, .snapshot = &options,
    };
  if (!CHECK_EQ (qcow2_transact (parts, g->nr, &ignored, &err), 0))
    printf ("%s\n", err.text);
}

static void
check_records (struct group *g)
{
  const uint64_t first = last_record (g, 0);
  uint64_t before = first;

  for (unsigned i = 1; i < g->nr; ++i)
    if (i != g->slow) {
      const uint64_t last = last_record (g, i);

      CHECK (last <= before && last + 1 >= first);
      before = last;
    }
}

static void
delete_all (struct group *g)
{
  struct qcow2_error err;

  for (unsigned i = 0; i < g->nr; ++i)
    CHECK_EQ (qcow2_snapshot_delete (g->image[i], &g->h[i].io, &options.name,
                                     false, NULL, &err), 0);
}

static void
end_group (struct group *g)
{
  struct qcow2_error err;

  for (unsigned i = 0; i < g->nr; ++i) {
    CHECK_EQ (qcow2_end (g->image[i], &g->h[i].io, &err), 0);
    qcow2_close (g->image[i]);
    check_clean (&g->h[i], true);
    host_free (&g->h[i]);
  }
}

static void
run_group (unsigned nr, uint64_t seed)
{
  static struct group g;
  struct beside b = {
    .step = write_record, .opaque = &g, .percent = 50, .patience_us = 2000,
  };

  unit_context ("%u images, seed %" PRIu64, nr, seed);
  begin_group (&g, nr, nr);
  beside_init (&b, seed);
  beside_steps (&b, 2 * SLOTS * nr + (unsigned) (seed % 50));
  beside_begin (&b);
  take_all (&g);
  beside_end (&b);
  CHECK (!g.failed);
  check_records (&g);
  beside_free (&b);
  end_group (&g);
}

/* Changes that take long, so that it takes long to hold them back. */
static void
write_slowly (struct group *g)
{
  const unsigned i = g->slow;
  struct qcow2_error err;
  unsigned char buf[2048];

  memset (buf, 1, sizeof buf);
  for (uint64_t at = 0; !g->stop; at = (at + 7680) % (128 * KiB))
    CHECK_EQ (qcow2_pwrite (g->image[i], &g->h[i].io, buf, sizeof buf, at,
                            false, &err), 0);
}

static void
write_or_take (void *arg, unsigned nr)
{
  struct group *const g = arg;
  struct rng rng = { nr };

  unit_context ("%u images, threads", g->nr);
  while (nr == 1 && !g->stop)
    write_record (g, &rng);
  if (nr == 2)
    write_slowly (g);
  for (unsigned i = 0; nr == 0 && i < unit_scaled (25); ++i) {
    sleep_ms (2);
    take_all (g);
    check_records (g);
    delete_all (g);
  }
  g->stop |= nr == 0;
}

/* Records are written all the time, in the moment, too. */
static void
run_group_threads (unsigned nr, unsigned slow)
{
  static struct group g;
  struct threads threads;

  begin_group (&g, nr, slow);
  if (slow < nr)
    g.h[slow].spec.delay_us = 500;
  jitter (slow < nr ? 0 : 10);
  threads_start (&threads, slow < nr ? 3 : 2, write_or_take, &g);
  threads_join (&threads);
  jitter (0);
  CHECK (!g.failed);
  end_group (&g);
}

static void
test_groups (void)
{
  for (uint64_t seed = 1; seed <= unit_scaled (30); ++seed) {
    run_group (2, seed);
    run_group (4, seed);
  }
  run_group_threads (2, 2);
  run_group_threads (3, 1);
}

int
main (int argc, char **argv)
{
  const char *const only = argc > 1 ? argv[1] : "";

  threads_watchdog ();
  if (*only == '\0' || *only == 'a')
    test_faults ();
  if (*only == '\0' || *only == 'b')
    test_cancel ();
  if (*only == '\0' || *only == 'c')
    test_groups ();
  if (*only == '\0' || *only == 'd')
    test_two ();
  return unit_finish ();
}
