/* SPDX-License-Identifier: BSD-3-Clause */
/* test-below-faults.c - an unreadable backing image never reads as zeros.
 *
 *           Nor if a map was stopped there.
 * Method    an empty overlay has a smaller backing image with scattered data,
 *           under several L2 tables.  Each call to the backing image's host
 *           fails, once or from then on.  Reads and maps must be true or an
 *           error: a client that copies a disk by its map skips all reported
 *           zeros.
 */
#include "config.h"

#include "image_builder.h"
#include "memory_io.h"
#include "stops.h"
#include "unit.h"

#include <string.h>

#define CLUSTER_BITS 9
#define CLUSTER 512
#define PER_TABLE 64            /* clusters of an L2 table */
#define TABLES 6
#define BASE_SIZE ((uint64_t) TABLES * PER_TABLE * CLUSTER - 300)
#define TOP_SIZE (2 * BASE_SIZE + 77)

struct pair {
  struct image_builder base_bytes, top_bytes;
  struct memory_io base_io, top_io;
  struct qcow2_image *base, *top;
  unsigned char disk[TOP_SIZE];
};

static int
open_base (void *opaque, const struct qcow2_reference *reference,
           struct qcow2_file *ret_file, struct qcow2_error *err)
{
  struct pair *const p = opaque;

  (void) err;
  CHECK_EQ (reference->kind, QCOW2_BACKING_FILE);
  *ret_file = (struct qcow2_file) { p->base, &p->base_io.io };
  return 0;
}

static void
build_base (struct pair *p)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = CLUSTER_BITS, .refcount_order = 4,
    .virtual_size = BASE_SIZE,
  };

  builder_init (&p->base_bytes, &spec);
  for (uint64_t i = 5; i < TABLES * PER_TABLE; i += 47) {
    const uint64_t left = BASE_SIZE - i * CLUSTER;
    unsigned char bytes[CLUSTER];

    memset (bytes, (int) (1 + i % 250), sizeof bytes);
    builder_data (&p->base_bytes, i, bytes);
    memset (p->disk + i * CLUSTER, bytes[0],
            left < CLUSTER ? left : CLUSTER);
  }
  builder_finish (&p->base_bytes);
}

static void
build_top (struct pair *p)
{
  static const char name[] = "base";
  const struct image_spec spec = {
    .version = 3, .cluster_bits = CLUSTER_BITS, .refcount_order = 4,
    .virtual_size = TOP_SIZE,
  };

  builder_init (&p->top_bytes, &spec);
  builder_finish (&p->top_bytes);
  memcpy (p->top_bytes.bytes + 400, name, 4);
  builder_put (&p->top_bytes, 8, 8, 400);
  builder_put (&p->top_bytes, 16, 4, 4);
}

/* The tables of the base are not in memory yet. */
static void
open_pair (struct pair *p)
{
  struct qcow2_options options = { .cache_size = 1 };
  struct qcow2_error err;

  memory_io_init (&p->base_io, p->base_bytes.bytes, p->base_bytes.size);
  memory_io_init (&p->top_io, p->top_bytes.bytes, p->top_bytes.size);
  p->base = qcow2_open (&p->base_io.io, &options, &err);
  REQUIRE (p->base != NULL);
  options.open_file = open_base;
  options.open_file_opaque = p;
  p->top = qcow2_open (&p->top_io.io, &options, &err);
  REQUIRE (p->top != NULL);
  memory_io_reset (&p->base_io);
}

static void
close_pair (struct pair *p)
{
  qcow2_close (p->top);
  qcow2_close (p->base);
}

struct map {
  const struct pair *p;
  uint64_t end;
};

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct map *const m = opaque;

  CHECK_EQ (guest_off, m->end);
  m->end += len;
  if (type != QCOW2_EXTENT_DATA)
    for (uint64_t i = guest_off; i < guest_off + len; ++i)
      if (m->p->disk[i] != 0)
        return unit_check (false, __FILE__, __LINE__, "data at %llu is "
                           "said to be zeros", (unsigned long long) i);
  return 0;
}

/* Returns whether it was mapped to its end. */
static bool
map_top (struct pair *p, uint64_t from)
{
  struct map m = { p, from };
  struct qcow2_error err;

  while (m.end < TOP_SIZE) {
    const uint64_t before = m.end;

    if (qcow2_extents (p->top, &p->top_io.io, TOP_SIZE - before, before,
                       see_extent, &m, &err) == -1) {
      CHECK_EQ (m.end, before);
      CHECK_EQ (err.kind, QCOW2_ERR_IO);
      return false;
    }
    CHECK (m.end > before);
  }
  CHECK_EQ (m.end, TOP_SIZE);
  return true;
}

static bool
read_top (struct pair *p)
{
  static unsigned char buf[TOP_SIZE];
  struct qcow2_error err;

  if (qcow2_pread (p->top, &p->top_io.io, buf, TOP_SIZE, 0, &err) == -1) {
    CHECK_EQ (err.kind, QCOW2_ERR_IO);
    return false;
  }
  CHECK_BYTES (buf, p->disk, TOP_SIZE);
  return true;
}

static void
test_faults (struct pair *p, bool on)
{
  for (unsigned long at = 1;; ++at) {
    bool mapped, was_read;

    unit_context ("call %lu%s", at, on ? " and on" : "");
    open_pair (p);
    p->base_io.fail_at = at;
    p->base_io.fail_on = on;
    mapped = map_top (p, 0);
    was_read = read_top (p);
    if (!on) {                  /* it has passed */
      p->base_io.fail_at = 0;
      CHECK (map_top (p, 3) && read_top (p));
    }
    close_pair (p);
    if (mapped && was_read)
      break;
    REQUIRE (at < 1000);
  }
}

/* A client that wants one extent at a time, of a disk that is longer than
 * what is below it.
 */
static void
test_stopped (struct pair *p)
{
  unit_context ("%s", "no faults, stopped");
  open_pair (p);
  stops_check (p->top, &p->top_io.io, TOP_SIZE, 0);
  stops_check (p->top, &p->top_io.io, BASE_SIZE + 1, 0);
  stops_check (p->top, &p->top_io.io, TOP_SIZE - BASE_SIZE + 1,
               BASE_SIZE - 1);
  close_pair (p);
}

int
main (void)
{
  struct pair *const p = calloc (1, sizeof *p);

  REQUIRE (p != NULL);
  build_base (p);
  build_top (p);
  test_stopped (p);
  test_faults (p, false);
  test_faults (p, true);
  builder_free (&p->base_bytes);
  builder_free (&p->top_bytes);
  free (p);
  return unit_finish ();
}
