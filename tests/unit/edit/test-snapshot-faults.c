/* SPDX-License-Identifier: BSD-3-Clause */
/* test-snapshot-faults.c - every operation of the host, and every allocation,
 * fails once while a snapshot is taken, deleted or applied.
 *
 * Owns      nothing.
 * Method    the same change of the same image, and its n-th operation fails,
 *           once or with all that follow, for each n.  Then the image that is
 *           open is written to, as far as it lets itself be; the disk, every
 *           snapshot, and after a new opening the whole file must be as they
 *           were before or after the change.  The file is clean, but for
 *           leaks, or has the dirty bit and is clean after the next writing.
 */
#include "config.h"

#include "alloc_faults.h"
#include "bitmap_set.h"
#include "fsck.h"
#include "host.h"
#include "unit.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (4096 * KiB)
#define DISK (96 * KiB)
#define MAX_LEAKS 6
#define MAX_LEAKS_OF_STATE (STATE / KiB + 1)      /* and its table */
#define SEEDS 3

enum change { TAKE, SAVE, DELETE, APPLY };       /* SAVE: with a VM state */
static const char *const change_names[] = {
  "take", "save", "delete", "apply",
};
#define STATE (5 * KiB)

static struct host start;               /* the image before the change */
static unsigned char disk[DISK], s0[DISK];
static unsigned char first[DISK];       /* when the bitmaps began */
static unsigned version;
/* How much of a failed write is done. */
static uint64_t seed;

static const struct qcow2_name s0_name = { "s0", 2 }, new_name = { "new", 3 };

/* What is wrong with the image, and not with the host. */
static void
note_corruption (void *opaque, enum qcow2_log_level level, const char *text,
                 enum qcow2_advice advice)
{
  (void) opaque;
  (void) level;
  (void) advice;
  if (strstr (text, "to hold") != NULL || strstr (text, "corrupt") != NULL)
    unit_check (false, __FILE__, __LINE__, "%s", text);
}

static struct qcow2_image *
open_image (struct host *h)
{
  const struct qcow2_options options = {
    .writable = true, .cache_size = 64 * KiB, .log = note_corruption,
  };
  struct qcow2_error err;

  host_reopen (h);
  return qcow2_open (&h->io, &options, &err);
}

static int
write_cluster (struct host *h, struct qcow2_image *image, uint64_t at,
               int byte)
{
  unsigned char buf[1024];
  struct qcow2_error err;

  memset (buf, byte, sizeof buf);
  if (qcow2_pwrite (image, &h->io, buf, sizeof buf, at, false, &err) == -1)
    return -1;
  memset (disk + at, byte, sizeof buf);
  return 0;
}

static int
read_state (void *opaque, void *buf, uint32_t count, uint64_t off,
            struct qcow2_error *err)
{
  (void) opaque;
  (void) err;
  memset (buf, (int) (off >> 10) + 0x55, count);
  return 0;
}

static const struct qcow2_vm_state vm_state = { STATE, read_state, NULL };

static int
do_change (struct host *h, struct qcow2_image *image, enum change change,
           struct qcow2_error *err)
{
  const struct qcow2_snapshot_options options = {
    .name = new_name, .vm_state = change == SAVE ? &vm_state : NULL,
  };

  switch (change) {
  case TAKE:
  case SAVE:
    return qcow2_snapshot_create (image, &h->io, &options, err);
  case DELETE:
    return qcow2_snapshot_delete (image, &h->io, &s0_name, false, NULL, err);
  case APPLY:
    return qcow2_snapshot_apply (image, &h->io, &s0_name, false, NULL, err);
  }
  return -1;
}

#define ADD(s, g)                                                             \
  { .verb = QCOW2_BITMAP_ADD, .name = { s, sizeof (s) - 1 }, .granularity = g }
static const struct qcow2_bitmap_action bitmaps[2] = {
  ADD ("fine", 512), ADD ("coarse", 4096),
};

/* A disk that shares some with its snapshot, which has some of its own. */
static void
make_start (unsigned of_version)
{
  const struct host_spec spec = {
    .capacity = CAPACITY, .grows = true, .trim = HOST_TRIM_ZEROS,
  };
  const struct qcow2_create_options create = {
    .virtual_size = DISK, .version = of_version, .cluster_size = 1024,
  };
  const struct qcow2_snapshot_options options = { .name = s0_name };
  struct qcow2_image *image;
  struct qcow2_error err;

  version = of_version;
  memset (disk, 0, sizeof disk);
  host_init (&start, &spec, "", 0);
  REQUIRE (qcow2_create (&start.io, &create, &err) == 0);
  image = open_image (&start);
  REQUIRE (image != NULL);
  for (uint64_t at = 0; at < DISK; at += 2048)
    REQUIRE (write_cluster (&start, image, at, (int) (at / 2048 + 1)) == 0);
  memcpy (s0, disk, sizeof disk);
  REQUIRE (qcow2_snapshot_create (image, &start.io, &options, &err) == 0);
  for (uint64_t at = 0; at < DISK / 2; at += 5 * 1024)
    REQUIRE (write_cluster (&start, image, at, 0xee) == 0);
  memcpy (first, disk, sizeof disk);
  if (of_version >= 3)
    REQUIRE (qcow2_edit_bitmaps (image, &start.io, bitmaps, 2, NULL, NULL,
                                 &err) == 0);
  REQUIRE (qcow2_end (image, &start.io, &err) == 0);
  qcow2_close (image);
}

/* ---- What must be there ------------------------------------------------ */

struct listing {
  struct host *h;
  struct qcow2_image *image;
  const unsigned char *taken;   /* the disk when "new" was */
  unsigned nr, nr_s0;
};

static void
check_reads_as (struct host *h, struct qcow2_image *image,
                const unsigned char *expected)
{
  static unsigned char buf[DISK];
  struct qcow2_error err;

  if (CHECK (qcow2_pread (image, &h->io, buf, DISK, 0, &err) == 0))
    CHECK_BYTES (buf, expected, DISK);
  else
    printf ("%s\n", err.text);
}

static int
look_at (void *opaque, const struct qcow2_snapshot *s)
{
  struct listing *const l = opaque;
  const bool is_s0 = s->name.len == 2;
  struct qcow2_error err;
  struct qcow2_image *const view =
    qcow2_open_view (l->image, &l->h->io, QCOW2_VIEW_SNAPSHOT_ID, &s->id,
                     &err);

  l->nr++;
  l->nr_s0 += is_s0;
  if (CHECK (view != NULL))
    check_reads_as (l->h, view, is_s0 ? s0 : l->taken);
  qcow2_close (view);
  return 0;
}

/* Returns whether the change has taken place. */
static bool
check_contents (struct host *h, struct qcow2_image *image, enum change change,
                const unsigned char *taken)
{
  struct listing l = { h, image, taken, 0, 0 };
  struct qcow2_error err;
  bool new;

  check_reads_as (h, image, disk);
  if (change == APPLY) {
    CHECK (qcow2_list_snapshots (image, &h->io, look_at, &l, &err) == 0);
    CHECK_EQ (l.nr, 1);
    return memcmp (disk, s0, DISK) == 0;
  }
  CHECK (qcow2_list_snapshots (image, &h->io, look_at, &l, &err) == 0);
  new = change == DELETE ? l.nr_s0 == 0 : l.nr == 2;
  CHECK_EQ (l.nr, change == DELETE ? 1 - new : 1 + new);
  return new;
}

/* No users without a count, nothing shared that may be written in place. */
static void
check_file (struct host *h, struct fsck *f)
{
  unsigned char risks[CAPACITY / 1024] = { 0 };

  fsck_clusters (h->bytes, h->size, f, risks, sizeof risks);
  for (size_t i = 0; i < sizeof risks; ++i)
    if (!CHECK_EQ (risks[i] & (FSCK_TOO_LOW | FSCK_SHARED), 0))
      return;
}

/* Those that are not in use say what has changed since they began. */
static void
check_bitmaps (struct host *h, const unsigned char *now, enum change change)
{
  struct bitmap_set set;

  bitmap_set_load (&set, h->bytes, h->size);
  CHECK_EQ (set.problem[0], '\0');
  CHECK_EQ (set.nr, version >= 3 ? 2 : 0);
  for (size_t i = 0; i < set.nr; ++i) {
    const struct bitmap_seen *const b = &set.bitmap[i];
    unsigned long lost = 0, extra = 0;

    CHECK_EQ (b->flags, BITMAP_AUTO);
    for (uint64_t k = 0; k < b->nr_bits; ++k) {
      const bool differs = bitmap_part_differs (b, k, now, first, DISK);

      lost += differs && !bitmap_has (b, k);
      extra += !differs && bitmap_has (b, k) && change != APPLY;
    }
    CHECK_EQ (lost + extra, 0);
  }
  bitmap_set_free (&set);
}

/* How often each was seen. */
static unsigned outcomes[APPLY + 1][QCOW2_OUTCOME_UNKNOWN + 1];

/* After a new opening and some writing. */
static void
check_later (struct host *h, enum change change, const unsigned char *taken,
             enum qcow2_outcome outcome)
{
  struct qcow2_image *const image = open_image (h);
  struct qcow2_error err;
  struct fsck f;
  bool new;

  if (!CHECK (image != NULL))
    return;
  new = check_contents (h, image, change, taken);
  if (outcome != QCOW2_OUTCOME_UNKNOWN)
    CHECK_EQ (new, outcome == QCOW2_OUTCOME_DONE);
  outcomes[change][outcome]++;
  for (uint64_t at = 0; at < DISK; at += 7 * 1024)
    CHECK (write_cluster (h, image, at, 0x77) == 0);
  check_contents (h, image, change, taken);
  if (!CHECK (qcow2_end (image, &h->io, &err) == 0))
    printf ("%s\n", err.text);
  qcow2_close (image);
  check_file (h, &f);
  if (version < 3)
    return;
  if (!CHECK_EQ (f.corruptions, 0))
    printf ("%s\n", f.text);
  CHECK (!f.dirty);
  CHECK (f.leaks <= MAX_LEAKS + (change == SAVE ? MAX_LEAKS_OF_STATE : 0));
}

/* ---- Faults ------------------------------------------------------------ */

static void
go_on_writing (struct host *h, struct qcow2_image *image, enum change change,
               const unsigned char *taken)
{
  struct qcow2_error err;

  for (uint64_t at = 0; at < DISK / 2; at += 3 * 1024)
    if (write_cluster (h, image, at, 0x33) == -1) {
      /* Nothing is lost: it is not in the file, which is read below. */
      CHECK (at == 0);
      return;
    }
  check_contents (h, image, change, taken);
  if (!CHECK (qcow2_end (image, &h->io, &err) == 0))
    printf ("%s\n", err.text);
}

/* The disk of the file is the snapshot's. */
static bool
is_s0 (struct host *h)
{
  static unsigned char buf[DISK];
  struct qcow2_image *const image = open_image (h);
  struct qcow2_error err;
  bool same;

  if (!CHECK (image != NULL))
    return false;
  same = qcow2_pread (image, &h->io, buf, DISK, 0, &err) == 0 &&
    memcmp (buf, s0, DISK) == 0;
  qcow2_close (image);
  return same;
}

/* kinds 0: allocations.  Returns false when nothing has failed. */
static bool
run (enum change change, unsigned kinds, int errnum, unsigned long at,
     bool on)
{
  static unsigned char before[DISK], taken[DISK];
  struct qcow2_error err;
  struct qcow2_image *image;
  struct fsck f;
  struct host h;
  bool failed;
  int r;

  memcpy (before, disk, sizeof disk);
  memcpy (taken, disk, sizeof disk);
  host_init (&h, &start.spec, start.bytes, start.size);
  h.random = seed;
  image = open_image (&h);
  REQUIRE (image != NULL);
  if (kinds != 0)
    host_fail (&h, kinds, at, on ? 1000000 : 0, errnum);
  alloc_count = 0;
  alloc_fail_at = kinds == 0 ? at : 0;
  alloc_fail_on = on;
  r = do_change (&h, image, change, &err);
  failed = kinds == 0 ? alloc_count >= at : h.failed > 0;
  alloc_fail_at = 0;
  host_fail (&h, 0, 0, 0, 0);
  check_file (&h, &f);
  check_bitmaps (&h, change == APPLY && is_s0 (&h) ? s0 : disk, change);
  if (change != APPLY) {
    check_contents (&h, image, change, taken);
    go_on_writing (&h, image, change, taken);
  }
  else if (r == -1)             /* what is open is the old disk, or nothing */
    go_on_writing (&h, image, change, taken);
  qcow2_close (image);
  if (change == APPLY && is_s0 (&h))
    memcpy (disk, s0, DISK);
  check_later (&h, change, taken, r == 0 ? QCOW2_OUTCOME_DONE : err.outcome);
  host_free (&h);
  memcpy (disk, before, sizeof disk);
  if (!failed)
    CHECK (r == 0);
  return failed;
}

static void
run_all (enum change change, unsigned kinds, int errnum, const char *what)
{
  for (unsigned on = 0; on < 2; ++on) {
    unsigned long at = 1;

    do
      unit_context ("version %u, %s, %s %lu%s", version, change_names[change],
                    what, at, on ? " and all that follow" : "");
    while (run (change, kinds, errnum, at, on) && ++at < 10000);
    CHECK (at > 3 && at < 10000);
  }
}

int
main (void)
{
  const unsigned writes = 1u << HOST_WRITE | 1u << HOST_ZERO |
    1u << HOST_GROW;

  for (unsigned v = 2; v <= 3; ++v) {
    make_start (v);
    for (unsigned c = TAKE; c <= APPLY; ++c) {
      run_all ((enum change) c, 1u << HOST_READ, EIO, "read");
      for (seed = 0; seed < SEEDS; ++seed) {
        run_all ((enum change) c, writes, EIO, "write");
        run_all ((enum change) c, writes, ENOSPC, "write without space");
      }
      run_all ((enum change) c, 1u << HOST_FLUSH, EIO, "flush");
      run_all ((enum change) c, 0, 0, "allocation");
    }
    host_free (&start);
  }
  for (unsigned c = TAKE; c <= APPLY; ++c)
    for (unsigned o = 0; o <= QCOW2_OUTCOME_UNKNOWN; ++o)
      CHECK (outcomes[c][o] > 0);
  return unit_finish ();
}
