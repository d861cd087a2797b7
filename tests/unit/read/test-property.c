/* SPDX-License-Identifier: BSD-3-Clause */
/* test-property.c - random images through the public interface, against their
 * known contents.
 *
 * Reads of all sizes and places, extents, which must be true and without gaps,
 * cache hints, and several threads on one image.
 */
#include "config.h"

#include "memory_io.h"
#include "random_image.h"
#include "stops.h"
#include "unit.h"

#include <errno.h>
#include <pthread.h>

struct fixture {
  struct random_image r;
  struct memory_io m;
  struct qcow2_image *image;
  uint64_t file_size;
};

static bool
is_zero (const unsigned char *p, uint64_t len)
{
  return len == 0 || (p[0] == 0 && memcmp (p, p + 1, len - 1) == 0);
}

/* ---- Reads -------------------------------------------------------------- */

/* What the disk reads as where the file is whole; a cut file reads as zeros
 * past its end, see cut_disk.
 */
static void
try_read (struct fixture *f, struct memory_io *m, unsigned char *buf,
          uint64_t guest_off, uint64_t len)
{
  const struct random_image *const r = &f->r;
  const uint64_t before =
    guest_off >= r->base ? 0
    : r->base - guest_off < len ? r->base - guest_off : len;
  struct qcow2_error err;

  memset (buf, 0x77, len + 1);
  if (!CHECK_EQ (qcow2_pread (f->image, &m->io, buf, (uint32_t) len,
                              guest_off, &err), 0)) {
    fprintf (stderr, "%s\n", err.text);
    return;
  }
  CHECK_EQ (buf[len], 0x77);
  CHECK (is_zero (buf, before));
  if (!CHECK_BYTES (buf + before, r->disk + (guest_off + before - r->base),
                    len - before))
    fprintf (stderr, "%" PRIu64 " bytes at 0x%" PRIx64 "\n", len, guest_off);
}

/* Somewhere in or shortly before the window. */
static void
pick_range (const struct random_image *r, struct rng *rng,
            uint64_t *guest_off, uint64_t *len)
{
  const uint64_t before = r->base < 3000 ? r->base : 3000;
  const uint64_t start = r->base - before;
  const uint64_t total = r->len + before;

  *guest_off = start + rng_below (rng, total);
  *len = 1 + rng_below (rng, start + total - *guest_off);
  if (rng_below (rng, 3) > 0)
    *len = 1 + rng_below (rng, *len < 3000 ? *len : 3000);
}

static void
read_at_random (struct fixture *f, struct memory_io *m, struct rng *rng,
                unsigned times)
{
  unsigned char *const buf = malloc (f->r.len + 3001);
  uint64_t guest_off, len;

  REQUIRE (buf != NULL);
  while (times-- > 0) {
    pick_range (&f->r, rng, &guest_off, &len);
    try_read (f, m, buf, guest_off, len);
  }
  try_read (f, m, buf, f->r.base, f->r.len);
  free (buf);
}

/* ---- Extents ------------------------------------------------------------ */

struct seen {
  struct fixture *f;
  uint64_t next, end;
  int last_type;                /* -1: none yet */
  unsigned calls, stop_after;
  int stop_with;
  bool asked_host;              /* holes of the file may be known */
};

/* The only type this place may have, or -1 if that depends on what the
 * engine thinks worth asking the host.
 */
static int
type_at (const struct seen *seen, uint64_t guest_off, uint64_t len)
{
  const struct random_image *const r = &seen->f->r;
  const struct sector *s;
  uint64_t at;

  if (guest_off < r->base)
    return QCOW2_EXTENT_ZERO;
  at = guest_off - r->base;
  s = &r->sectors[at / 512];
  switch (s->kind) {
  case SECTOR_UNALLOCATED:
  case SECTOR_ZERO:
    return QCOW2_EXTENT_ZERO;
  case SECTOR_COMPRESSED:
    return QCOW2_EXTENT_DATA;
  case SECTOR_DATA:
    if (s->host_off + at % 512 >= seen->f->file_size)
      return QCOW2_EXTENT_ZERO_ALLOCATED;
    return seen->asked_host && is_zero (r->disk + at, len)
      ? -1 : QCOW2_EXTENT_DATA;
  }
  return -1;
}

static void
check_truth (const struct seen *seen, uint64_t guest_off, uint64_t len,
             enum qcow2_extent_type type)
{
  const struct random_image *const r = &seen->f->r;

  while (len > 0) {
    uint64_t n = guest_off < r->base ? r->base - guest_off
      : 512 - (guest_off - r->base) % 512;
    int must;

    if (n > len)
      n = len;
    must = type_at (seen, guest_off, n);
    if (must != -1 && !CHECK_EQ (type, must)) {
      fprintf (stderr, "extent at 0x%" PRIx64 "\n", guest_off);
      return;
    }
    if (type != QCOW2_EXTENT_DATA && guest_off >= r->base)
      CHECK (is_zero (r->disk + (guest_off - r->base), n));
    guest_off += n;
    len -= n;
  }
}

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct seen *const seen = opaque;

  CHECK (seen->stop_after == 0 || seen->calls < seen->stop_after);
  CHECK_EQ (guest_off, seen->next);
  CHECK (len > 0 && len <= seen->end - guest_off);
  CHECK ((int) type != seen->last_type); /* else they were not merged */
  check_truth (seen, guest_off, len, type);
  seen->next = guest_off + len;
  seen->last_type = (int) type;
  errno = EDOM;
  return ++seen->calls == seen->stop_after ? seen->stop_with : 0;
}

static void
try_extents (struct fixture *f, struct memory_io *m, uint64_t guest_off,
             uint64_t count)
{
  struct seen seen = {
    .f = f, .next = guest_off, .end = guest_off + count, .last_type = -1,
    .asked_host = m->io.ops->extents != NULL,
  };
  struct qcow2_error err;

  CHECK_EQ (qcow2_extents (f->image, &m->io, count, guest_off, see_extent,
                           &seen, &err), 0);
  CHECK_EQ (seen.next, guest_off + count);
  if (seen.calls < 2)
    return;

  /* Stop early: no error, and not one call more. */
  seen.stop_after = 1 + (unsigned) (guest_off + count) % (seen.calls - 1);
  seen.stop_with = 1;
  seen.calls = 0;
  seen.next = guest_off;
  seen.last_type = -1;
  CHECK_EQ (qcow2_extents (f->image, &m->io, count, guest_off, see_extent,
                           &seen, &err), 0);
  CHECK_EQ (seen.calls, seen.stop_after);

  /* Fail: with the errno of the function. */
  seen.stop_with = -1;
  seen.calls = 0;
  seen.next = guest_off;
  seen.last_type = -1;
  CHECK_EQ (qcow2_extents (f->image, &m->io, count, guest_off, see_extent,
                           &seen, &err), -1);
  CHECK_EQ (err.errnum, EDOM);
  CHECK_EQ (seen.calls, seen.stop_after);
}

static void
extents_at_random (struct fixture *f, struct memory_io *m, struct rng *rng,
                   unsigned times)
{
  uint64_t guest_off, len;

  while (times-- > 0) {
    pick_range (&f->r, rng, &guest_off, &len);
    try_extents (f, m, guest_off, len);
  }
  try_extents (f, m, 0, f->r.base + f->r.len);
  stops_check (f->image, &m->io, f->r.base + f->r.len, 0);
}

/* ---- One image ---------------------------------------------------------- */

/* Writers cut the file behind the last byte they need: the rest of that
 * cluster reads as zeros.
 */
static void
cut_file (struct fixture *f, struct rng *rng)
{
  struct random_image *const r = &f->r;
  uint64_t data_end = 0;

  for (uint64_t i = 0; i < (r->len + 511) / 512; ++i) {
    const struct sector *const s = &r->sectors[i];
    const uint64_t end =
      s->kind == SECTOR_DATA ? s->host_off + 512
      : s->kind == SECTOR_COMPRESSED ? s->host_off + s->csize : 0;

    if (end > data_end)
      data_end = end;
  }
  if (data_end < r->b.cluster_size || data_end > f->file_size)
    return;
  /* Refcounts are behind it and are not read; the cut is inside the last
   * data sectors, but not in a compressed stream or a table.
   */
  for (uint64_t i = 0; i < (r->len + 511) / 512; ++i)
    if (r->sectors[i].kind == SECTOR_COMPRESSED)
      return;
  for (uint64_t i = 0; i * r->b.cluster_size < r->len; ++i)
    if (builder_entry_off (&r->b, r->base / r->b.cluster_size + i) >=
        data_end - 512 * 3)
      return;
  f->file_size = data_end - rng_below (rng, 3 * 512);
  for (uint64_t i = 0; i < r->len; ++i) {
    const struct sector *const s = &r->sectors[i / 512];

    if (s->kind == SECTOR_DATA && s->host_off + i % 512 >= f->file_size)
      r->disk[i] = 0;
  }
}

static void
check_info (const struct fixture *f)
{
  const struct image_spec *const s = &f->r.b.spec;
  const struct qcow2_info info = qcow2_get_info (f->image);

  CHECK_EQ (info.version, s->version);
  CHECK_EQ (info.virtual_size, s->virtual_size);
  CHECK_EQ (info.cluster_size, f->r.b.cluster_size);
  CHECK_EQ (info.extended_l2, s->extended_l2);
  CHECK_EQ (info.refcount_bits, s->version == 1 ? 0
            : 1u << s->refcount_order);
  CHECK_EQ (info.compression, s->zstd ? QCOW2_COMPRESSION_ZSTD
            : QCOW2_COMPRESSION_ZLIB);
  CHECK (!info.dirty && !info.corrupt && !info.lazy_refcounts);
}

static void
open_fixture (struct fixture *f, struct rng *rng, uint64_t max_len)
{
  const struct image_spec spec = random_spec (rng);
  struct qcow2_options options = { 0 };
  struct qcow2_error err = { .text = "" };

  random_image_init (&f->r, rng, &spec, max_len);
  f->file_size = f->r.b.size;
  if (rng_below (rng, 3) == 0)
    cut_file (f, rng);
  memory_io_init (&f->m, f->r.b.bytes, f->file_size);
  if (f->file_size % 512 == 0 && rng_below (rng, 4) == 0)
    f->m.io.min_block = 512;
  if (rng_below (rng, 4) == 0)
    f->m.io.max_block = 4096;
  if (rng_below (rng, 3) == 0)
    options.cache_size = 1;     /* as small as it gets */
  f->image = qcow2_open (&f->m.io, &options, &err);
  if (f->image == NULL)
    fprintf (stderr, "%s\n", err.text);
  REQUIRE (f->image != NULL);
  check_info (f);
}

static void
close_fixture (struct fixture *f)
{
  qcow2_close (f->image);
  random_image_free (&f->r);
}

static void
try_limits (struct fixture *f)
{
  const uint64_t size = f->r.b.spec.virtual_size;
  struct seen seen = { .f = f, .last_type = -1 };
  struct qcow2_error err;
  unsigned char b[16];

  CHECK_EQ (qcow2_pread (f->image, &f->m.io, b, 1, size, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_RANGE);
  CHECK_EQ (err.errnum, EINVAL);
  CHECK_EQ (qcow2_pread (f->image, &f->m.io, b, 2, size - 1, &err), -1);
  CHECK_EQ (qcow2_pread (f->image, &f->m.io, b, 16, UINT64_MAX - 7, &err),
            -1);
  CHECK_EQ (qcow2_pread (f->image, &f->m.io, b, 0, size, &err), 0);
  CHECK_EQ (qcow2_pread (f->image, &f->m.io, b, 1, size - 1, &err), 0);
  CHECK_EQ (qcow2_extents (f->image, &f->m.io, UINT64_MAX, 1, see_extent,
                           &seen, &err), -1);
  CHECK_EQ (qcow2_cache (f->image, &f->m.io, 2, size - 1, &err), -1);
  CHECK_EQ (seen.calls, 0);
}

static void
try_cache (struct fixture *f, struct rng *rng)
{
  uint64_t guest_off, len, data = 0;
  struct qcow2_error err;

  pick_range (&f->r, rng, &guest_off, &len);
  memory_io_reset (&f->m);
  CHECK_EQ (qcow2_cache (f->image, &f->m.io, (uint32_t) len, guest_off,
                         &err), 0);
  CHECK_EQ (f->m.reads[QCOW2_IO_DATA] + f->m.reads[QCOW2_IO_COMPRESSED], 0);
  for (uint64_t i = 0; i < len; ++i)
    if (guest_off + i >= f->r.base) {
      const uint64_t at = guest_off + i - f->r.base;
      const struct sector *const s = &f->r.sectors[at / 512];

      data += s->kind == SECTOR_DATA &&
        s->host_off + at % 512 < f->file_size;
      if (s->kind == SECTOR_COMPRESSED)
        return;
    }
  if (f->m.io.min_block == 1)
    CHECK_EQ (f->m.cache_bytes, data);
  else
    CHECK (f->m.cache_bytes >= data);
}

static void
test_images (void)
{
  for (unsigned seed = 1; seed <= unit_scaled (400); ++seed) {
    struct rng rng = { seed };
    struct fixture f;

    open_fixture (&f, &rng, 128 << 10);
    unit_context ("seed %u: %s", seed, random_image_describe (&f.r));
    read_at_random (&f, &f.m, &rng, 25);
    extents_at_random (&f, &f.m, &rng, 10);
    try_cache (&f, &rng);
    try_limits (&f);
    close_fixture (&f);
  }
}

/* ---- Several threads ---------------------------------------------------- */

struct user {
  struct fixture *f;
  uint64_t seed;
};

static void *
use_image (void *opaque)
{
  const struct user *const user = opaque;
  struct rng rng = { user->seed };
  struct memory_io m;           /* a way of one's own, or the shared one */

  unit_context ("thread with seed %" PRIu64 ": %s", user->seed,
                random_image_describe (&user->f->r));
  memory_io_init (&m, user->f->r.b.bytes, user->f->file_size);
  for (unsigned i = 0; i < 4; ++i) {
    struct memory_io *const way = i % 2 ? &m : &user->f->m;

    read_at_random (user->f, way, &rng, 10);
    extents_at_random (user->f, way, &rng, 3);
  }
  return NULL;
}

static void
test_threads (void)
{
  for (unsigned seed = 1000; seed < 1000 + unit_scaled (20); ++seed) {
    struct rng rng = { seed };
    struct fixture f;
    pthread_t threads[4];
    struct user users[4];

    open_fixture (&f, &rng, 128 << 10);
    for (unsigned i = 0; i < 4; ++i) {
      users[i] = (struct user) { &f, seed * 10 + i };
      REQUIRE (pthread_create (&threads[i], NULL, use_image, &users[i])
               == 0);
    }
    for (unsigned i = 0; i < 4; ++i)
      pthread_join (threads[i], NULL);
    close_fixture (&f);
  }
}

int
main (void)
{
  test_images ();
  test_threads ();
  return unit_finish ();
}
