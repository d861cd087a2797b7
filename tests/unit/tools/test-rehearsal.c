/* SPDX-License-Identifier: BSD-3-Clause */
/* test-rehearsal.c - a file that can be written to, and stays as it is.
 *
 * Owns      what tools/qcow2ctl/rehearsal.h promises.
 * Method    random reads, writes and questions for holes, against an array of
 *           bytes; the file below checks what it is asked for.
 */
#include "config.h"

#include "unit.h"

#include "base/bits.h"
#include "tools/qcow2ctl/rehearsal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 20000u             /* no multiple of a sector */
#define MOST 65536u
#define PLENTY (UINT64_C (1) << 20)
#define HOLE 8192u              /* the file has one there, */
#define HOLE_END 16384u         /* up to here */

static unsigned char file[SIZE], wanted[MOST];
static uint64_t size;           /* of 'wanted' */
static uint64_t bad = UINT64_MAX;       /* cannot be read */
static uint32_t block;

static uint64_t
random_below (uint64_t n)
{
  return (uint64_t) random () % n;
}

static int
file_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  (void) opaque;
  (void) class;
  CHECK (count > 0 && host_off % block == 0 && count % block == 0);
  if (!CHECK (host_off + count <= SIZE))
    return EINVAL;
  if (host_off <= bad && bad < host_off + count)
    return EIO;
  memcpy (buf, file + host_off, count);
  return 0;
}

static int
file_extents (void *opaque, uint32_t count, uint64_t host_off,
              qcow2_host_extent_fn fn, void *fn_opaque)
{
  const uint64_t ends[] = { HOLE, HOLE_END, SIZE };
  const uint64_t end = host_off + count;

  (void) opaque;
  CHECK (count > 0 && end <= SIZE);
  for (unsigned i = 0; i < 3; ++i) {
    const uint64_t to = q2_min (ends[i], end);

    if (host_off >= to)
      continue;
    if (fn (fn_opaque, host_off, to - host_off, i == 1) != 0)
      return 0;
    host_off = to;
  }
  return 0;
}

static const struct qcow2_io_ops file_ops = {
  .pread = file_pread, .extents = file_extents,
};

static struct rehearsal *
begin (uint32_t min_block, bool grows, uint64_t max_bytes)
{
  static struct qcow2_io below;
  struct rehearsal *r;

  block = min_block;
  below = (struct qcow2_io) {
    .ops = &file_ops, .min_block = min_block,
    .size = q2_align_down (SIZE, min_block),
  };
  for (unsigned i = 0; i < SIZE; ++i)
    file[i] = i >= HOLE && i < HOLE_END ? 0 : (unsigned char) (i * 7 / 3 + 1);
  size = below.size;
  memset (wanted, 0, sizeof wanted);
  memcpy (wanted, file, size);
  r = rehearsal_new (&below, grows, max_bytes);
  REQUIRE (r != NULL);
  return r;
}

/* A range that may be asked for. */
static uint32_t
choose (uint64_t *host_off)
{
  const uint64_t blocks = size / block;
  const uint64_t first = random_below (blocks);
  const uint64_t most = q2_min (blocks - first, 4096 / block);

  *host_off = first * block;
  return (uint32_t) ((1 + random_below (most)) * block);
}

/* ---- One step ----------------------------------------------------------- */

static void
write_some (const struct qcow2_io *io)
{
  unsigned char buf[4096];
  uint64_t off;
  const uint32_t n = choose (&off);

  memset (buf, (int) random (), n);
  CHECK_EQ (io->ops->pwrite (io->opaque, buf, n, off, QCOW2_IO_DATA), 0);
  memcpy (wanted + off, buf, n);
}

static void
read_some (const struct qcow2_io *io)
{
  unsigned char buf[4096];
  uint64_t off;
  const uint32_t n = choose (&off);

  CHECK_EQ (io->ops->pread (io->opaque, buf, n, off, QCOW2_IO_DATA), 0);
  CHECK_BYTES (buf, wanted + off, n);
}

static void
grow_some (const struct qcow2_io *io)
{
  const uint64_t more = q2_min (size + random_below (3000), MOST);

  if (io->ops->grow == NULL)
    return;
  CHECK_EQ (io->ops->grow (io->opaque, more, &size), 0);
  CHECK_EQ (size, more);
}

static uint64_t told;

static int
check_extent (void *opaque, uint64_t host_off, uint64_t len, bool hole)
{
  (void) opaque;
  CHECK_EQ (host_off, told);
  told += len;
  for (uint64_t i = host_off; hole && i < host_off + len; ++i)
    if (!CHECK (wanted[i] == 0))
      break;
  return 0;
}

static void
ask (const struct qcow2_io *io)
{
  uint64_t off;
  const uint32_t n = choose (&off);

  told = off;
  CHECK_EQ (io->ops->extents (io->opaque, n, off, check_extent, NULL), 0);
  CHECK_EQ (told, off + n);
}

/* ---- Tests -------------------------------------------------------------- */

static void
at_random (uint32_t min_block, bool grows)
{
  struct rehearsal *const r = begin (min_block, grows, PLENTY);
  unsigned char before[SIZE];

  unit_context ("%s: %u, %d", __func__, min_block, grows);
  memcpy (before, file, SIZE);
  for (unsigned i = 0; i < 4000; ++i) {
    const struct qcow2_io *const io = rehearsal_io (r);

    CHECK_EQ (io->size, size);
    CHECK_EQ (io->ops->grow != NULL, grows);
    switch (random_below (16)) {
    case 0: grow_some (io); break;
    case 1: write_some (io); break;
    case 2: case 3: ask (io); break;
    default: read_some (io); break;
    }
  }
  CHECK (!rehearsal_is_full (r));
  CHECK_BYTES (file, before, SIZE);
  rehearsal_free (r);
}

/* A sector that cannot be read is there again when all of it is written. */
static void
bad_sector (void)
{
  struct rehearsal *const r = begin (1, false, PLENTY);
  const struct qcow2_io *const io = rehearsal_io (r);
  unsigned char buf[1024];

  unit_context ("%s", __func__);
  memset (buf, 'x', sizeof buf);
  bad = 1030;
  CHECK_EQ (io->ops->pread (io->opaque, buf, 8, 1028, QCOW2_IO_L2), EIO);
  CHECK_EQ (io->ops->pwrite (io->opaque, buf, 8, 1040, QCOW2_IO_L2), EIO);
  CHECK_EQ (io->ops->pwrite (io->opaque, buf, 512, 1024, QCOW2_IO_L2), 0);
  CHECK_EQ (io->ops->pread (io->opaque, buf, 512, 1024, QCOW2_IO_L2), 0);
  CHECK_EQ (io->ops->pwrite (io->opaque, buf, 8, 1040, QCOW2_IO_L2), 0);
  CHECK (!rehearsal_is_full (r));
  bad = UINT64_MAX;
  rehearsal_free (r);
}

static void
full (void)
{
  struct rehearsal *const r = begin (1, true, 4096);
  const struct qcow2_io *const io = rehearsal_io (r);
  unsigned n = 0;

  unit_context ("%s", __func__);
  while (n < 100 && io->ops->pwrite (io->opaque, "", 1, n * 512,
                                     QCOW2_IO_DATA) == 0)
    ++n;
  CHECK (n > 3 && n < 9);
  CHECK (rehearsal_is_full (r));
  /* What is there can be written to. */
  CHECK_EQ (io->ops->pwrite (io->opaque, "", 1, 7, QCOW2_IO_DATA), 0);
  rehearsal_free (r);
}

int
main (void)
{
  for (unsigned grows = 0; grows < 2; ++grows) {
    at_random (1, grows);
    at_random (512, grows);
    at_random (1024, grows);
  }
  bad_sector ();
  full ();
  return unit_finish ();
}
