/* SPDX-License-Identifier: BSD-3-Clause */
/* rehearsal.c - a file that can be written to, and stays as it is.
 *
 * Owns      what was written, in memory, and the size the file would have.
 * Method    sectors of 512 bytes, or of the least that the file below can be
 *           asked for, by their number in a hash table, which has twice as
 *           much room as it needs.  All else is read from the file below, or,
 *           behind its end, zeros.  A part of a sector that cannot be read
 *           cannot be written to either, as on a disk.
 * Locks     none; one thread at a time.
 */
#include "config.h"

#include "rehearsal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_SECTOR 512u
#define FIRST_ROOM 1024u

struct sector {
  uint64_t nr;
  unsigned char *bytes;         /* NULL: there is none here */
};

struct rehearsal {
  struct qcow2_io io;
  struct qcow2_io_ops ops;
  const struct qcow2_io *below;
  uint64_t size;                /* of the file, as it would be */
  uint32_t sector;              /* its size */
  struct sector *table;
  size_t nr, room;              /* room is a power of two */
  uint64_t max_bytes;
  bool full;
};

/* ---- Sectors ------------------------------------------------------------ */

/* Where it is, or would be. */
static struct sector *
find (const struct rehearsal *r, uint64_t nr)
{
  size_t i = (size_t) (nr * UINT64_C (0x9e3779b97f4a7c15) >> 20);

  while (r->table[i & (r->room - 1)].bytes != NULL &&
         r->table[i & (r->room - 1)].nr != nr)
    ++i;
  return &r->table[i & (r->room - 1)];
}

static bool
make_room (struct rehearsal *r)
{
  struct sector *const old = r->table;
  const size_t room = r->room;

  if (2 * (r->nr + 1) <= room)
    return true;
  r->table = calloc (2 * room, sizeof *r->table);
  if (r->table == NULL) {
    r->table = old;
    return false;
  }
  r->room = 2 * room;
  for (size_t i = 0; i < room; ++i)
    if (old[i].bytes != NULL)
      *find (r, old[i].nr) = old[i];
  free (old);
  return true;
}

/* Of the file below: the range is aligned to sectors, but for its end. */
static int
read_below (const struct rehearsal *r, unsigned char *buf, uint32_t count,
            uint64_t host_off, enum qcow2_io_class class)
{
  const uint64_t size = r->below->size;
  const uint64_t left = host_off < size ? size - host_off : 0;
  const uint32_t inside = count < left ? count : (uint32_t) left;

  memset (buf + inside, 0, count - inside);
  if (inside % r->below->min_block != 0)
    return EIO;                 /* no request reaches the last bytes */
  return inside == 0 ? 0
    : r->below->ops->pread (r->below->opaque, buf, inside, host_off, class);
}

/* A new sector; 'whole': all of it is going to be written. */
static int
add_sector (struct rehearsal *r, uint64_t nr, bool whole,
            enum qcow2_io_class class, unsigned char **ret)
{
  const uint64_t each = r->sector + 4 * sizeof *r->table;
  unsigned char *bytes;
  int err = 0;

  if ((r->nr + 1) * each > r->max_bytes) {
    r->full = true;
    return ENOMEM;
  }
  bytes = make_room (r) ? malloc (r->sector) : NULL;
  if (bytes == NULL) {
    r->full = true;
    return ENOMEM;
  }
  if (!whole)
    err = read_below (r, bytes, r->sector, nr * r->sector, class);
  if (err != 0) {
    free (bytes);
    return err;
  }
  *find (r, nr) = (struct sector) { nr, bytes };
  r->nr++;
  *ret = bytes;
  return 0;
}

/* How much of [host_off, host_off+count) is in its first sector. */
static uint32_t
in_sector (const struct rehearsal *r, uint32_t count, uint64_t host_off)
{
  const uint32_t n = r->sector - (uint32_t) (host_off % r->sector);

  return count < n ? count : n;
}

/* ---- The operations ----------------------------------------------------- */

/* How much of the range, from its beginning on, was not written. */
static uint32_t
count_below (const struct rehearsal *r, uint32_t count, uint64_t host_off)
{
  uint32_t n = 0;

  while (n < count && find (r, (host_off + n) / r->sector)->bytes == NULL)
    n += in_sector (r, count - n, host_off + n);
  return n;
}

static int
rehearse_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
                enum qcow2_io_class class)
{
  const struct rehearsal *const r = opaque;
  unsigned char *to = buf;

  while (count > 0) {
    uint32_t n = count_below (r, count, host_off);

    if (n > 0) {
      const int err = read_below (r, to, n, host_off, class);

      if (err != 0)
        return err;
    }
    else {
      n = in_sector (r, count, host_off);
      memcpy (to, find (r, host_off / r->sector)->bytes +
              host_off % r->sector, n);
    }
    to += n;
    host_off += n;
    count -= n;
  }
  return 0;
}

static int
rehearse_pwrite (void *opaque, const void *buf, uint32_t count,
                 uint64_t host_off, enum qcow2_io_class class)
{
  struct rehearsal *const r = opaque;
  const unsigned char *from = buf;

  while (count > 0) {
    const uint32_t n = in_sector (r, count, host_off);
    unsigned char *bytes = find (r, host_off / r->sector)->bytes;
    int err = 0;

    if (bytes == NULL)
      err = add_sector (r, host_off / r->sector, n == r->sector, class,
                        &bytes);
    if (err != 0)
      return err;
    memcpy (bytes + host_off % r->sector, from, n);
    from += n;
    host_off += n;
    count -= n;
  }
  return 0;
}

static int
rehearse_flush (void *opaque)
{
  (void) opaque;
  return 0;
}

static int
rehearse_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct rehearsal *const r = opaque;

  if (r->size < min_size)
    r->size = min_size;
  *ret_size = r->size;
  return 0;
}

struct asked {
  const struct rehearsal *r;
  qcow2_host_extent_fn fn;
  void *fn_opaque;
  uint64_t end;                 /* what was reported ends here */
};

/* Nothing of it was written. */
static bool
is_untouched (const struct rehearsal *r, uint64_t host_off, uint64_t len)
{
  const uint64_t first = host_off / r->sector;
  const uint64_t end = (host_off + len + r->sector - 1) / r->sector;

  for (size_t i = 0; end - first > r->room && i < r->room; ++i)
    if (r->table[i].bytes != NULL && r->table[i].nr >= first &&
        r->table[i].nr < end)
      return false;
  for (uint64_t nr = first; end - first <= r->room && nr < end; ++nr)
    if (find (r, nr)->bytes != NULL)
      return false;
  return true;
}

static int
note_extent (void *opaque, uint64_t host_off, uint64_t len, bool hole)
{
  struct asked *const a = opaque;

  a->end = host_off + len;
  return a->fn (a->fn_opaque, host_off, len,
                hole && is_untouched (a->r, host_off, len));
}

/* What the file below does not have is data. */
static int
rehearse_extents (void *opaque, uint32_t count, uint64_t host_off,
                  qcow2_host_extent_fn fn, void *fn_opaque)
{
  const struct rehearsal *const r = opaque;
  const uint64_t end = host_off + count, size = r->below->size;
  struct asked a = { r, fn, fn_opaque, host_off };
  int err = 0;

  if (host_off < size)
    err = r->below->ops->extents (r->below->opaque, end < size ? count
                                  : (uint32_t) (size - host_off), host_off,
                                  note_extent, &a);
  if (err == 0 && end > size && (a.end >= size || host_off >= size))
    (void) fn (fn_opaque, a.end, end - a.end, false);
  return err;
}

/* ---- Life --------------------------------------------------------------- */

struct rehearsal *
rehearsal_new (const struct qcow2_io *below, bool grows, uint64_t max_bytes)
{
  struct rehearsal *const r = calloc (1, sizeof *r);

  if (r == NULL)
    return NULL;
  *r = (struct rehearsal) {
    .below = below, .size = below->size, .max_bytes = max_bytes,
    .sector = below->min_block > LEAST_SECTOR ? below->min_block
    : LEAST_SECTOR,
    .room = FIRST_ROOM, .table = calloc (FIRST_ROOM, sizeof *r->table),
    .ops = {
      .pread = rehearse_pread, .pwrite = rehearse_pwrite,
      .flush = rehearse_flush, .grow = grows ? rehearse_grow : NULL,
      .extents = below->ops->extents ? rehearse_extents : NULL,
    },
  };
  if (r->table != NULL)
    return r;
  free (r);
  return NULL;
}

void
rehearsal_free (struct rehearsal *r)
{
  if (r == NULL)
    return;
  for (size_t i = 0; i < r->room; ++i)
    free (r->table[i].bytes);
  free (r->table);
  free (r);
}

const struct qcow2_io *
rehearsal_io (struct rehearsal *r)
{
  r->io = (struct qcow2_io) {
    .ops = &r->ops, .opaque = r, .size = r->size,
    .min_block = r->below->min_block, .max_block = r->below->max_block,
  };
  return &r->io;
}

bool
rehearsal_is_full (const struct rehearsal *r)
{
  return r->full;
}
