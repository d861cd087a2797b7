/* SPDX-License-Identifier: BSD-3-Clause */
/* test-view-faults.c - every host request and every allocation for views fails
 * once.
 *
 * Method    as in test-faults.c: repeats a workload in which call n fails, or
 *           all from n on until the first error; then the operation is
 *           repeated and must succeed.
 * Locks     none; one thread.
 */
#include "config.h"

#include "alloc_faults.h"
#include "image_inside.h"
#include "memory_io.h"
#include "views.h"

#include <errno.h>

#define FAULT EDEADLK           /* an errno that nothing else produces */

#define CLUSTER UINT64_C (512)
#define CLUSTERS 200            /* more than two L2 tables */
#define SIZE (CLUSTERS * CLUSTER)

struct workload {
  struct image_builder b;
  struct inside in;
  struct memory_io m;
  struct qcow2_image *image;
  enum qcow2_error_kind kind;   /* that an injected fault shows as */
  int errnum;
  unsigned failures;
  unsigned char buf[SIZE];
};

/* ---- The image ------------------------------------------------------------ */

static void
put_clusters (struct workload *w, unsigned first, unsigned step, int byte)
{
  unsigned char cluster[CLUSTER];
  uint64_t host_off, csize;

  for (unsigned i = first; i < CLUSTERS; i += step) {
    memset (cluster, byte, sizeof cluster);
    if (i % 5 != 0 || !builder_compressed (&w->b, i, cluster, &host_off,
                                           &csize))
      builder_data (&w->b, i, cluster);
  }
}

static void
build (struct workload *w)
{
  static const struct image_spec spec = {
    .version = 3, .cluster_bits = 9, .refcount_order = 4,
    .virtual_size = SIZE,
  };
  static const unsigned char bits[CLUSTERS / 8] = { 0xff, 0x01, 0x80, 0xff };
  struct inside_snapshot s = {
    .id = "1", .id_len = 1, .name = "a", .name_len = 1, .extra_len = 24,
    .disk_size = SIZE - 100,
  };

  builder_init (&w->b, &spec);
  put_clusters (w, 0, 1, 'a');
  inside_snapshot (&w->in, &w->b, &s);
  put_clusters (w, 100, 7, 'b');
  s.name = "b";
  inside_snapshot (&w->in, &w->b, &s);
  put_clusters (w, 3, 3, 'c');
  inside_bitmap (&w->in, &w->b, &(struct inside_bitmap) {
    .name = "b0", .granularity_bits = 9, .flags = 2, .bits = bits,
    .nr_bits = CLUSTERS });
  inside_finish (&w->in, &w->b);
  builder_finish (&w->b);
  memory_io_init (&w->m, w->b.bytes, w->b.size);
}

/* ---- Operations ------------------------------------------------------------ */

/* An operation failed: with the right error, and only because of a fault. */
static void
failed (struct workload *w, const struct qcow2_error *err)
{
  CHECK_EQ (err->kind, w->kind);
  CHECK_EQ (err->errnum, w->errnum);
  w->failures++;
  w->m.fail_at = 0;
  alloc_fail_at = 0;
}

static struct qcow2_image *
open_image (struct workload *w)
{
  const struct qcow2_options options = {
    .cache_size = 1, .cluster_cache_size = 4096,
  };
  struct qcow2_error err;
  struct qcow2_image *image = qcow2_open (&w->m.io, &options, &err);

  if (image == NULL) {
    failed (w, &err);
    image = qcow2_open (&w->m.io, &options, &err);
  }
  REQUIRE (image != NULL);
  return image;
}

static struct qcow2_image *
open_view (struct workload *w, enum qcow2_view_kind kind, const char *name)
{
  const struct qcow2_name n = view_name (name);
  struct qcow2_error err;
  struct qcow2_image *view =
    qcow2_open_view (w->image, &w->m.io, kind, &n, &err);

  if (view == NULL) {
    failed (w, &err);
    view = qcow2_open_view (w->image, &w->m.io, kind, &n, &err);
  }
  REQUIRE (view != NULL);
  return view;
}

static int
count_snapshot (void *opaque, const struct qcow2_snapshot *snapshot)
{
  (void) snapshot;
  ++*(unsigned *) opaque;
  return 0;
}

static int
count_bitmap (void *opaque, const struct qcow2_bitmap *bitmap)
{
  (void) bitmap;
  ++*(unsigned *) opaque;
  return 0;
}

static void
list (struct workload *w)
{
  struct qcow2_error err;
  unsigned n = 0;

  if (qcow2_list_snapshots (w->image, &w->m.io, count_snapshot, &n, &err)
      == -1) {
    failed (w, &err);
    n = 0;
    CHECK_EQ (qcow2_list_snapshots (w->image, &w->m.io, count_snapshot, &n,
                                    &err), 0);
  }
  CHECK_EQ (n, 2);
  n = 0;
  if (qcow2_list_bitmaps (w->image, &w->m.io, count_bitmap, &n, &err) == -1) {
    failed (w, &err);
    n = 0;
    CHECK_EQ (qcow2_list_bitmaps (w->image, &w->m.io, count_bitmap, &n,
                                  &err), 0);
  }
  CHECK_EQ (n, 1);
}

struct sum {
  uint64_t next, data;
  int last;                     /* type, of this call */
};

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct sum *const s = opaque;

  CHECK_EQ (guest_off, s->next);
  CHECK ((int) type != s->last);
  s->last = (int) type;
  s->next += len;
  s->data += type == QCOW2_EXTENT_DATA ? len : 0;
  return 0;
}

/* All of it; what is told before a failure counts. */
static uint64_t
sum_extents (struct workload *w, struct qcow2_image *view)
{
  const uint64_t size = qcow2_get_info (view).virtual_size;
  struct sum s = { 0, 0, -1 };

  while (s.next < size) {
    const uint64_t from = s.next;
    struct qcow2_error err;

    s.last = -1;
    if (qcow2_extents (view, &w->m.io, size - from, from, see_extent, &s,
                       &err) == -1) {
      CHECK_EQ (s.next, from);
      failed (w, &err);
    }
    else if (s.next < size) {
      w->failures++;
      w->m.fail_at = 0;
      alloc_fail_at = 0;
    }
  }
  return s.data;
}

static uint64_t
sum_bytes (struct workload *w, struct qcow2_image *view)
{
  const uint64_t size = qcow2_get_info (view).virtual_size;
  struct qcow2_error err;
  uint64_t sum = 0;

  memset (w->buf, 0x77, size);
  if (qcow2_pread (view, &w->m.io, w->buf, (uint32_t) size, 0, &err) == -1) {
    failed (w, &err);
    CHECK_EQ (qcow2_pread (view, &w->m.io, w->buf, (uint32_t) size, 0, &err),
              0);
  }
  for (uint64_t i = 0; i < size; ++i)
    sum += w->buf[i];
  return sum;
}

static const struct {
  enum qcow2_view_kind kind;
  const char *name;
} views[] = {
  { QCOW2_VIEW_SNAPSHOT, "b" },
  { QCOW2_VIEW_DIFF, "a..b" },
  { QCOW2_VIEW_DIFF, "b.." },
  { QCOW2_VIEW_BITMAP, "b0" },
  { QCOW2_VIEW_LAYER, "0" },
};
#define NR_VIEWS (sizeof views / sizeof views[0])

static uint64_t data_bytes[NR_VIEWS], byte_sums[NR_VIEWS];

static void
run (struct workload *w, bool first)
{
  w->failures = 0;
  w->image = open_image (w);
  list (w);
  for (size_t i = 0; i < NR_VIEWS; ++i) {
    struct qcow2_image *const view =
      open_view (w, views[i].kind, views[i].name);
    const uint64_t data = sum_extents (w, view);
    const uint64_t bytes = sum_bytes (w, view);

    if (first) {
      data_bytes[i] = data;
      byte_sums[i] = bytes;
      CHECK (data > 0 && bytes > 0);
    }
    CHECK_EQ (data, data_bytes[i]);
    CHECK_EQ (bytes, byte_sums[i]);
    qcow2_close (view);
  }
  qcow2_close (w->image);
  w->m.fail_at = 0;
  alloc_fail_at = 0;
}

static void
sweep (struct workload *w, bool host)
{
  for (unsigned on = 0; on <= 1; ++on)
    for (unsigned long n = 1;; ++n) {
      const long live_before = alloc_live;

      unit_context ("%s %lu fails%s", host ? "request" : "allocation", n,
                    on ? " and all after it" : "");
      memory_io_reset (&w->m);
      alloc_count = 0;
      w->m.fail_at = host ? n : 0;
      w->m.fail_on = on;
      w->m.fail_errnum = FAULT;
      alloc_fail_at = host ? 0 : n;
      alloc_fail_on = on;
      w->kind = host ? QCOW2_ERR_IO : QCOW2_ERR_NOMEM;
      w->errnum = host ? FAULT : ENOMEM;
      run (w, false);
      CHECK_EQ (alloc_live, live_before);
      if ((host ? w->m.calls : alloc_count) < n) {
        CHECK_EQ (w->failures, 0);
        CHECK (n > 20);
        break;
      }
      if (on)
        CHECK_EQ (w->failures, 1);
      else
        CHECK (w->failures <= 1);
    }
}

int
main (void)
{
  static struct workload w;
  long live_before;

  build (&w);
  live_before = alloc_live;
  run (&w, true);
  CHECK_EQ (alloc_live, live_before);
  sweep (&w, true);
  sweep (&w, false);
  builder_free (&w.b);
  return unit_finish ();
}
