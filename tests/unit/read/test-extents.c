/* SPDX-License-Identifier: BSD-3-Clause */
/* test-extents.c - data clusters that are holes of the image file.
 *
 * Preallocated disks must show as sparse, with few requests to the host; for
 * fragmented disks the host must not be asked about every cluster.
 */
#include "config.h"

#include "image_builder.h"
#include "memory_io.h"
#include "stops.h"
#include "unit.h"

#define CLUSTER 65536
#define NR 64                   /* clusters of the disk */

struct fixture {
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image;
  uint64_t host_off[NR];
};

/* All clusters are there; those with a letter in 'contents' have bytes. */
static void
open_fixture (struct fixture *f, const char *contents, bool contiguous)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4,
    .virtual_size = NR * CLUSTER,
  };
  static unsigned char cluster[CLUSTER];
  struct qcow2_error err;

  memset (f, 0, sizeof *f);
  builder_init (&f->b, &spec);
  builder_set_entry (&f->b, 0, 0, 0);
  for (uint64_t i = 0; i < NR; ++i) {
    const uint64_t at = contiguous ? i : (i * 37) % NR;

    memset (cluster, contents[at % strlen (contents)] == '.' ? 0 : 7,
            CLUSTER);
    f->host_off[at] = builder_data (&f->b, at, cluster);
  }
  builder_finish (&f->b);
  memory_io_init (&f->m, f->b.bytes, f->b.size);
  f->m.hole_size = 4096;
  f->image = qcow2_open (&f->m.io, &(struct qcow2_options) { 0 }, &err);
  REQUIRE (f->image != NULL);
}

static void
close_fixture (struct fixture *f)
{
  f->m.fail_at = 0;
  stops_check (f->image, &f->m.io, NR * CLUSTER, 0);
  stops_check (f->image, &f->m.io, (NR - 1) * CLUSTER - 512, CLUSTER / 2);
  qcow2_close (f->image);
  builder_free (&f->b);
}

/* The extents as text: a letter per cluster. */
struct text {
  char letters[NR + 1];
  uint64_t next;
  unsigned calls;
};

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct text *const text = opaque;

  CHECK_EQ (guest_off, text->next);
  CHECK (guest_off % CLUSTER == 0 && len % CLUSTER == 0);
  memset (text->letters + guest_off / CLUSTER,
          type == QCOW2_EXTENT_DATA ? 'D'
          : type == QCOW2_EXTENT_ZERO ? 'z' : '.', len / CLUSTER);
  text->next = guest_off + len;
  text->calls++;
  return 0;
}

static struct text
extents (struct fixture *f)
{
  struct text text = { .calls = 0 };
  struct qcow2_error err;

  memory_io_reset (&f->m);
  CHECK_EQ (qcow2_extents (f->image, &f->m.io, NR * CLUSTER, 0, see_extent,
                           &text, &err), 0);
  CHECK_EQ (text.next, NR * CLUSTER);
  return text;
}

static void
expect (struct fixture *f, const char *pattern, unsigned calls)
{
  const struct text text = extents (f);

  for (unsigned i = 0; i < NR; ++i)
    if (text.letters[i] != pattern[i % strlen (pattern)]) {
      fprintf (stderr, "%s\n", text.letters);
      CHECK_EQ (text.letters[i], pattern[i % strlen (pattern)]);
      break;
    }
  if (calls)
    CHECK_EQ (text.calls, calls);
}

static void
test_preallocated (void)
{
  struct fixture f;

  unit_context ("%s", "preallocated, empty");
  open_fixture (&f, ".", true);
  expect (&f, ".", 1);
  CHECK_EQ (f.m.extents_calls, 1);
  close_fixture (&f);

  unit_context ("%s", "preallocated, half full");
  open_fixture (&f, "..xx", true);
  expect (&f, "..DD", NR / 2);
  CHECK_EQ (f.m.extents_calls, 1);
  f.m.max_extents = 1;          /* the host answers a little at a time */
  expect (&f, "..DD", NR / 2);
  close_fixture (&f);

  unit_context ("%s", "full");
  open_fixture (&f, "x", true);
  expect (&f, "D", 1);
  close_fixture (&f);
}

static void
test_host_cannot_tell (void)
{
  struct qcow2_io_ops ops;
  struct fixture f;

  unit_context ("%s", "host without extents");
  open_fixture (&f, ".", true);
  ops = *f.m.io.ops;
  ops.extents = NULL;
  f.m.io.ops = &ops;
  expect (&f, "D", 1);
  close_fixture (&f);
}

static void
test_fragmented (void)
{
  struct fixture f;

  unit_context ("%s", "fragmented");
  open_fixture (&f, ".", false);
  extents (&f);
  CHECK_EQ (f.m.extents_calls, 0);
  close_fixture (&f);
}

/* The file ends before the last clusters. */
static void
test_past_end (void)
{
  for (unsigned asks = 0; asks <= 1; ++asks) {
    struct qcow2_error err;
    struct qcow2_io_ops ops;
    struct fixture f;
    struct text text;

    unit_context ("file cut, host %s tell", asks ? "can" : "cannot");
    open_fixture (&f, "x", true);
    qcow2_close (f.image);
    memory_io_init (&f.m, f.b.bytes, f.host_off[60]);
    f.m.hole_size = 4096;
    if (!asks) {
      ops = *f.m.io.ops;
      ops.extents = NULL;
      f.m.io.ops = &ops;
    }
    f.image = qcow2_open (&f.m.io, &(struct qcow2_options) { 0 }, &err);
    REQUIRE (f.image != NULL);
    text = extents (&f);
    CHECK_EQ (text.calls, 2);
    CHECK_EQ (text.letters[59], 'D');
    CHECK_EQ (text.letters[60], '.');
    CHECK_EQ (text.letters[63], '.');
    close_fixture (&f);
  }
}

/* Zero clusters keep space too, but that is the image's own word. */
static void
test_zero_clusters (void)
{
  struct fixture f;

  unit_context ("%s", "zero clusters");
  open_fixture (&f, "x", true);
  for (uint64_t i = 8; i < 16; ++i)
    builder_zero (&f.b, i, i % 2);
  qcow2_close (f.image);
  memory_io_init (&f.m, f.b.bytes, f.b.size);
  f.image = qcow2_open (&f.m.io, &(struct qcow2_options) { 0 },
                        &(struct qcow2_error) { 0 });
  REQUIRE (f.image != NULL);
  expect (&f, "DDDDDDDDzzzzzzzzDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD",
          3);
  close_fixture (&f);
}

/* A host that cannot answer: what may be data is data. */
static void
test_failure (void)
{
  struct text text = { .calls = 0 };
  struct qcow2_error err;
  struct fixture f;

  unit_context ("%s", "failing host");
  open_fixture (&f, "x", true);
  builder_zero (&f.b, 0, false);
  builder_zero (&f.b, 1, false);
  qcow2_close (f.image);
  memory_io_init (&f.m, f.b.bytes, f.b.size);
  f.image = qcow2_open (&f.m.io, &(struct qcow2_options) { 0 }, &err);
  REQUIRE (f.image != NULL);
  extents (&f);                 /* the table is in the cache now */
  memory_io_reset (&f.m);
  f.m.fail_at = 1;
  f.m.fail_on = true;
  CHECK_EQ (qcow2_extents (f.image, &f.m.io, NR * CLUSTER, 0, see_extent,
                           &text, &err), 0);
  CHECK_EQ (text.next, NR * CLUSTER);
  CHECK (f.m.extents_calls > 0);
  for (unsigned i = 0; i < NR; ++i)
    CHECK_EQ (text.letters[i], i < 2 ? 'z' : 'D');
  close_fixture (&f);
}

int
main (void)
{
  test_preallocated ();
  test_host_cannot_tell ();
  test_fragmented ();
  test_past_end ();
  test_zero_clusters ();
  test_failure ();
  return unit_finish ();
}
