/* SPDX-License-Identifier: BSD-3-Clause */
/* test-io.c - bounds, zero-fill, splitting and alignment of host I/O.
 *
 * memory_io checks the requests; this test checks the results, and the number
 * of requests.
 */
#include "config.h"

#include "io/io.h"

#include "memory_io.h"
#include "unit.h"

#include <errno.h>

#define MAX_SIZE 20000

static unsigned char file[MAX_SIZE];

static const uint32_t blocks[] = { 1, 512, 4096 };
static const uint64_t sizes[] = {
  0, 1, 511, 512, 513, 4095, 4096, 8192, 10000, 12288, MAX_SIZE,
};
#define NR(a) (sizeof (a) / sizeof (a)[0])

static uint64_t
min64 (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

/* ---- Reading ---------------------------------------------------------- */

static void
try_read (struct memory_io *m, uint64_t file_size, uint64_t off,
          uint64_t count)
{
  static unsigned char buf[3 * MAX_SIZE];
  const struct q2_io io = { .host = &m->io, .file_size = file_size };
  const uint64_t reachable = m->io.size - m->io.size % m->io.min_block;
  const uint64_t inside = off >= file_size ? 0 : min64 (count,
                                                        file_size - off);
  struct qcow2_error err;
  int r;

  unit_context ("min %u max %u host %" PRIu64 " file %" PRIu64 ": %" PRIu64
                " at %" PRIu64, m->io.min_block, m->io.max_block, m->io.size,
                file_size, count, off);
  REQUIRE (count + 16 <= sizeof buf);
  memset (buf, 0x77, count + 16);
  memory_io_reset (m);
  r = q2_io_read (&io, buf, count, off, QCOW2_IO_REFCOUNT, &err);
  CHECK_EQ (buf[count], 0x77);  /* nothing past the end */
  CHECK_EQ (m->reads[QCOW2_IO_REFCOUNT], memory_io_total_reads (m));
  if (inside > 0 && off + inside > reachable) {
    if (CHECK_EQ (r, -1)) {
      CHECK_EQ (err.kind, QCOW2_ERR_IO);
      CHECK_EQ (err.errnum, EIO);
    }
    return;
  }
  if (!CHECK_EQ (r, 0))
    return;
  if (inside > 0)
    CHECK_BYTES (buf, file + off, inside);
  for (uint64_t i = inside; i < count; ++i)
    if (buf[i] != 0) {
      CHECK_EQ (buf[i], 0);
      break;
    }
  if (inside == 0)
    CHECK_EQ (memory_io_total_reads (m), 0);
  else {
    const uint64_t max = m->io.max_block ? m->io.max_block : 32 << 20;
    const uint64_t block = m->io.min_block;
    const uint64_t head_and_tail =
      (off % block != 0) + ((off + inside) % block != 0);

    CHECK (memory_io_total_reads (m) <= (inside + max - 1) / max +
           head_and_tail);
    if (block == 1)
      CHECK_EQ (memory_io_total_reads (m), (inside + max - 1) / max);
    /* No block is read twice, and none that was not asked for. */
    CHECK (m->read_bytes <= (off + inside + block - 1) / block * block -
           off / block * block);
  }
}

static void
test_read (void)
{
  struct rng rng = { 99 };

  for (size_t b = 0; b < NR (blocks); ++b)
    for (size_t s = 0; s < NR (sizes); ++s)
      for (unsigned max = 0; max < 4; ++max) {
        struct memory_io m;
        const uint64_t size = sizes[s];

        memory_io_init (&m, file, size);
        m.io.min_block = blocks[b];
        m.io.max_block = max == 3 ? UINT32_C (1) << 31 : max * 3 *
          (blocks[b] == 1 ? 1000 : blocks[b]);
        /* Each border with a neighbour on either side. */
        for (unsigned i = 0; i < NR (sizes); ++i)
          for (int d = -1; d <= 1; ++d) {
            const uint64_t off = sizes[i] + d;

            if (sizes[i] == 0 && d < 0)
              continue;
            try_read (&m, size, off, 0);
            try_read (&m, size, off, 1);
            try_read (&m, size, off, 512);
            try_read (&m, size, off, 4097);
            try_read (&m, size, off, size > off ? size - off : 5);
            try_read (&m, size, off, MAX_SIZE * 2);
          }
        for (unsigned i = 0; i < 60; ++i)
          try_read (&m, size, rng_below (&rng, size + 1000),
                    rng_below (&rng, size + 5000));
        for (unsigned i = 0; i < 64; ++i) {
          try_read (&m, size, UINT64_MAX - i, 100);
          try_read (&m, size, UINT64_MAX - 99 - i, 100);
          try_read (&m, size, (UINT64_C (1) << i) + size, 100);
        }
      }
}

/* A connection that reaches less than the image file has: never zeros. */
static void
test_stale_connection (void)
{
  struct memory_io m;
  struct qcow2_error err;
  unsigned char buf[64];

  memory_io_init (&m, file, 8192);
  for (uint64_t off = 8000; off < 12300; off += 8) {
    const struct q2_io io = { .host = &m.io, .file_size = 12288 };
    const int r = q2_io_read (&io, buf, sizeof buf, off, QCOW2_IO_DATA, &err);

    unit_context ("stale connection, offset %" PRIu64, off);
    if (off + sizeof buf <= 8192)
      CHECK_EQ (r, 0);
    else if (off >= 12288) {
      CHECK_EQ (r, 0);
      CHECK_EQ (buf[0], 0);
    }
    else if (CHECK_EQ (r, -1)) {
      CHECK_ERROR (&err, QCOW2_ERR_IO, off);
      CHECK_EQ (err.errnum, EIO);
    }
  }
}

/* Never more than 32 MiB at once, whatever the host would take. */
static void
test_large (void)
{
  const uint64_t size = (40 << 20) + 5;
  unsigned char *const bytes = calloc (1, size);
  unsigned char *const buf = malloc (size);
  struct memory_io m;
  struct qcow2_error err;

  REQUIRE (bytes && buf);
  bytes[size - 1] = 7;
  for (unsigned i = 0; i < 2; ++i) {
    struct q2_io io = { .host = &m.io, .file_size = size };

    memory_io_init (&m, bytes, size);
    m.io.max_block = i == 0 ? 0 : 64 << 20;
    CHECK_EQ (q2_io_read (&io, buf, size, 0, QCOW2_IO_DATA, &err), 0);
    CHECK_EQ (memory_io_total_reads (&m), 2);
    CHECK_EQ (buf[size - 1], 7);
    memory_io_reset (&m);
    CHECK_EQ (q2_io_read (&io, buf, 32 << 20, 1, QCOW2_IO_DATA, &err), 0);
    CHECK_EQ (memory_io_total_reads (&m), 1);
  }
  free (bytes);
  free (buf);
}

static void
test_faults (void)
{
  struct memory_io m;
  const struct q2_io io = { .host = &m.io, .file_size = 12288 };
  struct qcow2_error err;
  unsigned char buf[12288];

  memory_io_init (&m, file, 12288);
  m.io.min_block = 512;
  m.io.max_block = 2048;
  m.fail_errnum = ENOMEDIUM;
  for (unsigned n = 1; n <= 8; ++n) {
    unit_context ("fault %u", n);
    memory_io_reset (&m);
    m.fail_at = n;
    /* A head, five requests, a tail. */
    if (n <= 7) {
      CHECK_EQ (q2_io_read (&io, buf, 10240, 100, QCOW2_IO_L1, &err), -1);
      CHECK_ERROR (&err, QCOW2_ERR_IO, n == 1 ? 0 : n == 7 ? 10240
                   : 512 + (n - 2) * 2048);
      CHECK_EQ (err.errnum, ENOMEDIUM);
    }
    else
      CHECK_EQ (q2_io_read (&io, buf, 10240, 100, QCOW2_IO_L1, &err), 0);
  }
}

/* ---- Cache hints ------------------------------------------------------- */

static void
test_cache (void)
{
  struct rng rng = { 5 };

  for (size_t b = 0; b < NR (blocks); ++b)
    for (size_t s = 0; s < NR (sizes); ++s)
      for (unsigned i = 0; i < 200; ++i) {
        const uint64_t block = blocks[b], size = sizes[s];
        const uint64_t reachable = size - size % block;
        const uint64_t off = rng_below (&rng, size + 3000);
        const uint64_t count = rng_below (&rng, 20000);
        struct memory_io m;
        const struct q2_io io = { .host = &m.io, .file_size = size };
        uint64_t from, to;

        unit_context ("cache: min %" PRIu64 " size %" PRIu64 ": %" PRIu64
                      " at %" PRIu64, block, size, count, off);
        memory_io_init (&m, file, size);
        m.io.min_block = (uint32_t) block;
        m.io.max_block = i % 2 ? 8192 : 0;
        q2_io_cache (&io, count, off);
        from = off - off % block;
        to = min64 ((off + count + block - 1) / block * block, reachable);
        if (count > 0)
          CHECK_EQ (m.cache_bytes, from < to ? to - from : 0);
        else
          CHECK (m.cache_bytes <= block);
        if (m.cache_calls > 0) {
          memory_io_reset (&m);
          m.fail_at = 1;
          m.fail_errnum = ESTALE;
          q2_io_cache (&io, count, off);
        }
      }
}

/* ---- Extents ----------------------------------------------------------- */

struct seen {
  uint64_t next, end;           /* where the next extent must start */
  const struct memory_io *m;
  uint64_t file_size;
  bool host_knows;
  unsigned stop_after, calls;
};

static bool
expect_hole (const struct seen *seen, uint64_t off)
{
  const uint64_t reachable =
    seen->m->io.size - seen->m->io.size % seen->m->io.min_block;
  const uint64_t start = off - off % seen->m->hole_size;

  if (off >= seen->file_size)
    return true;
  if (!seen->host_knows || off >= reachable)
    return false;
  for (uint64_t i = start; i < start + seen->m->hole_size &&
         i < seen->m->io.size; ++i)
    if (file[i])
      return false;
  return true;
}

static int
see_extent (void *opaque, uint64_t off, uint64_t len, bool hole)
{
  struct seen *const seen = opaque;

  CHECK (seen->stop_after == 0 || seen->calls < seen->stop_after);
  CHECK (len > 0);
  CHECK_EQ (off, seen->next);
  CHECK (len <= seen->end - off);
  /* The kind can only change at sectors and at the ends. */
  for (uint64_t i = 0; i < len; i += i + 512 < len ? 512 : len - i > 1
         ? len - i - 1 : 1)
    if (!CHECK_EQ (hole, expect_hole (seen, off + i)))
      return 1;
  seen->next = off + len;
  return ++seen->calls == seen->stop_after;
}

static void
try_extents (struct memory_io *m, uint64_t file_size, uint64_t off,
             uint64_t count)
{
  const struct q2_io io = { .host = &m->io, .file_size = file_size };
  struct seen seen = {
    .next = off, .end = off + count, .m = m, .file_size = file_size,
    .host_knows = m->io.ops->extents != NULL,
  };
  struct qcow2_error err;

  unit_context ("extents: min %u host %" PRIu64 " file %" PRIu64 ": %" PRIu64
                " at %" PRIu64 ", hole size %u, at most %u", m->io.min_block,
                m->io.size, file_size, count, off, m->hole_size,
                m->max_extents);
  CHECK_EQ (q2_io_extents (&io, count, off, see_extent, &seen, &err), 0);
  CHECK_EQ (seen.next, off + count);
  if (seen.calls > 1) {
    seen.stop_after = 1 + (unsigned) (off + count) % (seen.calls - 1);
    seen.calls = 0;
    seen.next = off;
    CHECK_EQ (q2_io_extents (&io, count, off, see_extent, &seen, &err), 0);
    CHECK_EQ (seen.calls, seen.stop_after);
  }
}

static void
test_extents (void)
{
  static struct qcow2_io_ops no_extents;
  struct rng rng = { 6 };
  struct memory_io m;
  struct q2_io io = { .host = &m.io, .file_size = MAX_SIZE };
  struct qcow2_error err;
  struct seen seen = { .end = MAX_SIZE, .m = &m };

  for (size_t b = 0; b < NR (blocks); ++b)
    for (size_t s = 0; s < NR (sizes); ++s)
      for (unsigned i = 0; i < 60; ++i) {
        memory_io_init (&m, file, sizes[s]);
        m.io.min_block = blocks[b];
        m.hole_size = i % 3 ? 512 : 4096;
        m.max_extents = i % 4 == 0;
        /* One that stops inside a block could never be asked for the rest
         * of that block.
         */
        if (m.max_extents && m.hole_size < m.io.min_block)
          m.hole_size = m.io.min_block;
        if (i % 16 == 7) {
          no_extents = *m.io.ops;
          no_extents.extents = NULL;
          m.io.ops = &no_extents;
        }
        try_extents (&m, sizes[s] + (i % 5 ? 0 : 3000),
                     rng_below (&rng, sizes[s] + 3000),
                     1 + rng_below (&rng, 20000));
      }

  memory_io_init (&m, file, MAX_SIZE);
  m.fail_at = 1;
  m.fail_errnum = EPERM;
  seen = (struct seen) { .end = 100, .m = &m, .file_size = MAX_SIZE };
  CHECK_EQ (q2_io_extents (&io, 100, 0, see_extent, &seen, &err), 0);
  CHECK_EQ (seen.next, 100);
  CHECK_EQ (seen.calls, 1);
}

static int
say_nothing (void *opaque, uint32_t count, uint64_t host_off,
             qcow2_host_extent_fn fn, void *fn_opaque)
{
  (void) opaque; (void) count; (void) host_off; (void) fn; (void) fn_opaque;
  return 0;
}

/* A host that reports nothing must not hang us; all may be data then. */
static void
test_silent_host (void)
{
  struct qcow2_io_ops ops;
  struct memory_io m;
  const struct q2_io io = { .host = &m.io, .file_size = MAX_SIZE };
  struct seen seen = { .end = 100, .m = &m, .file_size = MAX_SIZE };
  struct qcow2_error err;

  memory_io_init (&m, file, MAX_SIZE);
  ops = *m.io.ops;
  ops.extents = say_nothing;
  m.io.ops = &ops;
  CHECK_EQ (q2_io_extents (&io, 100, 0, see_extent, &seen, &err), 0);
  CHECK_EQ (seen.next, 100);
}

int
main (void)
{
  struct rng rng = { 1 };

  rng_fill (&rng, file, sizeof file);
  for (size_t i = 0; i < sizeof file; ++i)
    file[i] |= 1;               /* no zeros but these: */
  memset (file + 1024, 0, 1536);
  memset (file + 4096, 0, 4096);
  memset (file + 12288, 0, 512);

  test_read ();
  test_stale_connection ();
  test_large ();
  test_faults ();
  test_cache ();
  test_extents ();
  test_silent_host ();
  return unit_finish ();
}
