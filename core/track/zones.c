/* SPDX-License-Identifier: BSD-3-Clause */
/* zones.c - bitmaps that are true in the file at any moment.
 *
 * Owns      what of a durable bitmap the file has: all writes of its bits.
 * Method    a request that finds one of its bits not durable *activates* the
 *           zone: all bits of the zone are written, and flushed, before any
 *           byte of the request is.  So the file has more bits than are exact,
 *           and most requests find their bits there.  Requests that wait at
 *           the same time share a flush.  A writer that goes on behind zones
 *           that are active activates as many more as there are in front of
 *           him.
 *
 *             exact    . 1 . . | . . . . |         granules that changed
 *             file     1 1 1 1 | . . . . |         one zone is active
 *
 *           Zones in which nothing was newly set for a while are *retired*:
 *           they get their exact bits, of those that were durable, without a
 *           flush, as both are true.  Bits leave 'durable' before they leave
 *           the file, and before the exact ones are read (see track.c).
 *
 *           If bits cannot be written the bitmap is *failing*: it is marked as
 *           in use, durably, before anybody goes on whose bits are not
 *           durable.  It stays so, since a write that failed may still reach
 *           the disk, over newer bits; but it has all bits that are durable.
 *           If it cannot be marked either, who needs that fails, and the next
 *           one tries again.
 * Locks     track.lock, held over I/O: bits are written by one thread at a
 *           time, and 'durable' is changed by it.
 * Spec      "Bitmap data".
 */
#include "config.h"

#include "track/tracked.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"
#include "io/io.h"
#include "meta/bitmaps.h"

#include <stdio.h>

/* Bytes of bits; no zone has more. */
#define PIECE 1024

/* Zones that are activated ahead: 256 MiB of the disk. */
#define MAX_AHEAD 64

/* Calls of q2_track_is_due until zones are looked at: half a minute. */
#define RETIRE_CALLS 12

/* ---- Writing ---------------------------------------------------------- */

/* Bytes [first, first + len) of the bits, some of a cluster. */
int
q2_tracked_write (struct q2_track *track, const struct q2_io *io,
                  const struct q2_tracked *t, const unsigned char *buf,
                  uint64_t first, uint64_t len, struct qcow2_error *err)
{
  const uint64_t size = track->geo->cluster_size;

  if (!q2_assume (first + len <= t->len, err))
    return -1;
  while (len > 0) {
    const uint64_t in_cluster = first & (size - 1);
    const uint64_t n = q2_min (len, size - in_cluster);
    const uint64_t host_off =
      t->clusters[first >> track->geo->cluster_bits] + in_cluster;

    /* They were filled before the first change (write/bitmaps.c). */
    if (!q2_assume (host_off - in_cluster != 0 &&
                    q2_is_aligned (host_off - in_cluster, size), err) ||
        q2_overlap_check (track->overlap, host_off, n, Q2_META_BITMAP_BITS,
                          err) == -1 ||
        q2_io_write (io, buf, n, host_off, QCOW2_IO_HEADER, err) == -1)
      return -1;
    buf += n;
    first += n;
    len -= n;
  }
  return 0;
}

int
q2_track_mark_next_locked (struct q2_track *track, const struct q2_io *io,
                           struct qcow2_error *err)
{
  struct q2_header h = q2_superblock_header (track->superblock);

  q2_mutex_check_held (&track->lock);
  if (!track->next_dir.is_there ||
      Q2_PLANTED (Q2_PLANT_BITMAPS_NEXT_UNMARKED))
    return 0;
  h.autoclear |= Q2_AUTOCLEAR_BITMAPS;
  h.nr_bitmaps = track->next_dir.nr;
  h.bitmap_dir_offset = track->next_dir.offset;
  h.bitmap_dir_bytes = track->next_dir.bytes;
  return q2_bitmaps_mark_in_use (io, &h, track->geo, track->overlap,
                                 q2_track_keeps, track, err);
}

int
q2_track_give_up_locked (struct q2_track *track, const struct q2_io *io,
                         const char *why, struct qcow2_error *err)
{
  const struct q2_header h = q2_superblock_header (track->superblock);
  char text[400], name[80];

  q2_mutex_check_held (&track->lock);
  if ((!Q2_PLANTED (Q2_PLANT_BITMAPS_NO_MARK) &&
       (q2_bitmaps_mark_in_use (io, &h, track->geo, track->overlap,
                                q2_track_keeps, track, err) == -1 ||
        q2_track_mark_next_locked (track, io, err) == -1)) ||
      q2_io_flush (io, err) == -1)
    return -1;
  for (struct q2_tracked *t = track->first; t != NULL; t = t->next)
    if (t->failing && !t->lost) {
      t->lost = true;
      snprintf (text, sizeof text, "the bitmap '%s' is marked as in use, "
                "since it could not be kept up: %s",
                q2_printable (name, sizeof name, t->name, t->name_len), why);
      if (track->log != NULL)
        track->log (track->log_opaque, QCOW2_LOG_WARNING, text,
                    QCOW2_ADVICE_NEW_BITMAP);
    }
  return 0;
}

/* ---- Activating ------------------------------------------------------- */

/* All of bits [first, end) are durable. */
static bool
has_all (const struct q2_tracked *t, uint64_t first, uint64_t end)
{
  for (uint64_t byte = first / 8; byte * 8 < end; ++byte) {
    const unsigned mask = q2_bits_in_byte (byte, first, end);

    if ((t->durable[byte] & mask) != mask)
      return false;
  }
  return true;
}

static uint64_t
first_bit (const struct q2_tracked *t, uint64_t zone)
{
  return q2_min (zone << t->zone_bits, t->nr_bits);
}

static bool
is_active (const struct q2_tracked *t, uint64_t zone)
{
  return has_all (t, first_bit (t, zone), first_bit (t, zone + 1));
}

/* Which zones to activate for a request; none if its bits are durable. */
static struct q2_zones
choose_zones (const struct q2_tracked *t, uint64_t count, uint64_t guest_off)
{
  const uint64_t first = guest_off >> t->granularity_bits;
  const uint64_t end =
    q2_min (((guest_off + count - 1) >> t->granularity_bits) + 1, t->nr_bits);
  struct q2_zones z = { 0, 0 };
  uint64_t before = 0;

  if (!q2_tracked_is_kept (t) || first >= end || has_all (t, first, end))
    return z;
  z.first = first >> t->zone_bits;
  z.end = ((end - 1) >> t->zone_bits) + 1;
  while (before < MAX_AHEAD && before < z.first &&
         is_active (t, z.first - before - 1))
    ++before;
  z.end = q2_min (z.end + before, t->nr_zones);
  return z;
}

/* What the file is to have: a byte may belong to several zones. */
static unsigned char
active_byte (const struct q2_tracked *t, uint64_t byte, unsigned nr)
{
  unsigned bits = t->durable[byte];

  for (unsigned i = 0; i < nr && bits != 0xff; ++i)
    bits |= q2_bits_in_byte (byte, first_bit (t, t->ranges[i].first),
                             first_bit (t, t->ranges[i].end));
  return (unsigned char) bits;
}

static int
write_zones (struct q2_track *track, const struct q2_io *io,
             const struct q2_tracked *t, const struct q2_zones *z,
             unsigned nr, struct qcow2_error *err)
{
  const uint64_t end = q2_ceil_shift (first_bit (t, z->end), 3);
  unsigned char buf[PIECE];

  if (!q2_assume (z->first <= z->end && z->end <= t->nr_zones, err))
    return -1;
  for (uint64_t at = first_bit (t, z->first) / 8; at < end;) {
    const uint64_t n = q2_min (end - at, PIECE);

    for (uint64_t i = 0; i < n; ++i)
      buf[i] = active_byte (t, at + i, nr);
    if (q2_tracked_write (track, io, t, buf, at, n, err) == -1)
      return -1;
    at += n;
  }
  return 0;
}

static void
make_durable (struct q2_tracked *t, const struct q2_zones *z, unsigned nr)
{
  const uint64_t end = q2_ceil_shift (first_bit (t, z->end), 3);

  for (uint64_t at = first_bit (t, z->first) / 8; at < end; ++at)
    t->durable[at] = active_byte (t, at, nr);
}

/* A request, and those that wait for track.lock. */
struct wanted {
  struct { uint64_t count, guest_off; } all[Q2_TRACK_RANGES];
  unsigned nr;
};

static void
take_wants (struct q2_track *track, struct wanted *w, uint64_t count,
            uint64_t guest_off)
{
  w->all[0].count = count;
  w->all[0].guest_off = guest_off;
  q2_mutex_lock (&track->wants_lock);
  if (!q2_check (track->nr_wants <= Q2_TRACK_WANTS))
    track->nr_wants = Q2_TRACK_WANTS;
  for (unsigned i = 0; i < track->nr_wants; ++i) {
    w->all[i + 1].count = track->wants[i].count;
    w->all[i + 1].guest_off = track->wants[i].guest_off;
  }
  w->nr = track->nr_wants + 1;
  track->nr_wants = 0;
  q2_mutex_unlock (&track->wants_lock);
}

/* Returns whether anything is to be written. */
static bool
choose_all (struct q2_tracked *t, const struct wanted *w)
{
  bool any = false;

  for (unsigned i = 0; i < w->nr; ++i) {
    struct q2_zones *const z = &t->ranges[i];

    *z = choose_zones (t, w->all[i].count, w->all[i].guest_off);
    for (unsigned j = 0; j < i; ++j)
      if (t->ranges[j].first <= z->first && z->end <= t->ranges[j].end)
        *z = (struct q2_zones) { 0, 0 };
    any |= z->first < z->end;
  }
  return any;
}

static int
activate_locked (struct q2_track *track, const struct q2_io *io,
                 const struct wanted *w, struct qcow2_error *err)
{
  struct qcow2_error why = { .text = "it could not be marked at once" };
  bool any = false, failing = false;

  for (struct q2_tracked *t = track->first; t != NULL; t = t->next) {
    if (q2_tracked_is_kept (t) && choose_all (t, w)) {
      any = true;
      for (unsigned i = 0; i < w->nr && !t->failing; ++i)
        t->failing =
          write_zones (track, io, t, &t->ranges[i], w->nr, &why) == -1;
    }
    failing |= t->failing && !t->lost;
  }
  if (any)
    atomic_fetch_add_explicit (&track->activations, 1, memory_order_relaxed);
  if (failing)
    return q2_track_give_up_locked (track, io, why.text, err);
  return any && !Q2_PLANTED (Q2_PLANT_BITMAPS_NO_FLUSH)
    ? q2_io_flush (io, err) : 0;
}

static void
end_activating (struct q2_track *track, const struct wanted *w)
{
  for (struct q2_tracked *t = track->first; t != NULL; t = t->next)
    if (q2_tracked_is_kept (t))
      for (unsigned i = 0; i < w->nr; ++i)
        if (t->ranges[i].first < t->ranges[i].end)
          make_durable (t, &t->ranges[i], w->nr);
}

static void
add_want (struct q2_track *track, uint64_t count, uint64_t guest_off)
{
  q2_mutex_lock (&track->wants_lock);
  if (track->nr_wants < Q2_TRACK_WANTS) {
    track->wants[track->nr_wants].count = count;
    track->wants[track->nr_wants++].guest_off = guest_off;
  }
  q2_mutex_unlock (&track->wants_lock);
}

int
q2_track_activate (struct q2_track *track, const struct q2_io *io,
                   uint64_t count, uint64_t guest_off,
                   struct qcow2_error *err)
{
  struct wanted w;
  int r = 0;

  add_want (track, count, guest_off);
  q2_mutex_lock (&track->lock);
  /* Who had the lock may have done it. */
  if (!q2_track_set (track, count, guest_off)) {
    take_wants (track, &w, count, guest_off);
    r = activate_locked (track, io, &w, err);
    if (r == 0)
      end_activating (track, &w);
    /* TRACK-2, TRACK-3 */
    if (r == 0 && !q2_assume (q2_track_set (track, count, guest_off), err))
      r = -1;
  }
  q2_mutex_unlock (&track->lock);
  return r;
}

/* ---- Retiring --------------------------------------------------------- */

/* Bits of the byte in zones that may be retired. */
static unsigned
idle_bits (const struct q2_tracked *t, uint64_t byte, bool all)
{
  unsigned mask = 0;

  if (all)
    return 0xff;
  for (unsigned bit = 0; bit < 8; ++bit) {
    const uint64_t zone = (byte * 8 + bit) >> t->zone_bits;

    if (zone < t->nr_zones && !t->fresh[zone])
      mask |= 1u << bit;
  }
  return mask;
}

/* In this order: the bits leave 'durable'; then the exact ones are read. */
static unsigned char
retire_byte (struct q2_tracked *t, uint64_t byte, unsigned mask)
{
  const unsigned old = t->durable[byte];
  const unsigned kept = old & ~mask & 0xff;
  const bool keep = Q2_PLANTED (Q2_PLANT_BITMAPS_RETIRE_KEPT);
  unsigned bits;

  t->durable[byte] = (unsigned char) (keep ? old : kept);
  bits = Q2_PLANTED (Q2_PLANT_BITMAPS_RETIRE_ALL) ? 0 : t->bits[byte];
  bits = kept | (old & mask & bits);
  q2_check ((bits & ~old) == 0);        /* the file does not have others */
  t->durable[byte] = (unsigned char) (keep ? old : bits);
  return (unsigned char) bits;
}

/* Some zones that follow each other, at most PIECE bytes.  Returns 1 if there
 * was something to retire.
 */
static int
retire_piece (struct q2_track *track, const struct q2_io *io,
              struct q2_tracked *t, uint64_t at, uint64_t n, bool all,
              struct qcow2_error *err)
{
  unsigned char buf[PIECE];
  uint64_t first = n, end = 0;

  if (!q2_assume (n <= PIECE && at + n <= t->len, err))
    return -1;
  for (uint64_t i = 0; i < n; ++i) {
    const unsigned char old = t->durable[at + i];

    buf[i] = old;
    if ((old & ~t->bits[at + i]) == 0)
      continue;
    buf[i] = retire_byte (t, at + i, idle_bits (t, at + i, all));
    if (buf[i] != old) {
      first = q2_min (first, i);
      end = i + 1;
    }
  }
  if (first >= end)
    return 0;
  return q2_tracked_write (track, io, t, buf + first, at + first, end - first,
                           err) == -1 ? -1 : 1;
}

static void
grow_old (struct q2_tracked *t, uint64_t at, uint64_t n)
{
  const uint64_t end = q2_min ((at + n) * 8, t->nr_bits);

  for (uint64_t z = at * 8 >> t->zone_bits; first_bit (t, z) < end; ++z)
    t->fresh[z] = 0;
}

static int
retire_some (struct q2_track *track, const struct q2_io *io,
             struct q2_tracked *t, uint64_t at, bool all,
             struct qcow2_error *err)
{
  const uint64_t n = q2_min (t->len - at, PIECE);
  struct qcow2_error why;
  int r = 0;

  q2_mutex_lock (&track->lock);
  if (q2_tracked_is_kept (t)) {
    r = retire_piece (track, io, t, at, n, all, &why);
    grow_old (t, at, n);
    if (r == -1) {
      t->failing = true;
      r = q2_track_give_up_locked (track, io, why.text, err);
      /* What the file has stays true until bits are missing there. */
      if (r == -1 && !io->shared->flush_failed)
        r = 0;
    }
  }
  q2_mutex_unlock (&track->lock);
  return r;
}

/* With a gate only zones that are idle, and until somebody closes it.  Returns
 * 1 if anything was written.
 */
static int
retire_all (struct q2_track *track, const struct q2_io *io,
            struct q2_gate *gate, struct qcow2_error *err)
{
  int any = 0;

  for (struct q2_tracked *t = track->first; t != NULL; t = t->next)
    for (uint64_t at = 0; t->durable != NULL && at < t->len; at += PIECE) {
      int r;

      if (gate != NULL && q2_gate_is_closed (gate))
        return any;
      r = retire_some (track, io, t, at, gate == NULL, err);
      if (r == -1)
        return -1;
      any |= r;
    }
  return any;
}

bool
q2_track_is_due (struct q2_track *track)
{
  return (atomic_fetch_add (&track->idle_calls, 1) + 1) % RETIRE_CALLS == 0;
}

int
q2_track_retire (struct q2_track *track, const struct q2_io *io,
                 struct q2_gate *gate, struct qcow2_error *err)
{
  return retire_all (track, io, gate, err) == -1 ? -1 : 0;
}

int
q2_track_settle (struct q2_track *track, const struct q2_io *io,
                 struct qcow2_error *err)
{
  const int r = retire_all (track, io, NULL, err);

  return r == 1 ? q2_io_flush (io, err) : r;
}

bool
q2_track_is_failing (struct q2_track *track)
{
  bool failing = false;

  q2_mutex_lock (&track->lock);
  for (const struct q2_tracked *t = track->first; t != NULL; t = t->next)
    failing |= t->failing && !t->lost;
  q2_mutex_unlock (&track->lock);
  return failing;
}
