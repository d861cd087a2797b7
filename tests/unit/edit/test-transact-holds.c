/* SPDX-License-Identifier: BSD-3-Clause */
/* test-transact-holds.c - what a transaction does while it holds changes back.
 *
 * Owns      nothing.
 * Method    the host counts what the engine asks of it while the gate is
 *           closed.  Of a disk that is being written to that is nothing, for a
 *           snapshot, for bitmaps, and for both, whatever is enabled.  A write
 *           of bits that fails between the two moments, or any other
 *           operation, must leave bitmaps that have all bits, or are marked.
 */
#include "config.h"

#include "bitmap_set.h"
#include "fsck.h"
#include "hooked_disk.h"
#include "unit.h"

#include "image/image.h"
#include "track/following.h"
#include "track/tracked.h"

#include <errno.h>

#define NAME(s) { s, sizeof (s) - 1 }
#define MAX_ENABLED 4
#define CLUSTER 4096
#define DISK (UINT64_C (1) << 20)

enum what { SNAPSHOT = 1, BITMAPS = 2, CHECKPOINT = SNAPSHOT | BITMAPS };

static struct {
  struct hooked_disk d;
  unsigned closed, open;        /* host operations, by state of the gate */
  unsigned next;                /* cluster to be written */
  unsigned char changed[DISK / CLUSTER];        /* since the start */
  unsigned char later[DISK / CLUSTER];          /* since the transaction */
  bool failed;                  /* a request */
} t;

static const struct host_spec spec = {
  .capacity = 64 << 20, .grows = true,
};

/* ---- What is counted ---------------------------------------------------- */

static void
write_one (void)
{
  const unsigned c = t.next * 7 % (DISK / CLUSTER);

  t.next++;
  if (hooked_disk_write (&t.d, c, 'a' + (int) (t.next % 20)))
    t.changed[c] = t.later[c] = 1;
  else
    t.failed = true;
}

static void
count (void)
{
  if (q2_gate_is_closed (&t.d.image->gate))
    t.closed++;
  else
    t.open++;
}

static void
count_io (struct hooked_disk *d, uint32_t n, uint64_t off,
          enum qcow2_io_class io_class)
{
  (void) d;
  (void) n;
  (void) off;
  (void) io_class;
  count ();
}

static void
count_flush (struct hooked_disk *d)
{
  (void) d;
  count ();
}

/* ---- The disk ----------------------------------------------------------- */

static void
name_it (char text[8], char kind, unsigned i)
{
  text[0] = kind;
  text[1] = (char) ('0' + i);
  text[2] = '\0';
}

static void
add_bitmaps (unsigned enabled)
{
  for (unsigned i = 0; i < enabled; ++i) {
    char name[8];
    const struct qcow2_bitmap_action add = {
      .verb = QCOW2_BITMAP_ADD, .name = { name, 2 }, .granularity = 4096,
    };

    name_it (name, 'e', i);
    CHECK_EQ (qcow2_edit_bitmaps (t.d.image, &t.d.host.io, &add, 1, NULL, NULL,
                                  &t.d.err), 0);
  }
}

static void
open_disk (enum qcow2_bitmaps mode, uint64_t size)
{
  memset (&t, 0, sizeof t);
  hooked_disk_build (&t.d, 12, 4, size, size == DISK ? 64 : 0);
  hooked_disk_serve (&t.d, &spec);
  t.d.image = qcow2_open (&t.d.host.io, &(struct qcow2_options) {
      .writable = true, .bitmaps = mode,
      .overlap_check = QCOW2_OVERLAP_CACHED }, &t.d.err);
  REQUIRE (t.d.image != NULL);
}

/* Someone writes to it. */
static void
begin (enum qcow2_bitmaps mode, unsigned enabled)
{
  open_disk (mode, DISK);
  add_bitmaps (enabled);
  for (unsigned i = 0; i < 20; ++i)
    write_one ();
}

/* Bitmaps that are enabled are disabled, and as many are added, or one; or all
 * but the first are cleared.
 */
static int
transact (enum what what, unsigned enabled, bool clear)
{
  const struct qcow2_snapshot_options snapshot = { .name = NAME ("s") };
  struct qcow2_bitmap_action actions[2 * MAX_ENABLED + 1];
  char names[2 * MAX_ENABLED + 1][8];
  struct qcow2_part part = {
    .image = t.d.image, .io = &t.d.host.io, .actions = actions,
    .snapshot = what & SNAPSHOT ? &snapshot : NULL,
  };
  size_t nr = 0, ignored;

  for (unsigned i = 0; i < enabled; ++i, ++nr) {
    name_it (names[nr], 'e', i);
    actions[nr] = (struct qcow2_bitmap_action) {
      .verb = clear && i > 0 ? QCOW2_BITMAP_CLEAR : QCOW2_BITMAP_DISABLE,
      .name = { names[nr], 2 },
    };
  }
  for (unsigned i = 0; i < (enabled > 0 ? enabled : 1); ++i, ++nr) {
    name_it (names[nr], 'n', i);
    actions[nr] = (struct qcow2_bitmap_action) {
      .verb = QCOW2_BITMAP_ADD, .name = { names[nr], 2 },
      .granularity = 4096,
    };
  }
  part.nr_actions = what & BITMAPS ? nr : 0;
  memset (t.later, 0, sizeof t.later);
  return qcow2_transact (&part, 1, &ignored, &t.d.err);
}

/* ---- What it must have -------------------------------------------------- */

static void
check_bits (const struct bitmap_seen *b, const unsigned char *wanted,
            bool exact)
{
  unsigned missing = 0, more = 0;

  for (uint64_t i = 0; i < DISK / CLUSTER; ++i) {
    missing += wanted[i] && !bitmap_has (b, i);
    more += !wanted[i] && bitmap_has (b, i);
  }
  if (!CHECK (missing == 0 && (more == 0 || !exact)))
    printf ("'%s': %u missing, %u more\n", b->name, missing, more);
}

/* It was ended. */
static void
check_end (enum what what, unsigned enabled, bool clear, bool done)
{
  struct bitmap_set set;

  bitmap_set_load (&set, t.d.host.bytes, t.d.host.size);
  CHECK (set.problem[0] == '\0');
  for (size_t i = 0; i < set.nr; ++i) {
    const struct bitmap_seen *const b = &set.bitmap[i];
    const bool is_new = b->name[0] == 'n' ||
      (clear && done && b->name[1] != '0');

    CHECK (done || b->name[0] == 'e');
    CHECK_EQ (b->flags, b->name[0] == 'n' || is_new || !done ||
              !(what & BITMAPS) ? BITMAP_AUTO : 0);
    if (is_new || (b->flags & BITMAP_AUTO))
      check_bits (b, is_new ? t.later : t.changed, true);
  }
  CHECK_EQ (set.nr, enabled + (done && (what & BITMAPS)
                               ? (enabled > 0 ? enabled : 1) : 0));
  bitmap_set_free (&set);
  fsck_check (t.d.host.bytes, t.d.host.size, false);
}

static void
watch (bool on)
{
  t.d.after_read = on ? count_io : NULL;
  t.d.before_write = on ? count_io : NULL;
  t.d.before_flush = on ? count_flush : NULL;
}

static void
test_hold (enum what what, enum qcow2_bitmaps mode, unsigned enabled,
           bool clear)
{
  unit_context ("%s: what %d, mode %d, %u enabled, %s", __func__, (int) what,
                (int) mode, enabled, clear ? "cleared" : "disabled");
  begin (mode, enabled);
  watch (true);
  if (!CHECK_EQ (transact (what, enabled, clear), 0))
    printf ("%s\n", t.d.err.text);
  watch (false);
  CHECK_EQ (t.closed, 0);
  CHECK (t.open > 0);
  /* It is kept up on, without anything that the next change has to wait for,
   * but for its own bits.
   */
  CHECK (q2_writer_is_for_disk (&t.d.image->writer));
  for (unsigned i = 0; i < 10; ++i)
    write_one ();
  CHECK_EQ (qcow2_end (t.d.image, &t.d.host.io, &t.d.err), 0);
  check_end (what, enabled, clear, true);
  hooked_disk_free (&t.d);
}

/* ---- While somebody writes ---------------------------------------------- */

static void *
keep_writing (void *opaque)
{
  _Atomic bool *const stop = opaque;
  unsigned char buf[CLUSTER];
  struct qcow2_error err;

  memset (buf, 'z', sizeof buf);
  for (unsigned i = 0; !*stop; ++i)
    CHECK_EQ (qcow2_pwrite (t.d.image, &t.d.host.io, buf, sizeof buf,
                            (i * 13 + 128) % 256 * CLUSTER, false, &err), 0);
  return NULL;
}

static size_t
count_tracked (void)
{
  size_t nr = 0;

  for (const struct q2_tracked *b = t.d.image->writer.track.first; b != NULL;
       b = b->next)
    nr += !b->lost;
  return nr;
}

/* Threads, for the thread sanitizer; and each set is followed by another. */
static void
test_crowd (enum qcow2_bitmaps mode)
{
  static const struct qcow2_bitmap_source source = { .name = NAME ("e1") };
  const struct qcow2_bitmap_action actions[] = {
    { .verb = QCOW2_BITMAP_DISABLE, .name = NAME ("e0") },
    { .verb = QCOW2_BITMAP_CLEAR, .name = NAME ("e1") },
    { .verb = QCOW2_BITMAP_ENABLE, .name = NAME ("e0") },
    { .verb = QCOW2_BITMAP_MERGE, .name = NAME ("e2"), .sources = &source,
      .nr_sources = 1 },
    { .verb = QCOW2_BITMAP_REMOVE, .name = NAME ("e3") },
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("e3"), .granularity = 65536 },
  };
  struct qcow2_part part = {
    .actions = actions, .nr_actions = sizeof actions / sizeof actions[0],
  };
  _Atomic bool stop = false;
  pthread_t writers[2];
  size_t ignored;

  unit_context ("%s, mode %d", __func__, (int) mode);
  begin (mode, MAX_ENABLED);
  part.image = t.d.image;
  part.io = &t.d.host.io;
  for (unsigned i = 0; i < 2; ++i)
    REQUIRE (pthread_create (&writers[i], NULL, keep_writing, &stop) == 0);
  for (unsigned i = 0; i < 30; ++i)
    if (!CHECK_EQ (qcow2_transact (&part, 1, &ignored, &t.d.err), 0))
      printf ("%s\n", t.d.err.text);
  stop = true;
  for (unsigned i = 0; i < 2; ++i)
    pthread_join (writers[i], NULL);
  CHECK (!q2_track_has_gone (&t.d.image->writer.track));
  CHECK_EQ (count_tracked (), MAX_ENABLED);
  CHECK_EQ (qcow2_end (t.d.image, &t.d.host.io, &t.d.err), 0);
  fsck_check (t.d.host.bytes, t.d.host.size, false);
  hooked_disk_free (&t.d);
}

/* ---- While the header is switched --------------------------------------- */

#define LARGE (UINT64_C (64) << 20)
#define GRANULE (UINT64_C (4) << 20)    /* and zone */

static struct {
  bool done;
  bool old_has, new_has;        /* the granule, when it was written to */
} switching;

static void *
write_granule (void *opaque)
{
  static unsigned char buf[CLUSTER];
  const unsigned *const granule = opaque;
  struct qcow2_error err;

  CHECK_EQ (qcow2_pwrite (t.d.image, &t.d.host.io, buf, sizeof buf,
                          *granule * GRANULE, false, &err), 0);
  return NULL;
}

/* Some of the file: bits of a durable bitmap, at the cluster of its table. */
static bool
file_has (const char *name, unsigned granule)
{
  bool has = false;

  for (const struct q2_tracked *b = t.d.image->writer.track.first; b != NULL;
       b = b->next)
    if (b->name_len == strlen (name) &&
        memcmp (b->name, name, b->name_len) == 0)
      has |= t.d.host.bytes[b->clusters[0] + granule / 8] >> granule % 8 & 1;
  return has;
}

/* The header is about to name the next set: by another thread a granule of
 * which no bitmap knows changes.
 */
static void
write_in_between (struct hooked_disk *d, uint32_t n, uint64_t off,
                  enum qcow2_io_class io_class)
{
  unsigned granule = 9;
  pthread_t writer;

  (void) n;
  if (off != 0 || io_class != QCOW2_IO_HEADER || switching.done)
    return;
  switching.done = true;
  CHECK (!q2_gate_is_closed (&d->image->gate));
  REQUIRE (pthread_create (&writer, NULL, write_granule, &granule) == 0);
  pthread_join (writer, NULL);
  switching.old_has = file_has ("e0", granule);
  switching.new_has = file_has ("n0", granule);
}

static void
test_switch (void)
{
  const struct qcow2_bitmap_action first = {
    .verb = QCOW2_BITMAP_ADD, .name = NAME ("e0"), .granularity = GRANULE,
  };
  const struct qcow2_bitmap_action then[] = {
    { .verb = QCOW2_BITMAP_DISABLE, .name = NAME ("e0") },
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("n0"), .granularity = GRANULE },
  };
  unsigned granule = 3;

  unit_context ("%s", __func__);
  open_disk (QCOW2_BITMAPS_DURABLE, LARGE);
  CHECK_EQ (qcow2_edit_bitmaps (t.d.image, &t.d.host.io, &first, 1, NULL, NULL,
                                &t.d.err), 0);
  write_granule (&granule);
  t.d.before_write = write_in_between;
  CHECK_EQ (qcow2_edit_bitmaps (t.d.image, &t.d.host.io, then, 2, NULL, NULL,
                                &t.d.err), 0);
  t.d.before_write = NULL;
  CHECK (switching.done && switching.old_has && switching.new_has);
  CHECK_EQ (qcow2_end (t.d.image, &t.d.host.io, &t.d.err), 0);
  fsck_check (t.d.host.bytes, t.d.host.size, false);
  hooked_disk_free (&t.d);
}

/* ---- Between the capture and the second hold ----------------------------- */

static struct {
  bool done;
  bool had;                     /* the bit of 'granule', before the switch */
} between;

/* While the snapshot is being taken somebody changes a granule: its bit of the
 * bitmap that begins with the snapshot is in the file before the header names
 * that, though nobody writes any more.
 */
static void
write_meanwhile (struct hooked_disk *d, uint32_t n, uint64_t off,
                 enum qcow2_io_class io_class)
{
  unsigned granule = 9;
  pthread_t writer;

  (void) n;
  if (off == 0 && io_class == QCOW2_IO_HEADER)
    between.had = file_has ("n0", granule);
  if (between.done || d->image->writer.since == NULL ||
      q2_gate_is_closed (&d->image->gate))
    return;
  between.done = true;
  REQUIRE (pthread_create (&writer, NULL, write_granule, &granule) == 0);
  pthread_join (writer, NULL);
}

static void
test_catch_up (void)
{
  const struct qcow2_snapshot_options snapshot = { .name = NAME ("s") };
  const struct qcow2_bitmap_action add = {
    .verb = QCOW2_BITMAP_ADD, .name = NAME ("n0"), .granularity = GRANULE,
  };
  struct qcow2_part part = {
    .io = &t.d.host.io, .actions = &add, .nr_actions = 1,
    .snapshot = &snapshot,
  };
  unsigned granule = 3;
  size_t ignored;

  unit_context ("%s", __func__);
  open_disk (QCOW2_BITMAPS_DURABLE, LARGE);
  part.image = t.d.image;
  write_granule (&granule);
  t.d.before_write = write_meanwhile;
  CHECK_EQ (qcow2_transact (&part, 1, &ignored, &t.d.err), 0);
  t.d.before_write = NULL;
  CHECK (between.done && between.had);
  CHECK_EQ (qcow2_end (t.d.image, &t.d.host.io, &t.d.err), 0);
  fsck_check (t.d.host.bytes, t.d.host.size, false);
  hooked_disk_free (&t.d);
}

/* Bits of a bitmap of the next set could not be written, and then neither could
 * its mark: while another one catches up it is as if that had just happened.
 */
static bool other_fails;

static void
let_other_fail (struct hooked_disk *d, uint32_t n, uint64_t off,
                enum qcow2_io_class io_class)
{
  struct q2_tracked *b = d->image->writer.track.first;

  write_meanwhile (d, n, off, io_class);
  while (b != NULL && (!b->is_next || off < b->clusters[0] ||
                       off >= b->clusters[0] + CLUSTER))
    b = b->next;
  /* Of this thread is the lock that guards it. */
  if (!d->image->writer.track.next_dir.is_there || b == NULL || other_fails)
    return;
  other_fails = true;
  b = b->next;
  if (CHECK (b != NULL && b->is_next))
    b->failing = true;
}

static void
test_catch_up_of_failing (void)
{
  const struct qcow2_snapshot_options snapshot = { .name = NAME ("s") };
  const struct qcow2_bitmap_action add[] = {
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("n0"), .granularity = GRANULE },
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("n1"), .granularity = GRANULE },
  };
  struct qcow2_part part = {
    .io = &t.d.host.io, .actions = add, .nr_actions = 2,
    .snapshot = &snapshot,
  };
  unsigned granule = 3, marked = 0;
  struct bitmap_set set;
  size_t ignored;

  unit_context ("%s", __func__);
  between.done = false;
  open_disk (QCOW2_BITMAPS_DURABLE, LARGE);
  part.image = t.d.image;
  write_granule (&granule);
  t.d.before_write = let_other_fail;
  CHECK_EQ (qcow2_transact (&part, 1, &ignored, &t.d.err), 0);
  t.d.before_write = NULL;
  CHECK (between.done && other_fails);
  bitmap_set_load (&set, t.d.host.bytes, t.d.host.size);
  CHECK_EQ (set.nr, 2);
  for (size_t i = 0; i < set.nr; ++i)
    marked += (set.bitmap[i].flags & BITMAP_IN_USE) != 0;
  CHECK_EQ (marked, 1);
  bitmap_set_free (&set);
  CHECK_EQ (qcow2_end (t.d.image, &t.d.host.io, &t.d.err), 0);
  fsck_check (t.d.host.bytes, t.d.host.size, false);
  hooked_disk_free (&t.d);
}

/* ---- Faults ------------------------------------------------------------- */

/* All bits, or a mark: of a bitmap that is enabled in the file. */
static void
check_true (void)
{
  struct bitmap_set set;

  bitmap_set_load (&set, t.d.host.bytes, t.d.host.size);
  CHECK (set.problem[0] == '\0');
  for (size_t i = 0; i < set.nr; ++i) {
    const struct bitmap_seen *const b = &set.bitmap[i];

    if ((b->flags & BITMAP_AUTO) && !(b->flags & BITMAP_IN_USE))
      check_bits (b, b->name[0] == 'n' ? t.later : t.changed, false);
  }
  bitmap_set_free (&set);
}

/* The n-th operation of the kind fails.  Returns whether one did. */
static bool
fail_one (enum what what, enum qcow2_bitmaps mode, enum host_op_kind kind,
          unsigned n, unsigned more)
{
  bool hit, done;

  begin (mode, 2);
  host_fail (&t.d.host, 1 << kind, n, more, EIO);
  done = transact (what, 2, false) == 0;
  hit = t.d.host.failed > 0;
  host_fail (&t.d.host, 0, 0, 0, 0);
  CHECK (done || hit);
  CHECK (!q2_track_has_gone (&t.d.image->writer.track) ||
         q2_gate_is_closed (&t.d.image->gate));
  for (unsigned i = 0; i < 10; ++i)
    write_one ();
  /* The disk is as it was, but for one that may have either header. */
  check_true ();
  if (!t.failed && qcow2_end (t.d.image, &t.d.host.io, &t.d.err) == 0 && !hit)
    check_end (what, 2, false, done);
  check_true ();
  hooked_disk_free (&t.d);
  return hit;
}

static void
test_faults (enum what what, enum qcow2_bitmaps mode)
{
  static const enum host_op_kind kinds[] = {
    HOST_READ, HOST_WRITE, HOST_FLUSH,
  };

  for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; ++k)
    for (unsigned more = 0; more < 2; ++more) {
      unsigned n = 0;

      do {
        ++n;
        unit_context ("%s: what %d, mode %d, operation %u of kind %d fails",
                      __func__, (int) what, (int) mode, n, (int) kinds[k]);
        REQUIRE (n < 1000);
      } while (fail_one (what, mode, kinds[k], n, more));
      CHECK (n > 2);
    }
}

int
main (void)
{
  static const enum qcow2_bitmaps modes[] = {
    QCOW2_BITMAPS_DURABLE, QCOW2_BITMAPS_LAZY,
  };
  static const unsigned enabled[] = { 0, 1, MAX_ENABLED };

  test_switch ();
  test_catch_up ();
  test_catch_up_of_failing ();
  for (size_t m = 0; m < 2; ++m) {
    for (size_t i = 0; i < 3; ++i) {
      test_hold (SNAPSHOT, modes[m], enabled[i], false);
      test_hold (BITMAPS, modes[m], enabled[i], false);
      test_hold (CHECKPOINT, modes[m], enabled[i], false);
      test_hold (CHECKPOINT, modes[m], enabled[i], true);
    }
    test_crowd (modes[m]);
    test_faults (BITMAPS, modes[m]);
    test_faults (CHECKPOINT, modes[m]);
  }
  return unit_finish ();
}
