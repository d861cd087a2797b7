/* SPDX-License-Identifier: BSD-3-Clause */
/* late.c - see late.h.
 *
 * Owns      the list of late sectors, host.late.
 * Method    each is a separate operation in the host's log, which starts when
 *           the write has failed and ends when it lands.  Until then a crash
 *           may leave it or not, like any operation under way. One that never
 *           lands ends, too, and is marked 'never'.
 */
#include "config.h"

#include "late.h"

#include "tag.h"
#include "unit.h"

/* Late sectors of one write. */
#define MAX_SECTORS 8

/* With each operation, one of so many lands. */
#define PATIENCE 24

static uint64_t
random_below (struct host *h, uint64_t n)
{
  return host_random_locked (h) / 7 % n;
}

static void
add_sector (struct host *h, const struct host_op *op, uint64_t host_off,
            uint64_t len)
{
  struct host_op piece = *op;

  piece.host_off = host_off;
  piece.len = len;
  if (op->data != NULL) {
    piece.data = malloc (len);
    REQUIRE (piece.data != NULL);
    memcpy (piece.data, op->data + (host_off - op->host_off), len);
  }
  h->late = realloc (h->late, (h->nr_late + 1) * sizeof *h->late);
  REQUIRE (h->late != NULL);
  h->late[h->nr_late++] = host_log_locked (h, &piece);
}

void
late_add_locked (struct host *h, const struct host_op *op)
{
  const uint64_t first = op->host_off / SECTOR;
  const uint64_t end = op->host_off + op->len;
  const uint64_t nr = (end + SECTOR - 1) / SECTOR - first;
  uint64_t at = first + random_below (h, nr);
  uint64_t to = at + 1 + random_below (h, MAX_SECTORS);

  /* Short writes are mostly late as a whole. */
  if (nr <= MAX_SECTORS && random_below (h, 3) > 0) {
    at = first;
    to = first + nr;
  }
  for (; at < to && at * SECTOR < end; ++at) {
    const uint64_t from = at == first ? op->host_off : at * SECTOR;
    const uint64_t next = (at + 1) * SECTOR < end ? (at + 1) * SECTOR : end;

    add_sector (h, op, from, next - from);
  }
}

/* Number i has landed, or never will. */
static void
settle (struct host *h, size_t i, bool lands)
{
  struct host_op *const op = h->late[i];

  h->late[i] = h->late[--h->nr_late];
  op->never = !lands || op->host_off + op->len > h->size;
  op->end = host_tick (h);
  if (op->never)
    return;
  if (op->data != NULL)
    memcpy (h->bytes + op->host_off, op->data, op->len);
  else
    memset (h->bytes + op->host_off, 0, op->len);
}

void
late_move_locked (struct host *h)
{
  for (size_t i = h->nr_late; i-- > 0;)
    if (random_below (h, PATIENCE) == 0)
      settle (h, i, random_below (h, 4) > 0);
}

void
late_supersede_locked (struct host *h, uint64_t host_off, uint64_t len)
{
  for (size_t i = h->nr_late; i-- > 0;)
    if (h->late[i]->host_off < host_off + len &&
        host_off < h->late[i]->host_off + h->late[i]->len)
      settle (h, i, random_below (h, 2));
}
