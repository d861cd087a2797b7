/* SPDX-License-Identifier: BSD-3-Clause */
/* test-snapshots.c - snapshots are taken, deleted and applied.
 *
 * Owns      nothing.
 * Method    on images of all kinds that QEMU has made, in turn with QEMU: each
 *           deletes and applies what the other has taken, the file is clean
 *           for QEMU and for fsck.c after each step, and QEMU reads the disk
 *           and every snapshot as they must be.  Then what is refused, and
 *           what the table looks like.
 */
#include "config.h"

#include "bitmap_set.h"
#include "fsck.h"
#include "host.h"
#include "qemu.h"
#include "qemu_bits.h"
#include "recipe.h"
#include "unit.h"

#include "base/be.h"

#define KiB (UINT64_C (1) << 10)
#define MiB (KiB << 10)
#define CAPACITY (48 * MiB)
#define MAX_DISK (4 * MiB)
#define FILE_NAME "snapshots.qcow2"

static struct qcow2_name
name_of (const char *s)
{
  return (struct qcow2_name) { s, strlen (s) };
}

struct scene {
  struct recipe_image made;
  struct host h;
  struct qcow2_image *image;
  unsigned char disk[MAX_DISK];
  uint64_t size;
  struct qcow2_error err;
};
static struct scene scene;

/* ---- The engine -------------------------------------------------------- */

static void
begin (struct scene *s)
{
  struct attach attach = { &s->made.layers, NULL };
  struct qcow2_options options = { .writable = true };

  attach_options (&attach, &options);
  host_reopen (&s->h);
  s->image = qcow2_open (&s->h.io, &options, &s->err);
  if (!CHECK (s->image != NULL))
    printf ("%s\n", s->err.text);
  REQUIRE (s->image != NULL);
}

static void
done (struct scene *s, int r)
{
  if (!CHECK (r == 0))
    printf ("%s\n", s->err.text);
}

static void
end (struct scene *s)
{
  struct fsck f;

  done (s, qcow2_end (s->image, &s->h.io, &s->err));
  qcow2_close (s->image);
  layers_close (&s->made.layers);
  s->image = NULL;
  fsck_image (s->h.bytes, s->h.size, &f);
  if (!CHECK_EQ (f.corruptions, 0))
    printf ("%s\n", f.text);
  if (!CHECK_EQ (f.leaks, 0))
    printf ("%s\n", f.leak_text);
  CHECK (!f.dirty);
}

static int
take (struct scene *s, const char *name)
{
  const struct qcow2_snapshot_options options = {
    .name = name_of (name), .date_sec = 1000000000, .date_nsec = 7,
    .vm_clock_ns = 3, .icount = UINT64_MAX,
  };

  return qcow2_snapshot_create (s->image, &s->h.io, &options, &s->err);
}

static int
delete (struct scene *s, const char *name)
{
  const struct qcow2_name n = name_of (name);

  return qcow2_snapshot_delete (s->image, &s->h.io, &n, false, NULL, &s->err);
}

static int
apply (struct scene *s, const char *name)
{
  const struct qcow2_name n = name_of (name);

  return qcow2_snapshot_apply (s->image, &s->h.io, &n, false, NULL, &s->err);
}

/* A few pieces here and there. */
static void
write_some (struct scene *s, int byte)
{
  static unsigned char buf[3 * KiB];

  memset (buf, byte, sizeof buf);
  for (uint64_t at = (uint64_t) byte * 512; at + sizeof buf <= s->size;
       at += s->size / 7 / 512 * 512 + 512) {
    done (s, qcow2_pwrite (s->image, &s->h.io, buf, sizeof buf, at, false,
                           &s->err));
    memcpy (s->disk + at, buf, sizeof buf);
  }
}

static int
count_one (void *opaque, const struct qcow2_snapshot *snapshot)
{
  (void) snapshot;
  ++*(unsigned *) opaque;
  return 0;
}

static unsigned
count (struct scene *s)
{
  unsigned n = 0;

  done (s, qcow2_list_snapshots (s->image, &s->h.io, count_one, &n, &s->err));
  CHECK_EQ (n, qcow2_get_info (s->image).nr_snapshots);
  return n;
}

/* ---- QEMU -------------------------------------------------------------- */

static const char *
file_of (const struct scene *s)
{
  static char buf[QEMU_IMAGE];

  return qemu_image (buf, sizeof buf, FILE_NAME, s->made.qemu_options, NULL);
}

/* 'snapshot' NULL: the disk. */
static void
qemu_finds (struct scene *s, const char *snapshot,
            const unsigned char *expected)
{
  unsigned char *bytes;
  uint64_t size;

  qemu_run (0, "qemu-img convert %s%s -O raw %s out.raw",
            snapshot ? "-l snapshot.name=" : "", snapshot ? snapshot : "",
            file_of (s));
  bytes = qemu_load ("out.raw", &size);
  if (CHECK_EQ (size, s->size))
    CHECK_BYTES (bytes, expected, size);
  free (bytes);
}

/* Give the file to QEMU, and have it back after the command. */
static void
qemu_has (struct scene *s)
{
  qemu_save (FILE_NAME, s->h.bytes, s->h.size);
  qemu_run (0, "qemu-img check %s", file_of (s));
}

static void
qemu_does (struct scene *s, const char *option, const char *name)
{
  unsigned char *bytes;
  uint64_t size;

  qemu_run (0, "qemu-img snapshot %s %s %s", option, name, file_of (s));
  qemu_run (0, "qemu-img check %s", file_of (s));
  bytes = qemu_load (FILE_NAME, &size);
  REQUIRE (size <= CAPACITY);
  memset (s->h.bytes, 0, CAPACITY);
  memcpy (s->h.bytes, bytes, size);
  s->h.size = size;
  free (bytes);
}

/* ---- In turn ----------------------------------------------------------- */

static void
go_in_turn (struct scene *s)
{
  static unsigned char mine[MAX_DISK];

  begin (s);
  write_some (s, 1);
  memcpy (mine, s->disk, s->size);
  done (s, take (s, "mine"));
  CHECK_EQ (count (s), 2);
  write_some (s, 2);
  end (s);
  qemu_has (s);
  qemu_finds (s, NULL, s->disk);
  qemu_finds (s, "mine", mine);
  qemu_finds (s, "s0", s->made.snapshot);
  qemu_run (0, "qemu-img snapshot -l %s | grep -q '^2  *mine .*2001-09-09'",
            file_of (s));

  qemu_does (s, "-c", "theirs");
  begin (s);
  write_some (s, 3);
  done (s, delete (s, "theirs"));
  CHECK_EQ (count (s), 2);
  write_some (s, 4);
  end (s);
  qemu_has (s);
  qemu_finds (s, NULL, s->disk);
  qemu_finds (s, "mine", mine);

  qemu_does (s, "-d", "mine");
  qemu_finds (s, "s0", s->made.snapshot);
  begin (s);
  done (s, take (s, "again"));
  done (s, apply (s, "s0"));
  end (s);
  qemu_has (s);
  qemu_finds (s, NULL, s->made.snapshot);
  qemu_finds (s, "again", s->disk);

  qemu_does (s, "-a", "again");
  begin (s);
  write_some (s, 5);
  done (s, delete (s, "s0"));
  done (s, delete (s, "again"));
  CHECK_EQ (count (s), 0);
  write_some (s, 6);
  end (s);
  qemu_has (s);
  qemu_finds (s, NULL, s->disk);
}

static void
play (const struct recipe *r, void (*fn) (struct scene *))
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  struct scene *const s = &scene;

  if (!recipe_is_possible (r))
    return;
  unit_context ("%s", r->options);
  memset (s, 0, sizeof *s);
  recipe_make (&s->made, r, 1);
  REQUIRE (r->disk_size <= MAX_DISK);
  s->size = r->disk_size;
  memcpy (s->disk, s->made.disk, s->size);
  host_init (&s->h, &spec, s->made.bytes, s->made.size);
  fn (s);
  if (s->image != NULL)
    end (s);
  host_free (&s->h);
  recipe_free (&s->made);
}

static const struct recipe below = {
  .options = "cluster_size=8k", .cluster_bits = 13, .disk_size = 300 * KiB,
  .fill_percent = 60,
};

static const struct recipe recipes[] = {
  { .options = "compat=0.10", .cluster_bits = 16, .disk_size = MiB,
    .fill_percent = 60, .snapshots = 1 },
  { .options = "compat=1.1", .cluster_bits = 16, .disk_size = MiB,
    .fill_percent = 60, .snapshots = 1, .zero_percent = 30 },
  { .options = "cluster_size=512,refcount_bits=4", .cluster_bits = 9,
    .disk_size = 512 * KiB, .fill_percent = 80, .snapshots = 1 },
  { .options = "cluster_size=2M", .cluster_bits = 21, .disk_size = 4 * MiB,
    .fill_percent = 60, .snapshots = 1 },
  { .options = "cluster_size=4k,refcount_bits=64", .cluster_bits = 12,
    .disk_size = 512 * KiB + 512, .fill_percent = 50, .snapshots = 1 },
  { .options = "cluster_size=4k,refcount_bits=8", .cluster_bits = 12,
    .disk_size = 256 * KiB, .fill_percent = 80, .compressed = true,
    .snapshots = 1 },
  { .options = "cluster_size=16k,extended_l2=on", .cluster_bits = 14,
    .disk_size = MiB, .fill_percent = 60, .snapshots = 1 },
  { .options = "cluster_size=4k,lazy_refcounts=on", .cluster_bits = 12,
    .disk_size = 256 * KiB, .fill_percent = 60, .snapshots = 1 },
  { .options = "cluster_size=64k", .cluster_bits = 16, .disk_size = MiB,
    .fill_percent = 60, .snapshots = 1,
    .encryption = QCOW2_ENCRYPTION_LUKS },
  { .options = "cluster_size=4k", .cluster_bits = 12, .disk_size = 512 * KiB,
    .fill_percent = 40, .snapshots = 1, .below = &below },
};

/* ---- One step at a time ------------------------------------------------- */

static const struct recipe plain = {
  .options = "cluster_size=4k,refcount_bits=2", .cluster_bits = 12,
  .disk_size = 512 * KiB, .fill_percent = 60, .snapshots = 1,
};

/* Nothing has changed, and it can be used on. */
static void
is_unchanged (struct scene *s, unsigned nr)
{
  CHECK_EQ (count (s), nr);
  CHECK (!qcow2_get_info (s->image).dirty);
  end (s);
  qemu_has (s);
  qemu_finds (s, NULL, s->disk);
  begin (s);
}

static void
refcounts_have_limits (struct scene *s)
{
  begin (s);
  done (s, take (s, "s1"));
  CHECK (take (s, "s2") == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_UNSUPPORTED);
  is_unchanged (s, 2);
  write_some (s, 1);
  CHECK (apply (s, "s1") == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_UNSUPPORTED);
  is_unchanged (s, 2);
  done (s, delete (s, "s0"));
  done (s, take (s, "s2"));
}

static void
names_and_ids (struct scene *s)
{
  struct qcow2_snapshot_options o = { .name = name_of ("s0") };
  const struct qcow2_name two = name_of ("2"), big = name_of ("77");
  static char bytes[65536];

  begin (s);
  /* QEMU allows equal names, too. */
  done (s, qcow2_snapshot_create (s->image, &s->h.io, &o, &s->err));
  o.unique_name = true;
  CHECK (qcow2_snapshot_create (s->image, &s->h.io, &o, &s->err) == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_EXISTS);
  o.name = (struct qcow2_name) { "", 0 };
  o.id = two;
  CHECK (qcow2_snapshot_create (s->image, &s->h.io, &o, &s->err) == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_EXISTS);
  o.name = (struct qcow2_name) { bytes, 65536 };
  o.id = big;
  CHECK (qcow2_snapshot_create (s->image, &s->h.io, &o, &s->err) == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_INVALID);
  CHECK (qcow2_snapshot_delete (s->image, &s->h.io, &big, true, NULL, &s->err)
         == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_NOT_FOUND);
  CHECK (apply (s, "nothing") == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_NOT_FOUND);
  is_unchanged (s, 2);
  done (s, qcow2_snapshot_delete (s->image, &s->h.io, &two, true, NULL,
                                  &s->err));
  o.name.len = 65535;
  done (s, qcow2_snapshot_create (s->image, &s->h.io, &o, &s->err));
  done (s, delete (s, "s0"));
  done (s, take (s, "after"));
  end (s);
  qemu_has (s);
  qemu_run (0, "qemu-img snapshot -l %s | grep -aq '^78  *after '",
            file_of (s));
}

static struct qcow2_image *
open_view (struct scene *s, enum qcow2_view_kind kind, const char *name)
{
  const struct qcow2_name n = name_of (name);
  struct qcow2_image *const view =
    qcow2_open_view (s->image, &s->h.io, kind, &n, &s->err);

  if (!CHECK (view != NULL)) {
    printf ("%s\n", s->err.text);
    exit (unit_finish ());
  }
  return view;
}

static unsigned char *
read_view (struct scene *s, struct qcow2_image *view)
{
  const uint64_t size = qcow2_get_info (view).virtual_size;
  unsigned char *const buf = malloc (size);

  REQUIRE (buf != NULL);
  done (s, qcow2_pread (view, &s->h.io, buf, (uint32_t) size, 0, &s->err));
  return buf;
}

/* It reads as before. */
static void
is_as_before (struct scene *s, struct qcow2_image *view,
              const unsigned char *before)
{
  unsigned char *const now = read_view (s, view);

  CHECK (memcmp (now, before, qcow2_get_info (view).virtual_size) == 0);
  free (now);
}

static void
is_busy (struct scene *s, int r)
{
  CHECK (r == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_BUSY);
}

static void
views_keep_snapshots (struct scene *s)
{
  struct qcow2_image *view, *diff;
  unsigned char *shown, *changed;

  begin (s);
  done (s, take (s, "s1"));
  write_some (s, 11);
  view = open_view (s, QCOW2_VIEW_SNAPSHOT, "s0");
  shown = read_view (s, view);
  is_busy (s, delete (s, "s0"));
  is_busy (s, apply (s, "s0"));
  is_busy (s, apply (s, "s1"));
  /* Another one is not in the way. */
  done (s, delete (s, "s1"));
  write_some (s, 12);
  is_as_before (s, view, shown);
  /* Each of both sides is, and not for longer than it is open. */
  done (s, take (s, "s2"));
  diff = open_view (s, QCOW2_VIEW_DIFF, "s0..s2");
  changed = read_view (s, diff);
  qcow2_close (view);
  is_busy (s, delete (s, "s0"));
  is_busy (s, delete (s, "s2"));
  write_some (s, 13);
  is_as_before (s, diff, changed);
  qcow2_close (diff);
  diff = open_view (s, QCOW2_VIEW_DIFF, "s2..");
  is_busy (s, delete (s, "s2"));
  done (s, delete (s, "s0"));
  qcow2_close (diff);
  done (s, delete (s, "s2"));
  free (shown);
  free (changed);
}

static bool
cancel_at (void *opaque, unsigned percent)
{
  return percent < *(const unsigned *) opaque;
}

/* What was seen in between, and that the last question came. */
#define LAST 1000000

static bool
count_before (void *opaque, unsigned percent)
{
  unsigned *const nr = opaque;

  (void) percent;
  CHECK (*nr < LAST);
  ++*nr;
  return true;
}

static bool
cancel_last (void *opaque)
{
  unsigned *const nr = opaque;

  CHECK (*nr > 0 && *nr < LAST);
  *nr = LAST;
  return false;
}

static bool
count_all (void *opaque, unsigned percent)
{
  (void) percent;
  ++*(unsigned *) opaque;
  return true;
}

/* What differs is looked for in pieces of 64 tables. */
static void
asked_while_comparing (struct scene *s)
{
  const struct qcow2_bitmap_action add = {
    .verb = QCOW2_BITMAP_ADD, .name = name_of ("b"), .granularity = 65536,
  };
  const struct qcow2_name n = name_of ("s0");
  unsigned asked[2] = { 0, 0 };

  for (size_t i = 0; i < 2; ++i) {
    const struct qcow2_progress p = { .fn = count_all, .opaque = &asked[i] };

    begin (s);
    if (i == 1)
      done (s, qcow2_edit_bitmaps (s->image, &s->h.io, &add, 1, NULL, NULL,
                                   &s->err));
    done (s, qcow2_snapshot_apply (s->image, &s->h.io, &n, false, &p,
                                   &s->err));
    end (s);
  }
  CHECK_EQ (asked[1], asked[0] + s->size / (64 * 64 * 512));
}

static void
cancelling_changes_nothing (struct scene *s)
{
  unsigned at = 60, asked;
  struct qcow2_snapshot_options o = {
    .name = name_of ("new"), .progress = cancel_at, .progress_opaque = &at,
  };
  const struct qcow2_progress p = { .fn = cancel_at, .opaque = &at };
  const struct qcow2_progress late = {
    .fn = count_before, .last = cancel_last, .opaque = &asked,
  };
  const struct qcow2_name n = name_of ("s0");

  begin (s);
  CHECK (qcow2_snapshot_create (s->image, &s->h.io, &o, &s->err) == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_CANCELLED);
  is_unchanged (s, 1);
  at = 1;
  CHECK (qcow2_snapshot_apply (s->image, &s->h.io, &n, false, &p, &s->err)
         == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_CANCELLED);
  is_unchanged (s, 1);
  CHECK_EQ (s->err.outcome, QCOW2_OUTCOME_NOT_DONE);
  asked = 0;
  CHECK (qcow2_snapshot_apply (s->image, &s->h.io, &n, false, &late, &s->err)
         == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_CANCELLED);
  CHECK_EQ (asked, LAST);
  is_unchanged (s, 1);
  /* It is gone when there is something to be cancelled. */
  done (s, qcow2_snapshot_delete (s->image, &s->h.io, &n, false, &p,
                                  &s->err));
}

/* The disk has had another size. */
static void
other_sizes (struct scene *s)
{
  begin (s);
  write_some (s, 1);
  done (s, take (s, "small"));
  end (s);
  qemu_has (s);
  qemu_run (0, "qemu-img resize -q %s 3M", file_of (s));
  qemu_does (s, "-c", "large");
  begin (s);
  done (s, apply (s, "small"));
  end (s);
  qemu_has (s);
  qemu_finds (s, NULL, s->disk);
  begin (s);
  done (s, apply (s, "large"));
  end (s);
  memset (s->disk + s->size, 0, 3 * MiB - s->size);
  s->size = 3 * MiB;
  qemu_has (s);
  qemu_finds (s, NULL, s->disk);
}

/* Entries that somebody else has made keep every byte. */
static void
unknown_extra_data_is_kept (struct scene *s)
{
  unsigned char entry[72], *p;

  p = s->h.bytes + load_be64 (s->h.bytes + 64);
  /* 8 bytes more: id and name move. */
  memmove (p + 72, p + 64, 8);
  memset (p + 64, 0x5a, 8);
  store_be32 (p + 36, 32);
  memcpy (entry, p, sizeof entry);
  begin (s);
  done (s, take (s, "new"));
  p = s->h.bytes + load_be64 (s->h.bytes + 64);
  CHECK_BYTES (p, entry, sizeof entry);
  CHECK (memcmp (p + 72, "1s0", 3) == 0);
}

static void
there_may_be_65536 (struct scene *s)
{
  const uint64_t len = 65536 * UINT64_C (72), at = 8 * MiB;

  REQUIRE (s->h.size <= at);
  for (uint64_t i = 0; i < 65536; ++i) {
    unsigned char *const p = s->h.bytes + at + i * 72;

    store_be16 (p + 12, 5);
    store_be32 (p + 36, 24);
    snprintf ((char *) p + 64, 8, "%05u", (unsigned) i);
  }
  s->h.size = at + len;
  store_be32 (s->h.bytes + 60, 65536);
  store_be64 (s->h.bytes + 64, at);
  begin (s);
  CHECK (take (s, "one more") == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_UNSUPPORTED);
  CHECK_EQ (count (s), 65536);
  qcow2_close (s->image);
  s->image = NULL;
}

/* The L1 table of the disk has entries past its end, and so has a snapshot's.
 * QEMU's own leave those of the disk when they are taken like this.
 */
static void
vm_states_stay (struct scene *s)
{
  begin (s);
  write_some (s, 1);
  done (s, take (s, "mine"));
  write_some (s, 2);
  done (s, apply (s, "vm"));
  end (s);
  qemu_has (s);
  qemu_finds (s, NULL, s->made.snapshot);
  qemu_run (0, "qemu-io -r -c 'read -b -P 0x56 0 9216' %s | grep -q "
            "'^read 9216/9216'", FILE_NAME);
  begin (s);
  done (s, take (s, "again"));
  done (s, delete (s, "mine"));
  done (s, delete (s, "vm"));
  end (s);
  qemu_has (s);
  qemu_does (s, "-a", "again");
  qemu_finds (s, NULL, s->made.snapshot);
}

/* The only bitmap of the file, of at most 64 bits. */
static void
has_bits (const struct scene *s, unsigned granularity, uint64_t bits)
{
  struct bitmap_set set;
  uint64_t found = 0;

  bitmap_set_load (&set, s->h.bytes, s->h.size);
  CHECK_EQ (set.problem[0], '\0');
  REQUIRE (set.nr == 1 && set.bitmap[0].nr_bits <= 64);
  CHECK_EQ (UINT64_C (1) << set.bitmap[0].granularity_bits, granularity);
  CHECK_EQ (set.bitmap[0].flags, BITMAP_AUTO);
  for (unsigned i = 0; i < set.bitmap[0].nr_bits; ++i)
    found |= (uint64_t) bitmap_has (&set.bitmap[0], i) << i;
  CHECK_EQ (found, bits);
  bitmap_set_free (&set);
}

static void
load_file (struct scene *s)
{
  uint64_t size;
  unsigned char *const bytes = qemu_load (FILE_NAME, &size);

  REQUIRE (size <= CAPACITY);
  memcpy (s->h.bytes, bytes, size);
  s->h.size = size;
  free (bytes);
}

/* In QEMU's eyes the bitmap has just what is not as it was when it began. */
static void
bitmaps (struct scene *s)
{
  qemu_has (s);
  qemu_run (0, "qemu-img bitmap --add %s b", FILE_NAME);
  load_file (s);
  begin (s);
  done (s, take (s, "s1"));
  done (s, delete (s, "s1"));
  end (s);
  qemu_has (s);
  qemu_run (0, "qemu-img info %s | grep -q auto", FILE_NAME);
  qemu_run (1, "qemu-img info %s | grep -q in-use", FILE_NAME);
  qemu_run (0, "qemu-io -c 'write -q 128k 64k' -c 'write -q 640k 128k' %s",
            FILE_NAME);
  qemu_run (0, "qemu-img bitmap --clear %s b", FILE_NAME);
  load_file (s);
  begin (s);
  done (s, apply (s, "s0"));
  end (s);
  qemu_has (s);
  qemu_run (0, "qemu-img info %s | grep -q auto", FILE_NAME);
  qemu_run (1, "qemu-img info %s | grep -q in-use", FILE_NAME);
  qemu_check_bits (s->h.bytes, s->h.size, 0, "applied");
  has_bits (s, 65536, UINT64_C (1) << 2 | UINT64_C (3) << 10);
}

/* The disk and its bitmaps get the size of the snapshot, one way and back. */
static void
bitmaps_of_other_sizes (struct scene *s)
{
  qemu_has (s);
  qemu_run (0, "qemu-img resize -q %s 2M", FILE_NAME);
  qemu_run (0, "qemu-img bitmap --add -g 64k %s b", FILE_NAME);
  load_file (s);
  begin (s);
  done (s, take (s, "large"));
  done (s, apply (s, "s0"));
  end (s);
  qemu_has (s);
  qemu_check_bits (s->h.bytes, s->h.size, 0, "shrunk");
  has_bits (s, 65536, 0);
  begin (s);
  done (s, apply (s, "large"));
  end (s);
  qemu_has (s);
  qemu_check_bits (s->h.bytes, s->h.size, 0, "grown");
  has_bits (s, 65536, ~UINT64_C (0) << (s->size >> 16) & 0xffffffff);
}

/* What is refused leaves the bitmaps alone. */
static void
refused_with_bitmaps (struct scene *s)
{
  const unsigned char *p;

  qemu_has (s);
  qemu_run (0, "qemu-img resize -q %s 2M", FILE_NAME);
  qemu_run (0, "qemu-img bitmap --add %s good", FILE_NAME);
  qemu_run (0, "qemu-img bitmap --add %s broken", FILE_NAME);
  load_file (s);
  p = memmem (s->h.bytes, s->h.size, "broken", 6);
  REQUIRE (p != NULL);
  s->h.bytes[p - s->h.bytes - 24 + 15] |= 1;
  begin (s);
  CHECK (apply (s, "s0") == -1);
  CHECK_EQ (s->err.kind, QCOW2_ERR_UNSUPPORTED);
  CHECK_EQ (s->err.advice, QCOW2_ADVICE_REMOVE_BITMAP);
  CHECK (strstr (s->err.text, "'broken'") != NULL);
  end (s);
  qemu_has (s);
  qemu_run (0, "qemu-img info %s | grep -c in-use | grep -qx 1", FILE_NAME);
}

int
main (void)
{
  static const struct { struct recipe r; void (*fn) (struct scene *); }
  steps[] = {
    { plain, refcounts_have_limits },
    { { .options = "cluster_size=4k", .cluster_bits = 12,
        .disk_size = 512 * KiB, .fill_percent = 60, .snapshots = 1 },
      names_and_ids },
    { plain, views_keep_snapshots },
    { { .options = "cluster_size=512", .cluster_bits = 9,
        .disk_size = 512 * KiB, .fill_percent = 60, .snapshots = 1 },
      cancelling_changes_nothing },
    { { .options = "cluster_size=512", .cluster_bits = 9, .disk_size = 4 * MiB,
        .fill_percent = 60, .snapshots = 1 }, asked_while_comparing },
    { { .options = "cluster_size=4k", .cluster_bits = 12, .disk_size = MiB,
        .fill_percent = 60, .snapshots = 1 }, other_sizes },
    { plain, refused_with_bitmaps },
    { { .options = "cluster_size=4k", .cluster_bits = 12,
        .disk_size = 512 * KiB, .fill_percent = 60, .snapshots = 1 },
      bitmaps_of_other_sizes },
    { plain, unknown_extra_data_is_kept },
    { plain, there_may_be_65536 },
    { { .options = "cluster_size=4k", .cluster_bits = 12,
        .disk_size = 512 * KiB, .fill_percent = 60, .vm_state = true },
      vm_states_stay },
    { { .options = "cluster_size=64k", .cluster_bits = 16, .disk_size = MiB,
        .fill_percent = 60, .snapshots = 1 }, bitmaps },
  };

  qemu_init ();
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; ++i)
    play (&steps[i].r, steps[i].fn);
  for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; ++i)
    play (&recipes[i], go_in_turn);
  qemu_finish ();
  return unit_finish ();
}
