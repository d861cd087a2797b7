/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_io.c - the host side of the unit tests.
 *
 * Owns      checking every request against struct qcow2_io_ops, the lent I/O
 *           handles, and the faults and delays.
 * Method    a broken rule is a failed check and EIO, never a read outside the
 *           bytes.
 * Locks     none: the counters are atomic, the rest is constant during a
 *           call of the engine.
 */
#include "config.h"

#include "memory_io.h"
#include "unit.h"

#include <errno.h>
#include <unistd.h>

static bool
is_legal (const struct memory_io *m, uint64_t count, uint64_t host_off,
          uint64_t max)
{
  const uint64_t block = m->io.min_block;

  return CHECK (count > 0) &&
    CHECK (count <= max) &&
    CHECK (host_off <= m->io.size && count <= m->io.size - host_off) &&
    CHECK (host_off % block == 0 && count % block == 0);
}

static uint64_t
max_block (const struct memory_io *m)
{
  const uint64_t limit = UINT32_C (32) << 20;

  return m->io.max_block && m->io.max_block < limit
    ? m->io.max_block : limit;
}

/* Count the call; returns the errno it must fail with, or 0. */
static int
begin_call (struct memory_io *m)
{
  const unsigned long n = atomic_fetch_add (&m->calls, 1) + 1;

  if (m->fail_at != 0 && (n == m->fail_at || (m->fail_on && n > m->fail_at)))
    return m->fail_errnum;
  if (m->fail_every != 0 && n % m->fail_every == 0)
    return m->fail_errnum;
  return 0;
}

static void
note_sectors (atomic_uint *sectors, uint32_t count, uint64_t host_off)
{
  if (sectors == NULL)
    return;
  for (uint64_t i = host_off / 512; i <= (host_off + count - 1) / 512; ++i)
    atomic_fetch_add_explicit (&sectors[i], 1, memory_order_relaxed);
}

static int
read_bytes (struct memory_io *m, bool through_lent, void *buf,
            uint32_t count, uint64_t host_off, enum qcow2_io_class class)
{
  int fault = begin_call (m);

  if (through_lent && m->fail_lent)
    fault = m->fail_errnum;
  if (host_off < m->bad_end && host_off + count > m->bad_start)
    fault = EIO;
  atomic_fetch_add (&m->reads[class], 1);
  atomic_fetch_add (&m->read_bytes, count);
  if (!is_legal (m, count, host_off, max_block (m)))
    return EIO;
  note_sectors (m->sector_reads, count, host_off);
  if (fault)
    note_sectors (m->sector_faults, count, host_off);
  if (m->delay_us)
    usleep (m->delay_us + (count >> 10));
  /* A failed read leaves anything behind. */
  if (fault) {
    atomic_fetch_add (&m->failed_reads, 1);
    memset (buf, 0xe1, count);
    return fault;
  }
  memcpy (buf, m->bytes + host_off, count);
  return 0;
}

/* 'inside' counts the threads in this way to the bytes. */
static int
read_in_turn (struct memory_io *m, atomic_int *inside, bool through_lent,
              void *buf, uint32_t count, uint64_t host_off,
              enum qcow2_io_class class)
{
  int r;

  CHECK (atomic_fetch_add (inside, 1) == 0 || !m->in_turn ||
         m->io.concurrent);
  r = read_bytes (m, through_lent, buf, count, host_off, class);
  atomic_fetch_sub (inside, 1);
  return r;
}

static int
memory_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
              enum qcow2_io_class class)
{
  struct memory_io *const m = opaque;

  return read_in_turn (m, &m->inside, false, buf, count, host_off, class);
}

static bool
is_hole (const struct memory_io *m, uint64_t host_off)
{
  const uint64_t start = host_off - host_off % m->hole_size;

  for (uint64_t i = start; i < start + m->hole_size && i < m->io.size; ++i)
    if (m->bytes[i] != 0)
      return false;
  return true;
}

static int
memory_extents (void *opaque, uint32_t count, uint64_t host_off,
                qcow2_host_extent_fn fn, void *fn_opaque)
{
  struct memory_io *const m = opaque;
  const uint64_t end = host_off + count;
  const int fault = begin_call (m);
  unsigned reported = 0;

  atomic_fetch_add (&m->extents_calls, 1);
  if (!is_legal (m, count, host_off, UINT32_C (1) << 30))
    return EIO;
  if (fault)
    return fault;
  while (host_off < end) {
    const bool hole = is_hole (m, host_off);
    uint64_t to = host_off;

    do
      to += m->hole_size - to % m->hole_size;
    while (to < end && is_hole (m, to) == hole);
    if (to > end)
      to = end;
    if (fn (fn_opaque, host_off, to - host_off, hole) != 0 ||
        ++reported == m->max_extents)
      return 0;
    host_off = to;
  }
  return 0;
}

static int
memory_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  struct memory_io *const m = opaque;
  const int fault = begin_call (m);

  atomic_fetch_add (&m->cache_calls, 1);
  atomic_fetch_add (&m->cache_bytes, count);
  return is_legal (m, count, host_off, max_block (m)) ? fault : EIO;
}

static const struct qcow2_io_ops memory_ops = {
  .pread = memory_pread,
  .extents = memory_extents,
  .cache = memory_cache,
};

/* ---- Lending --------------------------------------------------------- */

struct lent_way {
  struct memory_io *m;
  atomic_int inside;
};

static int
lent_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  struct lent_way *const way = opaque;

  return read_in_turn (way->m, &way->inside, true, buf, count, host_off,
                       class);
}

static void
give_back (struct qcow2_io *io)
{
  struct lent_way *const way = io->opaque;
  struct memory_io *const m = way->m;

  CHECK_EQ (way->inside, 0);
  free (way);
  CHECK (atomic_fetch_sub (&m->borrowed, 1) > 0);
}

/* A lent way is not for lending further. */
static const struct qcow2_io_ops lent_ops = {
  .pread = lent_pread,
  .give_back = give_back,
};

static int
lending_borrow (void *opaque, struct qcow2_io *ret_io)
{
  struct memory_io *const m = opaque;
  struct lent_way *way;

  if (atomic_fetch_add (&m->borrowed, 1) >= m->max_borrowed &&
      m->max_borrowed > 0) {
    atomic_fetch_sub (&m->borrowed, 1);
    return EBUSY;
  }
  way = calloc (1, sizeof *way);
  REQUIRE (way != NULL);
  way->m = m;
  atomic_fetch_add (&m->lent, 1);
  *ret_io = m->io;
  ret_io->ops = &lent_ops;
  ret_io->opaque = way;
  return 0;
}

static const struct qcow2_io_ops lending_ops = {
  .pread = memory_pread,
  .extents = memory_extents,
  .cache = memory_cache,
  .borrow = lending_borrow,
  .give_back = give_back,
};

void
memory_io_lend (struct memory_io *m, unsigned max)
{
  m->io.ops = &lending_ops;
  m->max_borrowed = max;
  m->in_turn = true;
}

/* ---- Life ------------------------------------------------------------ */

void
memory_io_init (struct memory_io *m, const void *bytes, uint64_t size)
{
  memset (m, 0, sizeof *m);
  m->io.ops = &memory_ops;
  m->io.opaque = m;
  m->io.size = size;
  m->io.min_block = 1;
  m->bytes = bytes;
  m->fail_errnum = EIO;
  m->hole_size = 512;
}

void
memory_io_reset (struct memory_io *m)
{
  for (int i = 0; i < QCOW2_IO_NR_CLASSES; ++i)
    m->reads[i] = 0;
  m->read_bytes = m->extents_calls = m->calls = 0;
  m->failed_reads = 0;
  m->cache_calls = m->cache_bytes = m->lent = 0;
}

unsigned long
memory_io_total_reads (const struct memory_io *m)
{
  unsigned long n = 0;

  for (int i = 0; i < QCOW2_IO_NR_CLASSES; ++i)
    n += m->reads[i];
  return n;
}
