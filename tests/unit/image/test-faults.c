/* SPDX-License-Identifier: BSD-3-Clause */
/* test-faults.c - every host request and every allocation fails once.
 *
 * Method    repeats a workload: from the n-th call on all calls fail until the
 *           first error; then the operation is repeated and must succeed, and
 *           so must the rest.  A second sweep fails only call n and goes on,
 *           to test faults that cause no error.
 * Locks     none; one thread.
 */
#include "config.h"

#include "codec/pool.h"

#include "alloc_faults.h"
#include "memory_io.h"
#include "random_image.h"
#include "unit.h"

#include <errno.h>
#include <unistd.h>

#define FAULT EDEADLK           /* an errno that nothing else produces */

/* ---- The workload ------------------------------------------------------- */

struct workload {
  struct random_image r;
  struct memory_io m;
  struct qcow2_image *image;
  unsigned char *buf;
  enum qcow2_error_kind kind;   /* that an injected fault shows as */
  int errnum;
  unsigned failures;
};

static void
clear_faults (struct workload *w)
{
  w->m.fail_at = 0;
  alloc_fail_at = 0;
}

/* An operation failed: with the right error, and only because of a fault. */
static void
failed (struct workload *w, const struct qcow2_error *err)
{
  CHECK_EQ (err->kind, w->kind);
  CHECK_EQ (err->errnum, w->errnum);
  w->failures++;
  clear_faults (w);
}

static void
open_image (struct workload *w)
{
  const struct qcow2_options options = { .cache_size = 1 };
  struct qcow2_error err;

  w->image = qcow2_open (&w->m.io, &options, &err);
  if (w->image == NULL) {
    failed (w, &err);
    w->image = qcow2_open (&w->m.io, &options, &err);
  }
  REQUIRE (w->image != NULL);
}

static void
read_range (struct workload *w, uint64_t in_window, uint64_t len)
{
  const uint64_t guest_off = w->r.base + in_window;
  struct qcow2_error err;

  memset (w->buf, 0x77, len);
  if (qcow2_pread (w->image, &w->m.io, w->buf, (uint32_t) len, guest_off,
                   &err) == -1) {
    failed (w, &err);
    CHECK_EQ (qcow2_pread (w->image, &w->m.io, w->buf, (uint32_t) len,
                           guest_off, &err), 0);
  }
  CHECK_BYTES (w->buf, w->r.disk + in_window, len);
}

struct seen {
  struct workload *w;
  uint64_t next;
};

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct seen *const seen = opaque;
  const struct random_image *const r = &seen->w->r;

  CHECK_EQ (guest_off, seen->next);
  seen->next = guest_off + len;
  if (type != QCOW2_EXTENT_DATA)
    for (uint64_t i = guest_off; i < guest_off + len; ++i)
      if (i >= r->base && r->disk[i - r->base] != 0) {
        CHECK (!"a hole with data in it");
        break;
      }
  return 0;
}

static void
see_all_extents (struct workload *w)
{
  const uint64_t count = w->r.len;
  struct seen seen = { w, w->r.base };
  struct qcow2_error err;

  if (qcow2_extents (w->image, &w->m.io, count, w->r.base, see_extent, &seen,
                     &err) == -1) {
    CHECK_EQ (seen.next, w->r.base);
    failed (w, &err);
  }
  else if (seen.next != w->r.base + count) {
    w->failures++;              /* it said less than it was asked */
    clear_faults (w);
  }
  else
    return;
  seen.next = w->r.base;
  CHECK_EQ (qcow2_extents (w->image, &w->m.io, count, w->r.base, see_extent,
                           &seen, &err), 0);
  CHECK_EQ (seen.next, w->r.base + count);
}

static int
see_piece (void *opaque, const struct qcow2_piece *p)
{
  struct seen *const seen = opaque;

  CHECK_EQ (p->guest_off, seen->next);
  CHECK (p->len > 0);
  seen->next += p->len;
  if (p->kind == QCOW2_PIECE_ZERO || p->kind == QCOW2_PIECE_UNALLOCATED)
    return see_extent (&(struct seen) { seen->w, p->guest_off }, p->guest_off,
                       p->len, QCOW2_EXTENT_ZERO);
  return 0;
}

/* What was reported before a failure is true, too. */
static void
see_all_pieces (struct workload *w)
{
  struct seen seen = { w, w->r.base };
  struct qcow2_error err;

  if (qcow2_map (w->image, &w->m.io, w->r.len, w->r.base, see_piece, &seen,
                 &err) == -1) {
    failed (w, &err);
    seen.next = w->r.base;
    CHECK_EQ (qcow2_map (w->image, &w->m.io, w->r.len, w->r.base, see_piece,
                         &seen, &err), 0);
  }
  CHECK_EQ (seen.next, w->r.base + w->r.len);
}

static void
get_details (struct workload *w)
{
  struct qcow2_error err;
  struct qcow2_details *d = qcow2_get_details (w->image, &w->m.io, &err);

  if (d == NULL) {
    failed (w, &err);
    d = qcow2_get_details (w->image, &w->m.io, &err);
  }
  REQUIRE (d != NULL);
  CHECK_EQ (d->backing_file.len, 0);
  CHECK (d->luks == NULL);
  qcow2_details_free (d);
}

static void
cache_range (struct workload *w)
{
  struct qcow2_error err;

  if (qcow2_cache (w->image, &w->m.io, (uint32_t) w->r.len, w->r.base, &err)
      == -1) {
    failed (w, &err);
    CHECK_EQ (qcow2_cache (w->image, &w->m.io, (uint32_t) w->r.len,
                           w->r.base, &err), 0);
  }
}

static void
run (struct workload *w)
{
  const uint64_t step = w->r.b.cluster_size;

  w->failures = 0;
  open_image (w);
  for (uint64_t at = 0; at < w->r.len; at += step) {
    const uint64_t left = w->r.len - at;

    read_range (w, at, left < step ? left : step);
    read_range (w, at + left / 3 % step, left > step ? 100 : 1);
  }
  read_range (w, 0, w->r.len);
  see_all_extents (w);
  see_all_pieces (w);
  get_details (w);
  cache_range (w);
  read_range (w, w->r.len / 2, w->r.len - w->r.len / 2);
  qcow2_close (w->image);
  clear_faults (w);
}

/* ---- Sweeps ------------------------------------------------------------- */

static void
arm (struct workload *w, bool host, unsigned long n, bool on)
{
  memory_io_reset (&w->m);
  alloc_count = 0;
  w->m.fail_at = host ? n : 0;
  w->m.fail_on = on;
  w->m.fail_errnum = FAULT;
  alloc_fail_at = host ? 0 : n;
  alloc_fail_on = on;
  w->kind = host ? QCOW2_ERR_IO : QCOW2_ERR_NOMEM;
  w->errnum = host ? FAULT : ENOMEM;
}

static void
sweep (struct workload *w, bool host)
{
  unsigned long n;

  for (unsigned on = 0; on <= 1; ++on) {
    for (n = 1;; ++n) {
      const long live_before = alloc_live;
      bool reached;

      unit_context ("%s %lu fails%s: %s", host ? "request" : "allocation", n,
                    on ? " and all after it" : "",
                    random_image_describe (&w->r));
      arm (w, host, n, on);
      run (w);
      CHECK_EQ (alloc_live, live_before);
      reached = (host ? w->m.calls : alloc_count) >= n;
      /* What only makes things faster may fail. */
      if (on)
        CHECK_EQ (w->failures, host ? w->m.failed_reads > 0 : reached);
      else
        CHECK (w->failures <= reached);
      if (!reached)
        break;
    }
    CHECK (n > 2);              /* else there was nothing to test */
  }
}

static void
test_image (const struct image_spec *spec, uint64_t seed, uint32_t min_block)
{
  struct rng rng = { seed };
  struct workload w = { 0 };

  random_image_init (&w.r, &rng, spec, 64 << 10);
  w.buf = malloc (w.r.len);
  REQUIRE (w.buf != NULL);
  memory_io_init (&w.m, w.r.b.bytes, w.r.b.size);
  w.m.io.min_block = min_block;
  sweep (&w, true);
  sweep (&w, false);
  free (w.buf);
  random_image_free (&w.r);
}

/* A codec that could not be made must not count as one of the few: else the
 * last of these would wait for ever.
 */
static void
test_pool (void)
{
  struct qcow2_error err;
  struct q2_codec_pool *const pool =
    q2_codec_pool_new (QCOW2_COMPRESSION_ZLIB, 4 << 20, &err);

  unit_context ("%s", "codecs that cannot be made");
  REQUIRE (pool != NULL);
  alarm (20);
  for (unsigned i = 0; i < 200; ++i) {
    struct q2_codec *codec;

    alloc_count = 0;
    alloc_fail_on = false;
    alloc_fail_at = 1 + i % 2;  /* the codec, or what is in it */
    codec = q2_codec_get (pool, &err);
    alloc_fail_at = 0;
    CHECK (codec == NULL);
    if (codec != NULL)
      break;
    CHECK_EQ (err.kind, QCOW2_ERR_NOMEM);
  }
  q2_codec_pool_free (pool);
  alarm (0);
}

int
main (void)
{
  static const struct image_spec specs[] = {
    { .version = 1, .cluster_bits = 11, .l2_bits = 6 },
    { .version = 2, .cluster_bits = 9, .refcount_order = 4 },
    { .version = 3, .cluster_bits = 12, .refcount_order = 4 },
    { .version = 3, .cluster_bits = 14, .refcount_order = 4,
      .extended_l2 = true },
  };

  for (size_t i = 0; i < sizeof specs / sizeof specs[0]; ++i)
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      struct image_spec spec = specs[i];

      spec.zstd = spec.version == 3 && qcow2_has_zstd () && seed == 2;
      test_image (&spec, seed * 100 + i, seed == 1 ? 512 : 1);
    }
  test_pool ();
  return unit_finish ();
}
