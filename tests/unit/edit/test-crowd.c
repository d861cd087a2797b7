/* SPDX-License-Identifier: BSD-3-Clause */
/* test-crowd.c - all that can be done to an image in use, by threads, in no
 * order at all.
 *
 * Owns      nothing.
 * Method    some threads write, two change the image: they take and delete
 *           snapshots, of which each keeps a few, so that tables are shared by
 *           many, and add and change bitmaps, alone and in transactions.  One
 *           checks it, one looks at snapshots.  Threads stop for a while at
 *           locks (jitter.h).  Nothing may fail but because something else is
 *           going on; at the end nothing is wrong with the file.
 */
#include "config.h"

#include "fsck.h"
#include "guest.h"
#include "jitter.h"
#include "tag.h"
#include "threads.h"
#include "unit.h"

#include "base/be.h"
#include "image/image.h"

#include <stdlib.h>

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (8192 * KiB)
#define MAX_CLUSTERS (CAPACITY / 512)
#define MAX_DISK (256 * KiB)

#define WRITERS 3
#define EDITORS 2
#define KEPT 4                  /* of each kind, by an editor, at most */
#define NAME_BYTES 16

#define REQUESTS                                                              \
  .write = 60, .zero = 14, .trim = 14, .read = 6, .flush = 5, .idle = 1,      \
  .fua_percent = 3, .max_sectors = 60

static const struct kind {
  struct qcow2_create_options create;
  struct workload w;
} kinds[] = {
  { { .virtual_size = 192 * KiB, .version = 3, .cluster_size = 512 },
    { .name = "512", .recipe = { .cluster_bits = 9, .disk_size = 192 * KiB },
      .host = { .capacity = CAPACITY, .grows = true }, REQUESTS,
      .bitmaps = QCOW2_BITMAPS_DURABLE } },
  { { .virtual_size = 256 * KiB, .version = 3, .cluster_size = 8 * KiB,
      .refcount_bits = 64, .lazy_refcounts = true },
    { .name = "8k, lazy, a slow disk",
      .recipe = { .cluster_bits = 13, .disk_size = 256 * KiB },
      .host = { .capacity = CAPACITY, .grows = true, .delay_us = 300 },
      REQUESTS, .bitmaps = QCOW2_BITMAPS_LAZY } },
  { { .virtual_size = 256 * KiB, .version = 3, .cluster_size = 4 * KiB },
    { .name = "4k, compressed", .compress = true,
      .recipe = { .cluster_bits = 12, .disk_size = 256 * KiB },
      .host = { .capacity = CAPACITY, .grows = true }, REQUESTS,
      .bitmaps = QCOW2_BITMAPS_DURABLE } },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

#if defined HAVE_ZLIB || defined HAVE_LIBDEFLATE
static const bool can_compress = true;
#else
static const bool can_compress = false;
#endif

struct names {
  char text[KEPT][NAME_BYTES];
  unsigned nr, made;
};

/* What one of the editors has made. */
struct editor {
  struct rng rng;
  unsigned nr;
  struct names snapshots, bitmaps;
};

static struct crowd {
  struct guest guest;
  bool only_snapshots;
  _Atomic bool stop;
  _Atomic unsigned long edits, checked, compared;
} crowd;

/* ---- Names --------------------------------------------------------------- */

static struct qcow2_name
name_of (const char *text)
{
  return (struct qcow2_name) { text, strlen (text) };
}

static const char *
make_name (struct editor *e, struct names *n, char kind)
{
  snprintf (n->text[n->nr], NAME_BYTES, "%c%u.%u", kind, e->nr, n->made++);
  return n->text[n->nr++];
}

static void
drop_name (struct names *n, unsigned i)
{
  memmove (n->text[i], n->text[--n->nr], NAME_BYTES);
}

/* ---- Editors ------------------------------------------------------------ */

/* Something else may be going on for longer than anybody waits. */
static bool
is_done (int r, const struct qcow2_error *err)
{
  if (r == 0) {
    atomic_fetch_add (&crowd.edits, 1);
    return true;
  }
  if (!CHECK_EQ (err->kind, QCOW2_ERR_BUSY))
    printf ("%s\n", err->text), fflush (stdout);
  return false;
}

static void
take (struct editor *e)
{
  struct qcow2_snapshot_options o = { .date_sec = 1 };
  struct qcow2_error err;

  o.name = name_of (make_name (e, &e->snapshots, 's'));
  if (!is_done (qcow2_snapshot_create (crowd.guest.image, &crowd.guest.host.io,
                                       &o, &err), &err))
    drop_name (&e->snapshots, e->snapshots.nr - 1);
}

static void
delete (struct editor *e)
{
  const unsigned i = (unsigned) rng_below (&e->rng, e->snapshots.nr);
  const struct qcow2_name name = name_of (e->snapshots.text[i]);
  struct qcow2_error err;

  if (is_done (qcow2_snapshot_delete (crowd.guest.image, &crowd.guest.host.io,
                                      &name, false, NULL, &err), &err))
    drop_name (&e->snapshots, i);
}

/* A new bitmap, perhaps one less, and perhaps a snapshot. */
static void
checkpoint (struct editor *e, bool with_snapshot)
{
  struct qcow2_snapshot_options o = { .date_sec = 1 };
  struct qcow2_bitmap_action a[2] = { { .verb = QCOW2_BITMAP_ADD } };
  struct qcow2_part part = {
    .image = crowd.guest.image, .io = &crowd.guest.host.io, .actions = a,
    .nr_actions = 1, .snapshot = with_snapshot ? &o : NULL,
  };
  const unsigned before = e->bitmaps.nr;
  struct qcow2_error err;
  size_t ignored;
  bool done;

  a[0].granularity = 512u << rng_below (&e->rng, 8);
  a[0].disabled = rng_below (&e->rng, 5) == 0;
  a[0].name = name_of (make_name (e, &e->bitmaps, 'b'));
  if (before > 0 && rng_below (&e->rng, 2)) {
    a[1].verb = QCOW2_BITMAP_DISABLE;
    a[1].name = name_of (e->bitmaps.text[before - 1]);
    part.nr_actions = 2;
  }
  if (with_snapshot)
    o.name = name_of (make_name (e, &e->snapshots, 's'));
  done = is_done (qcow2_transact (&part, 1, &ignored, &err), &err);
  CHECK_EQ (part.outcome, done ? QCOW2_OUTCOME_DONE : QCOW2_OUTCOME_NOT_DONE);
  if (!done) {
    drop_name (&e->bitmaps, before);
    if (with_snapshot)
      drop_name (&e->snapshots, e->snapshots.nr - 1);
  }
}

static void
change_bitmap (struct editor *e)
{
  static const enum qcow2_bitmap_verb verbs[] = {
    QCOW2_BITMAP_CLEAR, QCOW2_BITMAP_ENABLE, QCOW2_BITMAP_DISABLE,
    QCOW2_BITMAP_REMOVE, QCOW2_BITMAP_REMOVE, QCOW2_BITMAP_MERGE,
  };
  const unsigned i = (unsigned) rng_below (&e->rng, e->bitmaps.nr);
  struct qcow2_bitmap_source source = {
    .name = name_of (e->bitmaps.text[rng_below (&e->rng, e->bitmaps.nr)]),
  };
  struct qcow2_bitmap_action a = {
    .verb = verbs[rng_below (&e->rng, 6)],
    .name = name_of (e->bitmaps.text[i]),
  };
  struct qcow2_error err;

  if (a.verb == QCOW2_BITMAP_MERGE) {
    a.sources = &source;
    a.nr_sources = 1;
  }

  if (is_done (qcow2_edit_bitmaps (crowd.guest.image, &crowd.guest.host.io, &a,
                                   1, NULL, NULL, &err), &err) &&
      a.verb == QCOW2_BITMAP_REMOVE)
    drop_name (&e->bitmaps, i);
}

static void
edit (struct editor *e)
{
  const bool more_snapshots = e->snapshots.nr < KEPT;
  const bool more_bitmaps = e->bitmaps.nr < KEPT;
  const unsigned what =
    (unsigned) rng_below (&e->rng, crowd.only_snapshots ? 2 : 5);

  if (what == 0 && more_snapshots)
    take (e);
  else if (what == 1 && e->snapshots.nr > 1)
    delete (e);
  else if (what == 2 && more_snapshots && more_bitmaps)
    checkpoint (e, true);
  else if (what == 3 && more_bitmaps)
    checkpoint (e, false);
  else if (what == 4 && e->bitmaps.nr > 0)
    change_bitmap (e);
}

/* A check begins again after each, and gives up after many. */
static void
editor (unsigned nr)
{
  struct editor e = { .rng = { nr + 1 }, .nr = nr };

  for (unsigned i = 1; !crowd.stop; ++i) {
    edit (&e);
    if (!crowd.only_snapshots && i % 16 == 0)
      sleep_ms (60);
  }
}

/* ---- Others ------------------------------------------------------------- */

static void
checker (void)
{
  for (unsigned i = 0; !crowd.stop; ++i) {
    const struct qcow2_check_options o = {
      .repair = i % 2 ? QCOW2_REPAIR_LEAKS : QCOW2_REPAIR_NONE,
    };
    struct qcow2_check_result result;
    struct qcow2_error err;

    if (qcow2_check_live (crowd.guest.image, &crowd.guest.host.io, &o, &result,
                          &err) == -1) {
      if (!CHECK_EQ (err.kind, QCOW2_ERR_BUSY))
        printf ("%s\n", err.text);
      continue;
    }
    CHECK_EQ (result.corruptions + result.leaks + result.leaks_fixed +
              result.corruptions_fixed, 0);
    atomic_fetch_add (&crowd.checked, 1);
  }
}

static int
note_name (void *opaque, const struct qcow2_snapshot *snapshot)
{
  char *const name = opaque;

  memcpy (name, snapshot->name.bytes, snapshot->name.len);
  name[snapshot->name.len] = '\0';
  return 0;
}

static void
compare_twice (struct qcow2_image *view)
{
  static unsigned char first[MAX_DISK], again[MAX_DISK];
  const uint32_t size = (uint32_t) crowd.guest.ledger.nr_sectors * SECTOR;
  const struct qcow2_io *const io = &crowd.guest.host.io;
  struct qcow2_error err;

  CHECK_EQ (qcow2_pread (view, io, first, size, 0, &err), 0);
  sleep_ms (3);
  CHECK_EQ (qcow2_pread (view, io, again, size, 0, &err), 0);
  CHECK_BYTES (first, again, size);
  for (uint64_t i = 0; i < crowd.guest.ledger.nr_sectors; ++i)
    if (!CHECK (tag_read (first + i * SECTOR, i) != TAG_FOREIGN))
      return;
  atomic_fetch_add (&crowd.compared, 1);
}

static void
viewer (void)
{
  while (!crowd.stop) {
    char text[NAME_BYTES + 1] = "";
    struct qcow2_name name;
    struct qcow2_image *view;
    struct qcow2_error err;

    if (qcow2_list_snapshots (crowd.guest.image, &crowd.guest.host.io,
                              note_name, text, &err) == -1) {
      CHECK_EQ (err.kind, QCOW2_ERR_BUSY);
      continue;
    }
    name = name_of (text);
    view = qcow2_open_view (crowd.guest.image, &crowd.guest.host.io,
                            QCOW2_VIEW_SNAPSHOT, &name, &err);
    if (view != NULL)
      compare_twice (view);
    qcow2_close (view);
    sleep_ms (1);
  }
}

/* ------------------------------------------------------------------------- */

static void
member (void *arg, unsigned nr)
{
  struct rng rng = { nr };

  unit_context ("threads, %s", (const char *) arg);
  if (nr < EDITORS)
    editor (nr);
  else if (nr >= EDITORS + WRITERS)
    (nr == EDITORS + WRITERS ? checker : viewer) ();
  else
    while (!crowd.stop)
      guest_request (&crowd.guest, &rng);
}

static void
begin (const struct kind *kind)
{
  static const unsigned char zeros[MAX_DISK];
  struct guest_files files = { .disk = zeros };
  struct qcow2_error err;
  struct host h;

  host_init (&h, &kind->w.host, "", 0);
  REQUIRE (qcow2_create (&h.io, &kind->create, &err) == 0);
  files.image = h.bytes;
  files.size = h.size;
  guest_init (&crowd.guest, &kind->w, 1, &files);
  host_free (&h);
  guest_open (&crowd.guest);
  crowd.stop = false;
  crowd.edits = crowd.checked = crowd.compared = 0;
}

static void
check_clean (const struct host *h)
{
  static unsigned char risks[MAX_CLUSTERS];
  struct fsck f;
  bool any = false;

  memset (risks, 0, sizeof risks);
  fsck_clusters (h->bytes, h->size, &f, risks, MAX_CLUSTERS);
  for (size_t i = 0; i < MAX_CLUSTERS; ++i)
    any |= risks[i] & (FSCK_SHARED | FSCK_TOO_LOW);
  CHECK (!any);
  fsck_image (h->bytes, h->size, &f);
  unit_check (!f.dirty && f.corruptions == 0 && f.leaks == 0, __FILE__,
              __LINE__, "%s %s", f.text, f.leak_text);
}

/* 'only_snapshots', and nobody who checks or looks: as often as possible. */
static void
run (const struct kind *kind, unsigned jitters, bool only_snapshots,
     unsigned ms)
{
  struct threads threads;

  unit_context ("threads, %s", kind->w.name);
  begin (kind);
  crowd.only_snapshots = only_snapshots;
  jitter (jitters);
  threads_start (&threads, EDITORS + WRITERS + (only_snapshots ? 0 : 2),
                 member, (void *) (uintptr_t) kind->w.name);
  sleep_ms (ms);
  crowd.stop = true;
  threads_join (&threads);
  jitter (0);
  printf ("%s: %lu edits, %lu checks, %lu compared\n", kind->w.name,
          crowd.edits, crowd.checked, crowd.compared);
  CHECK (crowd.edits > 1 && (crowd.compared > 0 || only_snapshots));
  guest_read_all (&crowd.guest);
  CHECK (guest_close (&crowd.guest, true));
  check_clean (&crowd.guest.host);
  guest_free (&crowd.guest);
}

/* More: the time of each in milliseconds. */
int
main (int argc, char **argv)
{
  const unsigned ms = argc > 1 ? (unsigned) strtoul (argv[1], NULL, 10) : 1500;
  static const unsigned jitters[] = { 40, 0, 300 };

  if (argc == 1)
    threads_watchdog ();
  for (size_t i = 0; i < NR_KINDS; ++i)
    if (can_compress || !kinds[i].w.compress)
      run (&kinds[i], jitters[i], false, ms);
  run (&kinds[0], 300, true, 2 * ms);
  return unit_finish ();
}
