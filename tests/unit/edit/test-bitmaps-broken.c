/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bitmaps-broken.c - bitmaps that cannot be changed, and images that lie.
 *
 * Owns      nothing.
 * Method    what is refused leaves the bitmaps as they were.  Directories,
 *           tables and bits are damaged in every way: no call harms the disk,
 *           other metadata or another bitmap; removing what is broken keeps
 *           the rest, bit by bit, and then QEMU can open the image.
 */
#include "config.h"

#include "bitmap_set.h"
#include "fsck.h"
#include "host.h"
#include "image_inside.h"
#include "qemu.h"
#include "unit.h"

#define KiB (UINT64_C (1) << 10)
#define MiB (UINT64_C (1) << 20)
#define CLUSTER UINT64_C (4096)
#define DISK (64 * MiB)
#define BITS (DISK / 512)       /* four clusters of them */
#define CAPACITY (32 * MiB)

static struct qcow2_name
name_of (const char *s)
{
  return (struct qcow2_name) { s, strlen (s) };
}

/* ---- Images ------------------------------------------------------------ */

static unsigned char set_bits[BITS / 8];

struct scene {
  struct image_builder b;
  struct inside in;
  struct host h;
  unsigned char *before;        /* what the file had */
  uint64_t before_size;
  uint64_t dir;                 /* host offsets */
  uint64_t entry[3], table[3], bits[3], data, l2;
};

/* An image with some data and three bitmaps: "one", "bad" and "two". */
static void
build (struct scene *s, struct inside_bitmap bad)
{
  static const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = DISK,
  };
  static const struct inside_bitmap good[] = {
    { .name = "one", .granularity_bits = 9, .flags = 2 },
    { .name = "two", .granularity_bits = 9 },
  };
  struct inside_bitmap all[3];
  unsigned char cluster[CLUSTER];
  uint64_t at;

  memset (s, 0, sizeof *s);
  builder_init (&s->b, &spec);
  memset (cluster, 'd', sizeof cluster);
  s->data = builder_data (&s->b, 3, cluster);
  s->l2 = builder_entry_off (&s->b, 0);
  memset (set_bits, 0, sizeof set_bits);
  memset (set_bits + 100, 0x81, 300);
  set_bits[2 * CLUSTER + 7] = 0x10;
  all[0] = good[0];
  all[1] = bad;
  all[2] = good[1];
  for (unsigned i = 0; i < 3; ++i) {
    if (all[i].granularity_bits == 0)
      all[i].granularity_bits = 9;
    all[i].bits = set_bits;
    if (all[i].nr_bits == 0)
      all[i].nr_bits = BITS;
    inside_bitmap (&s->in, &s->b, &all[i]);
    s->table[i] = s->in.bitmap[i].table_off;
    s->bits[i] = builder_get (&s->b, s->table[i], 8);
  }
  inside_finish (&s->in, &s->b);
  builder_finish (&s->b);
  s->dir = at = builder_get (&s->b, builder_get (&s->b, 100, 4) + 8 + 16, 8);
  for (unsigned i = 0; i < 3; ++i) {
    s->entry[i] = at;
    at += (24 + all[i].extra_len + strlen (all[i].name) + 7) / 8 * 8;
  }
}

static void
start (struct scene *s)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };

  host_init (&s->h, &spec, s->b.bytes, s->b.size);
  s->before = malloc (s->b.size);
  REQUIRE (s->before != NULL);
  memcpy (s->before, s->b.bytes, s->b.size);
  s->before_size = s->b.size;
}

static void
finish (struct scene *s)
{
  host_free (&s->h);
  builder_free (&s->b);
  free (s->before);
}

/* ---- Calls ------------------------------------------------------------- */

static struct qcow2_image *
open_image (struct host *h, const struct qcow2_options *options)
{
  struct qcow2_error err;
  struct qcow2_image *image;

  host_reopen (h);
  image = qcow2_open (&h->io, options, &err);
  if (!CHECK (image != NULL))
    printf ("%s\n", err.text);
  return image;
}

static struct qcow2_options writable = { .writable = true };

static int
edit (struct host *h, const struct qcow2_bitmap_action *actions, size_t nr,
      struct qcow2_error *err)
{
  struct qcow2_image *const image = open_image (h, &writable);
  struct qcow2_error ignored;
  int r = -1;

  if (image == NULL)
    return -1;
  r = qcow2_edit_bitmaps (image, &h->io, actions, nr, NULL, NULL, err);
  /* An image that has become corrupt has no end. */
  if (qcow2_end (image, &h->io, &ignored) == -1)
    CHECK_EQ (err->kind, QCOW2_ERR_CORRUPT);
  qcow2_close (image);
  return r;
}

static int
act (struct host *h, enum qcow2_bitmap_verb verb, const char *name,
     struct qcow2_error *err)
{
  const struct qcow2_bitmap_action a = { .verb = verb, .name = name_of (name) };

  return edit (h, &a, 1, err);
}

static void
check_disk (struct host *h)
{
  static unsigned char disk[DISK], want[DISK];
  struct qcow2_image *const image =
    open_image (h, &(struct qcow2_options) { .writable = false });
  struct qcow2_error err;

  memset (want + 3 * CLUSTER, 'd', CLUSTER);
  if (image != NULL &&
      CHECK_EQ (qcow2_pread (image, &h->io, disk, 16 * CLUSTER, 0, &err), 0))
    CHECK_BYTES (disk, want, 16 * CLUSTER);
  qcow2_close (image);
}

/* ---- What is refused ---------------------------------------------------- */

static void
refuse (struct scene *s, const struct qcow2_bitmap_action *a,
        enum qcow2_error_kind kind, const char *part)
{
  /* What comes before it is undone, too. */
  const struct qcow2_bitmap_action both[] = {
    { .verb = QCOW2_BITMAP_CLEAR, .name = name_of ("one") }, *a,
  };
  struct qcow2_error err;
  struct bitmap_set was, is;

  unit_context ("'%s'", part);
  bitmap_set_load (&was, s->before, s->before_size);
  if (CHECK_EQ (edit (&s->h, both, 2, &err), -1)) {
    CHECK_EQ (err.kind, kind);
    if (!CHECK (strstr (err.text, part) != NULL))
      printf ("%s\n", err.text);
  }
  bitmap_set_load (&is, s->h.bytes, s->h.size);
  CHECK (bitmap_set_equal (&was, &is));
  bitmap_set_free (&was);
  bitmap_set_free (&is);
}

static void
test_refusals (void)
{
  static char longest[1025];
  static const struct {
    enum qcow2_bitmap_verb verb;
    const char *name;
    uint64_t granularity;
    enum qcow2_error_kind kind;
    const char *part;
  } cases[] = {
    { QCOW2_BITMAP_REMOVE, "three", 0, QCOW2_ERR_NOT_FOUND, "'three'" },
    { QCOW2_BITMAP_CLEAR, "", 0, QCOW2_ERR_NOT_FOUND, "''" },
    { QCOW2_BITMAP_MERGE, "three", 0, QCOW2_ERR_NOT_FOUND, "'three'" },
    { QCOW2_BITMAP_ADD, "one", 0, QCOW2_ERR_EXISTS, "'one' already" },
    { QCOW2_BITMAP_ADD, "bad", 0, QCOW2_ERR_EXISTS, "'bad' already" },
    { QCOW2_BITMAP_ADD, "", 0, QCOW2_ERR_INVALID, "1 to 1023" },
    { QCOW2_BITMAP_ADD, longest, 0, QCOW2_ERR_INVALID, "not 1024" },
    { QCOW2_BITMAP_ADD, "x", 256, QCOW2_ERR_INVALID, "not 256" },
    { QCOW2_BITMAP_ADD, "x", 3000, QCOW2_ERR_INVALID, "not 3000" },
    { QCOW2_BITMAP_ADD, "x", UINT64_C (1) << 32, QCOW2_ERR_INVALID,
      "not 4294967296" },
    { QCOW2_BITMAP_CLEAR, "bad", 0, QCOW2_ERR_REFUSED, "in use" },
    { QCOW2_BITMAP_ENABLE, "bad", 0, QCOW2_ERR_REFUSED, "in use" },
    { QCOW2_BITMAP_DISABLE, "bad", 0, QCOW2_ERR_REFUSED, "in use" },
    { QCOW2_BITMAP_MERGE, "bad", 0, QCOW2_ERR_REFUSED, "in use" },
  };
  static const struct qcow2_bitmap_source bad = { .name = { "bad", 3 } };
  static const struct qcow2_bitmap_source none = { .name = { "none", 4 } };
  struct qcow2_bitmap_action a;
  struct scene s;
  struct qcow2_error err;

  memset (longest, 'x', 1024);
  build (&s, (struct inside_bitmap) { .name = "bad", .flags = 3 });
  start (&s);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    a = (struct qcow2_bitmap_action) {
      .verb = cases[i].verb, .name = name_of (cases[i].name),
      .granularity = cases[i].granularity,
    };
    refuse (&s, &a, cases[i].kind, cases[i].part);
  }
  a = (struct qcow2_bitmap_action) {
    .verb = QCOW2_BITMAP_MERGE, .name = name_of ("two"), .sources = &bad,
    .nr_sources = 1,
  };
  refuse (&s, &a, QCOW2_ERR_REFUSED, "'bad' can only be removed");
  a.sources = &none;
  refuse (&s, &a, QCOW2_ERR_NOT_FOUND, "'none'");
  a = (struct qcow2_bitmap_action) { .verb = (enum qcow2_bitmap_verb) 99 };
  refuse (&s, &a, QCOW2_ERR_INVALID, "no such change");
  /* It is in use: that is all that can be done. */
  CHECK_EQ (act (&s.h, QCOW2_BITMAP_REMOVE, "bad", &err), 0);
  qemu_submit (s.h.bytes, s.h.size, NULL, QEMU_CLEAN, NULL, 0, "removed");
  finish (&s);
}

/* A disk for which a bitmap would be too large, one without bytes, and one of
 * version 2.
 */
static void
test_images (void)
{
  static const struct {
    struct qcow2_create_options options;
    uint64_t granularity;
    const char *part;
  } cases[] = {
    { { .virtual_size = UINT64_C (2) << 40 }, 512, NULL },
    { { .virtual_size = (UINT64_C (2) << 40) + 512 }, 512,
      "larger granularity" },
    { { .virtual_size = UINT64_C (1) << 50, .cluster_size = 2 * MiB },
      UINT64_C (2) << 30, NULL },
    /* The names of feature bits have to go. */
    { { .virtual_size = MiB, .cluster_size = 512 }, 0, NULL },
    { { .virtual_size = 0 }, 0, "0 bytes" },
    { { .virtual_size = MiB, .version = 2 }, 0, "version 2" },
  };
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    const struct qcow2_bitmap_action a = {
      .verb = QCOW2_BITMAP_ADD, .name = name_of ("x"),
      .granularity = cases[i].granularity,
    };
    struct qcow2_error err;
    struct host h;

    unit_context ("image %zu", i);
    host_init (&h, &spec, "", 0);
    host_reopen (&h);
    REQUIRE (qcow2_create (&h.io, &cases[i].options, &err) == 0);
    if (cases[i].part == NULL) {
      if (!CHECK_EQ (edit (&h, &a, 1, &err), 0))
        printf ("%s\n", err.text);
      qemu_submit (h.bytes, h.size, NULL, QEMU_CLEAN, NULL, 0, "large");
    }
    else if (CHECK_EQ (edit (&h, &a, 1, &err), -1) &&
             !CHECK (strstr (err.text, cases[i].part) != NULL))
      printf ("%s\n", err.text);
    host_free (&h);
  }
}

static bool
cancel (void *opaque, unsigned percent)
{
  return percent < *(const unsigned *) opaque;
}

/* A view of a bitmap keeps it from losing its bits; cancelling leaves all. */
static void
test_busy (void)
{
  static const struct qcow2_bitmap_source one = { .name = { "one", 3 } };
  const struct qcow2_name two = name_of ("two");
  const struct qcow2_bitmap_action actions[] = {
    { .verb = QCOW2_BITMAP_MERGE, .name = two, .sources = &one,
      .nr_sources = 1 },
    { .verb = QCOW2_BITMAP_ENABLE, .name = two },
  };
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  struct scene s;
  unsigned percent = 40;
  char c;

  unit_context ("%s", __func__);
  build (&s, (struct inside_bitmap) { .name = "bad" });
  start (&s);
  image = open_image (&s.h, &writable);
  REQUIRE (image != NULL);
  view = qcow2_open_view (image, &s.h.io, QCOW2_VIEW_BITMAP, &two, &err);
  REQUIRE (view != NULL);
  CHECK_EQ (qcow2_edit_bitmaps (image, &s.h.io, actions, 2, NULL, NULL, &err),
            -1);
  CHECK_EQ (err.kind, QCOW2_ERR_BUSY);
  /* Others who open it would be shown the same bits, which stay as they are,
   * while the bitmap does not.
   */
  CHECK_EQ (qcow2_edit_bitmaps (image, &s.h.io, actions + 1, 1, NULL, NULL,
                                &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_BUSY);
  CHECK_EQ (qcow2_pread (view, &s.h.io, &c, 1, 0, &err), 0);
  qcow2_close (view);
  CHECK_EQ (qcow2_edit_bitmaps (image, &s.h.io, actions + 1, 1, NULL, NULL,
                                &err), 0);
  CHECK_EQ (qcow2_edit_bitmaps (image, &s.h.io, actions, 1, cancel, &percent,
                                &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_CANCELLED);
  percent = 101;
  CHECK_EQ (qcow2_edit_bitmaps (image, &s.h.io, actions, 1, cancel, &percent,
                                &err), 0);
  CHECK_EQ (qcow2_end (image, &s.h.io, &err), 0);
  qcow2_close (image);
  check_disk (&s.h);
  finish (&s);
}

/* Somebody who does not know bitmaps has written to the image. */
static void
test_stale (void)
{
  struct bitmap_set seen;
  struct qcow2_error err;
  struct fsck f;
  struct scene s;

  unit_context ("%s", __func__);
  build (&s, (struct inside_bitmap) { .name = "bad" });
  builder_put (&s.b, 88, 8, 0);
  start (&s);
  CHECK_EQ (act (&s.h, QCOW2_BITMAP_REMOVE, "one", &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_NOT_FOUND);
  CHECK (strstr (err.text, "does not know bitmaps") != NULL);
  CHECK_EQ (act (&s.h, QCOW2_BITMAP_ADD, "one", &err), 0);
  bitmap_set_load (&seen, s.h.bytes, s.h.size);
  CHECK_EQ (seen.nr, 1);
  CHECK (seen.problem[0] == '\0');
  bitmap_set_free (&seen);
  /* Whose its clusters are nobody knows, so they are not released. */
  fsck_image (s.h.bytes, s.h.size, &f);
  CHECK_EQ (f.corruptions, 0);
  CHECK (f.leaks > 3);
  qemu_submit (s.h.bytes, s.h.size, NULL, QEMU_SOUND, NULL, 0, "stale");
  check_disk (&s.h);
  finish (&s);
}

/* ---- What is broken ------------------------------------------------------ */

struct told {
  unsigned nr;
  char name[64], why[300];      /* of the first */
};

static void
tell (void *opaque, const struct qcow2_broken_bitmap *b)
{
  struct told *const t = opaque;

  if (t->nr++ > 0)
    return;
  snprintf (t->name, sizeof t->name, "%.*s", (int) b->name.len,
            b->name.bytes);
  snprintf (t->why, sizeof t->why, "%s", b->why);
}

static void
remove_broken (struct host *h, bool dry_run, struct told *t)
{
  struct qcow2_image *const image = open_image (h, &writable);
  struct qcow2_error err;

  memset (t, 0, sizeof *t);
  REQUIRE (image != NULL);
  if (!CHECK_EQ (qcow2_remove_broken_bitmaps (image, &h->io, dry_run, tell, t,
                                              &err), 0))
    printf ("%s\n", err.text);
  CHECK_EQ (qcow2_end (image, &h->io, &err), 0);
  qcow2_close (image);
}

enum place {                    /* of the bad one */
  ENTRY, TABLE, DIRECTORY, NOWHERE
};

static const struct damage {
  const char *what;
  enum place place;
  unsigned at, len;
  uint64_t value;
  const char *why;              /* part of it */
  unsigned left;                /* bit 0: "one" is, bit 1: "two" */
  struct inside_bitmap bad;
} damages[] = {
  { "a flag", ENTRY, 12, 4, 8, "unknown flags", 3, { .name = "bad" } },
  { "a type", ENTRY, 16, 1, 2, "type", 3, { .name = "bad" } },
  { "granularity", ENTRY, 17, 1, 40, "granularity", 3, { .name = "bad" } },
  { "no table", ENTRY, 0, 8, 0, "no table can be", 3, { .name = "bad" } },
  { "an unaligned table", ENTRY, 0, 8, 512, "no table can be", 3,
    { .name = "bad" } },
  { "an empty table", ENTRY, 8, 4, 0, "empty", 3, { .name = "bad" } },
  { "another table size", ENTRY, 8, 4, 3, "fit", 3, { .name = "bad" } },
  { "a table behind the end", ENTRY, 0, 8, 1 << 30, "not in the file", 3,
    { .name = "bad" } },
  { "a name that is too long", ENTRY, 18, 2, 2000, "end inside", 1,
    { .name = "bad" } },
  { "too much extra data", ENTRY, 20, 4, UINT32_MAX, "end inside", 1,
    { .name = "bad" } },
  { "extra data", NOWHERE, 0, 0, 0, "extra data", 3,
    { .name = "bad", .extra_len = 8 } },
  { "a name that is there", NOWHERE, 0, 0, 0, "its name", 3,
    { .name = "one" } },
  { "a reserved bit", TABLE, 0, 8, 2, "breaks the rules", 3,
    { .name = "bad" } },
  { "an unaligned entry", TABLE, 8, 8, 512, "breaks the rules", 3,
    { .name = "bad" } },
  { "a cluster and ones", TABLE, 8, 8, (1 << 24) + 1, "breaks the rules", 3,
    { .name = "bad" } },
  { "bits behind the end", TABLE, 8, 8, 1 << 30, "breaks the rules", 3,
    { .name = "bad" } },
  { "bits that are the header", TABLE, 16, 8, UINT64_C (1) << 56,
    "breaks the rules", 3, { .name = "bad" } },
  { "fewer entries", DIRECTORY, 0, 4, 2, "more than its entries", 1,
    { .name = "bad" } },
  { "more entries", DIRECTORY, 0, 4, 4, "cannot be found", 3,
    { .name = "bad" } },
  { "a short directory", DIRECTORY, 8, 8, 80, "end inside", 1,
    { .name = "bad" } },
  { "a directory behind the end", DIRECTORY, 16, 8, 1 << 30,
    "end inside the file", 0, { .name = "bad" } },
};

/* Which are left: bit by bit. */
static void
check_left (const struct scene *s, unsigned left)
{
  static const char *const names[] = { "one", "two" };
  struct bitmap_set seen;

  bitmap_set_load (&seen, s->h.bytes, s->h.size);
  if (!CHECK (seen.problem[0] == '\0'))
    printf ("%s\n", seen.problem);
  for (unsigned i = 0; i < 2; ++i) {
    const struct bitmap_seen *const b = bitmap_set_find (&seen, names[i]);

    if (CHECK_EQ (b != NULL, left >> i & 1) && b != NULL) {
      CHECK_EQ (b->flags, i == 0 ? 2 : 0);
      CHECK_BYTES (b->bits, set_bits, sizeof set_bits);
    }
  }
  bitmap_set_free (&seen);
}

/* The directory is refused; then it is repaired, and can be changed. */
static void
check_repair (struct scene *s, const char *name, const char *why,
              bool refused, unsigned left)
{
  const struct qcow2_bitmap_source source = { .name = name_of (name) };
  const struct qcow2_bitmap_action merge = {
    .verb = QCOW2_BITMAP_MERGE, .name = name_of ("two"), .sources = &source,
    .nr_sources = 1,
  };
  struct qcow2_error err;
  struct fsck f;
  struct told t;
  char what[120];

  CHECK_EQ (act (&s->h, QCOW2_BITMAP_REMOVE, "nobody", &err), -1);
  CHECK_EQ (act (&s->h, QCOW2_BITMAP_DISABLE, name, &err) == -1, refused);
  CHECK_EQ (edit (&s->h, &merge, 1, &err), -1);
  remove_broken (&s->h, true, &t);
  CHECK (t.nr > 0);
  remove_broken (&s->h, false, &t);
  CHECK (t.nr > 0);
  if (why != NULL && !CHECK (strstr (t.why, why) != NULL))
    printf ("%s\n", t.why);
  check_left (s, left);
  remove_broken (&s->h, false, &t);
  CHECK_EQ (t.nr, 0);
  fsck_image (s->h.bytes, s->h.size, &f);
  if (!CHECK_EQ (f.corruptions, 0))
    printf ("%s\n", f.text);
  check_disk (&s->h);
  if (!CHECK_EQ (act (&s->h, QCOW2_BITMAP_ADD, "more", &err), 0))
    printf ("%s\n", err.text);
  snprintf (what, sizeof what, "%s", name);
  qemu_submit (s->h.bytes, s->h.size, NULL, QEMU_SOUND, NULL, 0, what);
}

static void
test_broken (void)
{
  for (size_t i = 0; i < sizeof damages / sizeof damages[0]; ++i) {
    const struct damage *const d = &damages[i];
    struct scene s;
    uint64_t at;

    unit_context ("%s", d->what);
    build (&s, d->bad);
    at = d->place == ENTRY ? s.entry[1] : d->place == TABLE ? s.table[1]
      : builder_get (&s.b, 100, 4) + 8;
    if (d->place != NOWHERE)
      builder_put (&s.b, at + d->at, d->len, d->value);
    start (&s);
    /* Flags can be changed without looking at bits. */
    check_repair (&s, d->bad.name, d->why,
                  d->place != TABLE && strstr (d->why, "not in") == NULL,
                  d->left);
    finish (&s);
  }
}

/* ---- What lies on something else ----------------------------------------- */

/* The table, or bits, or the directory, at the place of other things; those
 * are never harmed, whatever is called.
 */
static void
lie (unsigned where, unsigned what, bool shared_count)
{
  static const char *const places[] = {
    "the header", "the L1 table", "the refcount table", "a refcount block",
    "an L2 table", "bits of another", "the table of another", "the directory",
  };
  static const enum qcow2_bitmap_verb verbs[] = {
    QCOW2_BITMAP_REMOVE, QCOW2_BITMAP_CLEAR, QCOW2_BITMAP_DISABLE,
  };
  struct scene s;
  uint64_t place;

  for (size_t v = 0; v < sizeof verbs / sizeof verbs[0]; ++v) {
    struct qcow2_error err;
    struct told t;

    unit_context ("%u (%s, counted: %d), verb %zu", what, places[where],
                  shared_count, v);
    build (&s, (struct inside_bitmap) { .name = "bad" });
    place = where == 0 ? 0 : where == 1 ? s.b.l1_off
      : where == 2 ? builder_get (&s.b, 48, 8)
      : where == 3 ? builder_get (&s.b, builder_get (&s.b, 48, 8), 8)
      : where == 4 ? s.l2 / CLUSTER * CLUSTER : where == 5 ? s.bits[0]
      : where == 6 ? s.table[0] : s.dir;
    if (what == 0)
      builder_put (&s.b, s.entry[1], 8, place);
    else if (what == 1)
      builder_put (&s.b, s.table[1], 8, place);
    else
      builder_put (&s.b, builder_get (&s.b, 100, 4) + 8 + 16, 8, place);
    if (shared_count)
      builder_put (&s.b, builder_get (&s.b, builder_get (&s.b, 48, 8), 8) +
                   place / CLUSTER * 2, 2, 2);
    start (&s);
    act (&s.h, verbs[v], "bad", &err);
    check_disk (&s.h);
    /* It may be marked as corrupt by now. */
    s.h.bytes[79] &= (unsigned char) ~2;
    if (what < 2) {
      remove_broken (&s.h, false, &t);
      check_left (&s, 3);
    }
    check_disk (&s.h);
    finish (&s);
  }
}

static void
test_lies (void)
{
  for (unsigned where = 0; where < 8; ++where)
    for (unsigned what = 0; what < 3; ++what)
      /* Entries that refer to the header refer to nothing. */
      if (!(where == 0 && what == 1) && !(where == 7 && what == 2)) {
        lie (where, what, false);
        lie (where, what, true);
      }
}

int
main (void)
{
  qemu_init ();
  test_refusals ();
  test_images ();
  test_busy ();
  test_stale ();
  for (unsigned i = 0; i < 2; ++i) {
    writable.overlap_check = i == 0 ? QCOW2_OVERLAP_CACHED
      : QCOW2_OVERLAP_NONE;
    test_broken ();
    test_lies ();
  }
  qemu_wait ();
  qemu_finish ();
  return unit_finish ();
}
