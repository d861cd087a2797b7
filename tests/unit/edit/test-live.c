/* SPDX-License-Identifier: BSD-3-Clause */
/* test-live.c - an image is checked while others write to it.
 *
 * Owns      nothing.
 * Method    clients write at random (crash/guest.h), somebody takes and
 *           deletes snapshots, and checks run all the time: of a sound image
 *           no check says anything.  Then refcounts are raised in the file
 *           before it is opened: just these are found, and repaired, and QEMU
 *           finds nothing afterwards.  Then some that are too low, and hosts
 *           that fail.
 */
#include "config.h"

#include "fsck.h"
#include "guest.h"
#include "hooked_disk.h"
#include "qemu.h"
#include "recipe.h"
#include "threads.h"

#include "base/be.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)
#define MAX_FOUND 256

/* ---- Checks ------------------------------------------------------------- */

struct found {
  uint64_t host_off[MAX_FOUND];
  size_t nr;
  char text[QCOW2_FINDING_TEXT];        /* of the last one that is no leak */
};

static void
note (void *opaque, const struct qcow2_finding *f)
{
  struct found *const found = opaque;

  if (f->severity != QCOW2_FINDING_LEAK)
    strncpy (found->text, f->text, sizeof found->text - 1);
  else if (found->nr < MAX_FOUND)
    found->host_off[found->nr++] = f->host_off;
}

static int
run_check (struct qcow2_image *image, struct host *h, bool repair,
           uint64_t memory, struct found *found,
           struct qcow2_check_result *ret, struct qcow2_error *err)
{
  const struct qcow2_check_options options = {
    .repair = repair ? QCOW2_REPAIR_LEAKS : QCOW2_REPAIR_NONE,
    .memory = memory, .finding = note, .opaque = found,
  };

  memset (found, 0, sizeof *found);
  return qcow2_check_live (image, &h->io, &options, ret, err);
}

/* ---- A sound image ------------------------------------------------------ */

struct crowd {
  struct guest g;
  atomic_bool stop;
  uint64_t memory;
  bool repair;                  /* now and then */
  atomic_ulong checks, snapshots;
  unsigned long undecided, windows;
};

static void
check_all_the_time (struct crowd *c)
{
  while (!c->stop) {
    struct qcow2_check_result result;
    struct qcow2_error err;
    struct found found;
    const bool repair = c->repair && c->checks % 2;

    if (run_check (c->g.image, &c->g.host, repair, c->memory, &found, &result,
                   &err) == -1) {
      if (!CHECK (err.kind == QCOW2_ERR_BUSY))
        printf ("%s\n", err.text);
      continue;
    }
    c->checks++;
    c->undecided += result.undecided;
    c->windows += result.windows;
    if (!CHECK_EQ (result.corruptions + result.leaks + result.warnings +
                   result.check_errors + result.leaks_fixed, 0))
      printf ("%s: %s, 0x%" PRIx64 "\n", c->g.w->name, found.text,
              found.host_off[0]);
  }
}

static void
snapshots_all_the_time (struct crowd *c)
{
  const struct qcow2_snapshot_options options = { .name = { "x", 1 } };
  unsigned long checks = 0;
  unsigned pause = 10;

  while (!c->stop && c->snapshots != UINT32_MAX) {
    struct qcow2_error err;

    if (!CHECK (qcow2_snapshot_create (c->g.image, &c->g.host.io, &options,
                                       &err) == 0 &&
                (sleep_ms (3),
                 qcow2_snapshot_delete (c->g.image, &c->g.host.io,
                                        &options.name, false, NULL, &err)
                 == 0))) {
      printf ("%s\n", err.text);
      return;
    }
    c->snapshots++;
    /* Checks that are disturbed too often fail, so on a machine that is slow
     * there is more time between two snapshots, until one has ended.
     */
    if (c->checks != checks)
      pause = 10;
    else if (pause < 1000)
      pause += pause / 4;
    checks = c->checks;
    sleep_ms (c->snapshots % 4 * pause);
  }
}

static void
beside (void *arg, unsigned nr)
{
  if (nr == 0)
    check_all_the_time (arg);
  else
    snapshots_all_the_time (arg);
}

static void
be_sound (const struct workload *w, uint64_t memory, bool snapshots)
{
  static struct crowd c;
  struct recipe_image made;
  struct guest_files files;
  struct threads threads;

  unit_context ("%s", w->name);
  recipe_make (&made, &w->recipe, 1);
  files = guest_files_of (&made);
  guest_init (&c.g, w, 1, &files);
  c.stop = false;
  c.memory = memory;
  c.repair = true;
  c.checks = c.snapshots = c.undecided = c.windows = 0;
  guest_open (&c.g);
  threads_start (&threads, snapshots ? 2 : 1, beside, &c);
  guest_run (&c.g);
  WAIT_UNTIL (c.checks > 3 && (!snapshots || c.snapshots > 3));
  c.stop = true;
  threads_join (&threads);
  printf ("%s: %lu checks, %lu windows, %lu snapshots, %lu undecided\n",
          w->name, (unsigned long) c.checks, c.windows,
          (unsigned long) c.snapshots, c.undecided);
  guest_read_all (&c.g);
  CHECK (guest_close (&c.g, true));
  fsck_check (c.g.host.bytes, c.g.host.size, false);
  guest_free (&c.g);
  recipe_free (&made);
}

#define STORM                                                                 \
  .write = 40, .zero = 15, .trim = 20, .read = 10, .flush = 10, .idle = 1,    \
  .fua_percent = 2
#define GROWS(us) { .capacity = 64 * MiB, .grows = true, .delay_us = us }

/* This program was built with a library for that. */
#if defined HAVE_ZLIB || defined HAVE_LIBDEFLATE
static const bool can_compress = true;
#else
static const bool can_compress = false;
#endif

static void
sound_images (void)
{
  const struct workload storm = {
    .name = "storm",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 4 * MiB, .fill_percent = 40 },
    .host = GROWS (0), .clients = 4, .requests = unit_scaled (1500), STORM,
    .max_sectors = 32,
  };
  const struct workload parts = {
    .name = "in parts, with snapshots",
    .recipe = { .options = "cluster_size=512", .cluster_bits = 9,
                .disk_size = 2 * MiB, .fill_percent = 60, .snapshots = 1 },
    .host = GROWS (20), .clients = 4, .requests = unit_scaled (800), STORM,
    .max_sectors = 16,
  };
  const struct workload compressed = {
    .name = "compressed, with snapshots",
    .recipe = { .options = "cluster_size=4k,refcount_bits=8",
                .cluster_bits = 12, .disk_size = 1 * MiB, .fill_percent = 60,
                .compressed = true },
    .host = GROWS (20), .clients = 4, .requests = unit_scaled (600), STORM,
    .max_sectors = 32, .compress = true,
  };
  const struct workload extended = {
    .name = "extended, with a bitmap",
    .recipe = { .options = "cluster_size=16k,extended_l2=on",
                .cluster_bits = 14, .disk_size = 4 * MiB, .fill_percent = 40,
                .bitmap = true },
    .host = GROWS (0), .clients = 4, .requests = unit_scaled (1000), STORM,
  };

  be_sound (&storm, 0, false);
  be_sound (&parts, 10 * KiB, true);
  if (can_compress)
    be_sound (&compressed, 0, true);
  be_sound (&extended, 0, true);
}

/* ---- Leaks -------------------------------------------------------------- */

static unsigned char *
refcount_of (unsigned char *bytes, uint64_t cluster, unsigned bits)
{
  const uint64_t per_block = (UINT64_C (1) << bits) / 2;
  const uint64_t block =
    load_be64 (bytes + load_be64 (bytes + 48) + cluster / per_block * 8);

  return bytes + block + cluster % per_block * 2;
}

/* Every few clusters of the file get a refcount that is one higher. */
static size_t
raise_some (struct host *h, unsigned bits, uint64_t *ret_off)
{
  size_t nr = 0;

  for (uint64_t c = 3; c < h->size >> bits && nr < MAX_FOUND; c += 7) {
    unsigned char *const r = refcount_of (h->bytes, c, bits);

    store_be16 (r, (uint16_t) (load_be16 (r) + 1));
    ret_off[nr++] = c << bits;
  }
  return nr;
}

struct hunt {
  struct guest *g;
  uint64_t planted[MAX_FOUND];
  size_t nr;
  atomic_bool done;
};

static bool
is_planted (const struct hunt *hunt, uint64_t host_off)
{
  for (size_t i = 0; i < hunt->nr; ++i)
    if (hunt->planted[i] == host_off)
      return true;
  return false;
}

/* Until all have been found and repaired. */
static void
hunt (void *arg, unsigned nr)
{
  struct hunt *const hunt = arg;
  struct qcow2_check_result result;
  struct qcow2_error err;
  struct found found;
  size_t fixed = 0, first = 0;

  (void) nr;
  for (unsigned i = 0; fixed < hunt->nr && i < 50; ++i) {
    if (!CHECK (run_check (hunt->g->image, &hunt->g->host, i > 0, 0, &found,
                           &result, &err) == 0)) {
      printf ("%s\n", err.text);
      break;
    }
    for (size_t k = 0; k < found.nr; ++k)
      CHECK (is_planted (hunt, found.host_off[k]));
    CHECK_EQ (result.leaks + result.leaks_fixed, found.nr);
    first = i == 0 ? found.nr + result.undecided : first;
    fixed += result.leaks_fixed;
  }
  CHECK (first >= hunt->nr);
  CHECK_EQ (fixed, hunt->nr);
  hunt->done = true;
}

static void
be_leaky (unsigned snapshots)
{
  const struct workload w = {
    .name = snapshots ? "leaky, with a snapshot" : "leaky",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 2 * MiB, .fill_percent = 50,
                .snapshots = snapshots },
    .host = GROWS (20), .clients = 3, .requests = unit_scaled (500),
    .write = 40, .zero = 10, .trim = 10, .read = 10, .flush = 10,
    .max_sectors = 16,
  };
  static struct guest g;
  static struct hunt h;
  struct recipe_image made;
  struct guest_files files;
  struct threads threads;
  struct qcow2_check_result result;
  struct qcow2_error err;
  struct found found;

  unit_context ("%s", w.name);
  recipe_make (&made, &w.recipe, 2);
  files = guest_files_of (&made);
  guest_init (&g, &w, 2, &files);
  h = (struct hunt) { .g = &g };
  h.nr = raise_some (&g.host, 12, h.planted);
  CHECK (h.nr > 20);
  guest_open (&g);
  threads_start (&threads, 1, hunt, &h);
  guest_run (&g);
  threads_join (&threads);
  CHECK_EQ (run_check (g.image, &g.host, false, 0, &found, &result, &err), 0);
  CHECK_EQ (result.leaks, 0);
  if (!CHECK_EQ (result.corruptions, 0))
    printf ("%s\n", found.text);
  guest_read_all (&g);
  CHECK (guest_close (&g, true));
  fsck_check (g.host.bytes, g.host.size, false);
  qemu_submit (g.host.bytes, g.host.size, NULL, QEMU_CLEAN, NULL, 0, w.name);
  guest_free (&g);
  recipe_free (&made);
}

/* A leaked reference to a cluster whose entry says that it is shared: the
 * entry says so no more, when it is not.
 */
static void
own_again (void)
{
  struct hooked_disk d;
  struct qcow2_check_result result;
  struct found found;
  uint64_t off, entry;

  unit_context ("an entry that is alone again");
  hooked_disk_build (&d, 12, 4, 1 * MiB, 8);
  off = builder_entry_off (&d.b, 3);
  entry = hooked_disk_get (&d, off) & ~HOOKED_COPIED;
  hooked_disk_put (&d, off, entry);
  store_be16 (refcount_of (d.b.bytes, (entry & HOOKED_OFFSET) >> 12, 12), 2);
  hooked_disk_serve (&d, &(struct host_spec) GROWS (0));
  hooked_disk_open (&d);
  CHECK_EQ (run_check (d.image, &d.host, false, 0, &found, &result, &d.err),
            0);
  CHECK_EQ (result.leaks, 1);
  CHECK_EQ (result.corruptions, 0);
  CHECK_EQ (run_check (d.image, &d.host, true, 0, &found, &result, &d.err), 0);
  CHECK_EQ (result.leaks, 0);
  CHECK_EQ (result.leaks_fixed, 1);
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  fsck_check (d.host.bytes, d.host.size, false);
  CHECK (hooked_disk_get (&d, off) & HOOKED_COPIED);
  hooked_disk_free (&d);
}

/* ---- What is worse ------------------------------------------------------ */

static atomic_bool stop_writing;

static void
write_elsewhere (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  static unsigned char buf[4096];

  for (unsigned i = 0; !stop_writing; ++i) {
    const uint64_t off = (32 + nr * 64 + i % 64) * 4096;
    struct qcow2_error err;
    const int r = i / 64 % 2
      ? qcow2_trim (d->image, &d->host.io, 4096, off, false, &err)
      : qcow2_pwrite (d->image, &d->host.io, buf, 4096, off, false, &err);

    if (!unit_check (r == 0, __FILE__, __LINE__, "%s", err.text))
      break;
  }
}

/* Two entries with one cluster, which counts once; and one that counts not at
 * all.
 */
static void
be_corrupt (void)
{
  struct hooked_disk d;
  struct qcow2_check_result result;
  struct threads threads;
  struct found found;
  uint64_t entry;

  unit_context ("too low");
  hooked_disk_build (&d, 12, 4, 2 * MiB, 8);
  entry = hooked_disk_get (&d, builder_entry_off (&d.b, 1));
  hooked_disk_put (&d, builder_entry_off (&d.b, 20), entry & ~HOOKED_COPIED);
  hooked_disk_put (&d, builder_entry_off (&d.b, 1), entry & ~HOOKED_COPIED);
  entry = hooked_disk_get (&d, builder_entry_off (&d.b, 5));
  store_be16 (refcount_of (d.b.bytes, (entry & HOOKED_OFFSET) >> 12, 12), 0);
  hooked_disk_serve (&d, &(struct host_spec) GROWS (20));
  hooked_disk_open (&d);
  /* Or it would be handed out. */
  CHECK_EQ (run_check (d.image, &d.host, true, 0, &found, &result, &d.err), 0);
  /* Refcounts of two clusters, and the flags of three entries. */
  CHECK_EQ (result.corruptions, 5);
  CHECK_EQ (result.leaks + result.leaks_fixed, 0);
  hooked_disk_free (&d);

  hooked_disk_build (&d, 12, 4, 2 * MiB, 8);
  entry = hooked_disk_get (&d, builder_entry_off (&d.b, 1));
  hooked_disk_put (&d, builder_entry_off (&d.b, 20), entry);
  hooked_disk_serve (&d, &(struct host_spec) GROWS (20));
  hooked_disk_open (&d);
  stop_writing = false;
  threads_start (&threads, 3, write_elsewhere, &d);
  for (unsigned i = 0; i < 5; ++i) {
    CHECK_EQ (run_check (d.image, &d.host, true, 0, &found, &result, &d.err),
              0);
    CHECK_EQ (result.corruptions, 1);
    CHECK_EQ (result.leaks + result.leaks_fixed, 0);
  }
  stop_writing = true;
  threads_join (&threads);
  hooked_disk_free (&d);
}

/* ---- Hosts that are slow ------------------------------------------------ */

#define SLOW_WRITERS 8

static void
write_slowly (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  static unsigned char buf[4096];

  while (!stop_writing) {
    struct qcow2_error err;

    if (!unit_check (qcow2_pwrite (d->image, &d->host.io, buf, sizeof buf,
                                   (32 + nr) * sizeof buf, false, &err) == 0,
                     __FILE__, __LINE__, "%s", err.text))
      break;
  }
}

/* Somebody is in flight for longer than a check waits at first, always. */
static void
be_patient (void)
{
  struct hooked_disk d;
  struct qcow2_check_result result;
  struct threads threads;
  struct found found;
  uint64_t entry;

  unit_context ("slow");
  hooked_disk_build (&d, 12, 4, 2 * MiB, 8);
  entry = hooked_disk_get (&d, builder_entry_off (&d.b, 1));
  store_be16 (refcount_of (d.b.bytes, (entry & HOOKED_OFFSET) >> 12, 12), 3);
  hooked_disk_serve (&d, &(struct host_spec) GROWS (400000));
  hooked_disk_open (&d);
  stop_writing = false;
  threads_start (&threads, SLOW_WRITERS, write_slowly, &d);
  if (!CHECK_EQ (run_check (d.image, &d.host, false, 0, &found, &result,
                            &d.err), 0))
    printf ("%s\n", d.err.text);
  else
    CHECK_EQ (result.leaks + result.undecided, 1);
  stop_writing = true;
  threads_join (&threads);
  hooked_disk_free (&d);
}

/* Faulty entries, and a caller who wants to hear of each. */
static void
tell_all (void)
{
  static struct found found;
  const struct qcow2_check_options options = {
    .finding = note, .max_findings = UINT64_MAX, .opaque = &found,
  };
  struct hooked_disk d;
  struct qcow2_check_result result;

  unit_context ("no limit");
  hooked_disk_build (&d, 12, 4, 2 * MiB, 8);
  for (unsigned i = 0; i < 4; ++i)
    hooked_disk_put (&d, builder_entry_off (&d.b, 100 + i), HOOKED_COPIED);
  hooked_disk_serve (&d, &(struct host_spec) GROWS (0));
  hooked_disk_open (&d);
  CHECK_EQ (qcow2_check_live (d.image, &d.host.io, &options, &result, &d.err),
            0);
  CHECK_EQ (result.corruptions, 4);
  CHECK_EQ (result.findings_left_out, 0);
  hooked_disk_free (&d);
}

/* ---- Hosts that fail ---------------------------------------------------- */

static bool
give_up_soon (void *opaque, unsigned percent)
{
  (void) percent;
  return --*(unsigned *) opaque > 0;
}

static void
cancel (void)
{
  static const unsigned char cluster[512] = { 1 };
  struct hooked_disk d;
  struct qcow2_check_result result;

  unit_context ("cancelled");
  hooked_disk_build (&d, 9, 4, 4 * MiB, 8);
  for (unsigned i = 0; i < 60; ++i)
    builder_data (&d.b, i * 64 + 9, cluster);
  hooked_disk_serve (&d, &(struct host_spec) GROWS (0));
  hooked_disk_open (&d);
  for (unsigned i = 1; i < 50; i += 7) {
    unsigned left = i;
    const struct qcow2_check_options options = {
      .repair = QCOW2_REPAIR_LEAKS, .progress = give_up_soon, .opaque = &left,
    };

    CHECK_EQ (qcow2_check_live (d.image, &d.host.io, &options, &result,
                                &d.err), -1);
    CHECK_EQ (d.err.kind, QCOW2_ERR_CANCELLED);
  }
  hooked_disk_free (&d);
}

/* The n-th request of the host fails: what was there is not worse. */
static bool
fail_once (struct recipe_image *made, const struct workload *w,
           unsigned long at)
{
  static struct guest g;
  const struct guest_files files = guest_files_of (made);
  struct qcow2_check_result result;
  struct qcow2_error err = { .text = "" };
  struct rng rng = { at };
  struct found found;
  struct fsck f;
  uint64_t planted[MAX_FOUND];
  bool failed;

  guest_init (&g, w, at, &files);
  raise_some (&g.host, 12, planted);
  guest_open (&g);
  for (unsigned i = 0; i < 10; ++i)
    guest_request (&g, &rng);
  host_fail (&g.host, 1u << HOST_READ | 1u << HOST_WRITE | 1u << HOST_ZERO |
             1u << HOST_FLUSH, at, 0, EIO);
  if (run_check (g.image, &g.host, true, 0, &found, &result, &err) == 0)
    CHECK_EQ (result.corruptions + result.corruptions_fixed >
              found.nr + MAX_FOUND, false);
  failed = g.host.failed > 0;
  host_fail (&g.host, 0, 0, 0, 0);
  if (guest_close (&g, !failed) && !failed)
    CHECK_EQ (result.leaks, 0);
  fsck_image (g.host.bytes, g.host.size, &f);
  /* Flags may contradict a leak that is left. */
  if (!failed && !CHECK_EQ (f.corruptions + f.leaks, 0))
    printf ("%s\n", f.text);
  if (f.corruptions > 0 && strstr (f.text, "COPIED") == NULL &&
      strstr (f.text, "flag") == NULL)
    unit_check (false, __FILE__, __LINE__, "fault %lu: %s", at, f.text);
  guest_free (&g);
  return failed;
}

static void
fail_each (void)
{
  const struct workload w = {
    .name = "faults",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 256 * KiB, .fill_percent = 50, .snapshots = 1 },
    .host = GROWS (0), .requests = 1, .write = 10, .trim = 5, .flush = 1,
  };
  struct recipe_image made;
  unsigned long at = 1;

  unit_context ("faults");
  recipe_make (&made, &w.recipe, 3);
  while (at < 1000 && fail_once (&made, &w, at))
    ++at;
  printf ("%lu faults\n", at - 1);
  CHECK (at > 10 && at < 1000);
  recipe_free (&made);
}

int
main (void)
{
  threads_watchdog ();
  qemu_init ();
  own_again ();
  be_corrupt ();
  tell_all ();
  be_patient ();
  cancel ();
  fail_each ();
  be_leaky (0);
  be_leaky (1);
  sound_images ();
  qemu_finish ();
  return unit_finish ();
}
