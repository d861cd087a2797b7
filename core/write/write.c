/* SPDX-License-Identifier: BSD-3-Clause */
/* write.c - guest writes.
 *
 * Owns      telling what can be written in place from what cannot.
 * Method    clusters that have space of their own, which the COPIED flag
 *           says, are overwritten where they are: neighbours in the file
 *           with one host request, by any number of threads at once.  For
 *           all others allocate.c makes new entries, one request at a time
 *           for each cluster; who comes second waits, and then finds that he
 *           can write in place.
 * Locks     w->clusters, for ranges of which an entry is going to change.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/bits.h"

/* Entries looked at in one go: enough for 4 MiB of 64 KiB clusters. */
#define MAX_LOOK 64

struct piece {
  bool in_place;
  uint64_t len;                 /* from the start of the request on */
  uint64_t host_off;            /* in_place */
};

/* How much can be done in the same way as the first byte. */
static void
choose_piece (const struct q2_writer *w, const struct q2_entry *e,
              uint64_t nr, bool owned, uint64_t guest_off, uint64_t count,
              struct piece *p)
{
  const struct q2_geometry *const geo = w->geo;
  const uint64_t in_cluster = guest_off & (geo->cluster_size - 1);

  *p = (struct piece) { .host_off = e[0].m.host_off + in_cluster };
  for (uint64_t i = 0; i < nr && p->len < count; ++i) {
    const uint64_t pos = guest_off + p->len;
    const uint64_t len =
      q2_min (geo->cluster_size - (pos & (geo->cluster_size - 1)),
              count - p->len);
    const bool in_place = owned && q2_entry_is_in_place (geo, &e[i], pos, len);

    if (i == 0)
      p->in_place = in_place;
    else if (in_place != p->in_place ||
             (in_place && e[i].m.host_off != p->host_off + p->len))
      break;
    p->len += len;
  }
}

/* With *ret_done 0 if too much waits to be written for refcounts to be looked
 * at: then look again.
 */
static int
write_in_place (struct q2_change *c, const struct piece *p, const void *buf,
                uint64_t guest_off, uint64_t *ret_done,
                struct qcow2_error *err)
{
  const struct q2_place place = { p->host_off, guest_off };
  int r = q2_writer_check_trusted (c, p->host_off, p->len, err);

  *ret_done = r == 0 ? p->len : 0;
  if (r == 0)
    return q2_store_write (c->w->store, c->io, buf, p->len, place, err);
  return r == Q2_SPACE_COMMIT_FIRST ? q2_change_commit (c, err) : r;
}

/* With *ret_done 0 if somebody else was changing the clusters, or too much
 * has been changed: then look again.
 */
static int
write_new (struct q2_change *c, const struct piece *p, const void *buf,
           uint64_t guest_off, uint64_t *ret_done, struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  const unsigned bits = w->geo->cluster_bits;
  const uint64_t first = guest_off >> bits;
  const uint64_t end = ((guest_off + p->len - 1) >> bits) + 1;
  struct q2_range range;
  bool held;
  int r;

  *ret_done = 0;
  r = q2_change_hold_for_new (c, &range, first, end, &held, err);
  if (!held)
    return r;
  r = q2_writer_write_new (c, buf, p->len, guest_off, ret_done, err);
  q2_ranges_unlock (&w->clusters, &range);
  return r;
}

/* Write some of it. */
static int
write_some (struct q2_change *c, const void *buf, uint64_t count,
            uint64_t guest_off, uint64_t *ret_done, struct qcow2_error *err)
{
  struct q2_entry e[MAX_LOOK];
  const unsigned bits = c->w->geo->cluster_bits;
  const uint64_t first = guest_off >> bits;
  const uint64_t wanted = ((guest_off + count - 1) >> bits) - first + 1;
  struct piece piece;
  uint64_t nr;
  bool owned;

  if (q2_writer_load (c, first, q2_min (wanted, MAX_LOOK), e, &nr, &owned,
                      err) == -1)
    return -1;
  choose_piece (c->w, e, nr, owned, guest_off, count, &piece);
  if (!q2_assume (piece.len > 0 && piece.len <= count, err))
    return -1;
  if (!piece.in_place)
    return write_new (c, &piece, buf, guest_off, ret_done, err);
  return write_in_place (c, &piece, buf, guest_off, ret_done, err);
}

int
q2_writer_pwrite (struct q2_writer *w, const struct q2_io *io,
                  const void *buf, uint64_t count, uint64_t guest_off,
                  struct qcow2_error *err)
{
  struct q2_change c = { .w = w, .io = io };
  const unsigned char *p = buf;

  while (count > 0) {
    uint64_t done = 0;
    int r;

    q2_change_enter (&c);
    r = write_some (&c, p, count, guest_off, &done, err);
    q2_change_leave (&c);
    if (r == -1 || !q2_assume (done <= count, err))
      return -1;
    p += done;
    guest_off += done;
    count -= done;
  }
  return 0;
}
