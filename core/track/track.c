/* SPDX-License-Identifier: BSD-3-Clause */
/* track.c - persistent bitmaps that are kept up in memory.
 *
 * Owns      the bits of the enabled bitmaps, from the first change of the disk
 *           until they are stored or given up.
 * Method    all bits of a bitmap are one array, counted in the budget: 2 MiB
 *           for 1 TiB of disk at a granularity of 64 KiB.  They are looked up
 *           by name.  A bitmap that is loaded and not in use in the file
 *           replaces one of the same name, which was removed there.
 *
 *           Of a durable bitmap there is a second array, of bits that the file
 *           has, durably; a request goes on when it finds its bits there, and
 *           else waits until they are (zones.c).
 * Invariant a lazy bitmap is marked as in use in the file, durably, while the
 *           disk changes; so what is in memory matters only if it gets stored,
 *           and then has each bit of each change that has begun.  A durable
 *           one that is not marked has, in the file, each bit of each change
 *           that has begun, and of which anything was written.
 * Locks     see track.h for the list.  Bits are atomics: a request sets its
 *           bits, and then looks at 'durable'; who takes bits from 'durable'
 *           does that first, and then reads what was set.  So at least one of
 *           the two sees the other.  tests/models/bitmaps.py is the model.
 */
#include "config.h"

#include "track/tracked.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"
#include "meta/bitmaps.h"
#include "track/bitmap_reader.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the disk, and log2. */
#define ZONE_BITS 22

void
q2_track_init (struct q2_track *track)
{
  q2_mutex_init (&track->lock, 2, "track.lock");
  q2_mutex_init (&track->wants_lock, 3, "wants_lock");
}

void
q2_track_destroy (struct q2_track *track)
{
  q2_track_forget (track);
  q2_mutex_destroy (&track->wants_lock);
  q2_mutex_destroy (&track->lock);
}

void
q2_tracked_free (struct q2_track *track, struct q2_tracked *t)
{
  if (t == NULL)
    return;
  q2_budget_give (track->budget, t->charge);
  free ((void *) t->bits);
  free ((void *) t->durable);
  free ((void *) t->fresh);
  free (t->clusters);
  free (t);
}

void
q2_track_forget (struct q2_track *track)
{
  while (track->first != NULL) {
    struct q2_tracked *const t = track->first;

    track->first = t->next;
    q2_tracked_free (track, t);
  }
}

static bool
is_named (const struct q2_tracked *t, const struct q2_bitmap *b)
{
  return t->name_len == b->name_len &&
    memcmp (t->name, b->name, b->name_len) == 0;
}

/* ---- Loading ---------------------------------------------------------- */

struct loading {
  struct q2_track *track;
  const struct q2_io *io;
};

static unsigned
zone_bits (unsigned granularity_bits)
{
  return granularity_bits < ZONE_BITS ? ZONE_BITS - granularity_bits : 0;
}

/* Without the name. */
static uint64_t
charge_of (const struct q2_track *track, const struct q2_tracked *t)
{
  const bool durable = track->mode == QCOW2_BITMAPS_DURABLE;

  return sizeof *t + t->len +
    (durable ? t->len + t->nr_zones + 8 * (uint64_t) t->table_entries : 0);
}

static bool
alloc_arrays (const struct q2_track *track, struct q2_tracked *t)
{
  t->bits = calloc (t->len, 1);
  if (t->bits == NULL || track->mode != QCOW2_BITMAPS_DURABLE)
    return t->bits != NULL;
  t->durable = calloc (t->len, 1);
  t->fresh = calloc (t->nr_zones, 1);
  t->clusters = calloc (t->table_entries, sizeof *t->clusters);
  return t->durable != NULL && t->fresh != NULL && t->clusters != NULL;
}

struct q2_tracked *
q2_tracked_new (struct q2_track *track, const struct q2_bitmap *b,
                struct qcow2_error *err)
{
  struct q2_tracked *const t = calloc (1, sizeof *t + b->name_len);

  if (t == NULL) {
    q2_fail_nomem (err, "a bitmap");
    return NULL;
  }
  t->table_offset = b->table_offset;
  t->table_entries = b->table_entries;
  t->nr_bits = q2_bitmap_nr_bits (track->geo, b);
  t->len = q2_align_up (q2_ceil_shift (t->nr_bits, 3), 8);
  t->granularity_bits = b->granularity_bits;
  t->zone_bits = zone_bits (b->granularity_bits);
  t->nr_zones = q2_ceil_shift (t->nr_bits, t->zone_bits);
  t->name_len = b->name_len;
  memcpy (t->name, b->name, b->name_len);
  t->charge = charge_of (track, t) + t->name_len;
  /* Every bit has its place in a cluster of the file, and its zone. */
  if (!q2_assume (t->nr_bits <= t->len * 8 && t->len <=
                  t->table_entries * track->geo->cluster_size, err) ||
      !q2_assume (t->nr_zones << t->zone_bits >= t->nr_bits, err) ||
      q2_budget_take (track->budget, t->charge, "a bitmap", err) == -1)
    t->charge = 0;
  else if (alloc_arrays (track, t))
    return t;
  else
    q2_fail_nomem (err, "a bitmap");
  q2_tracked_free (track, t);
  return NULL;
}

static void
copy_piece (struct q2_tracked *t, uint64_t byte,
            const struct q2_bitmap_piece *p, uint64_t nr)
{
  const unsigned char all = p->set ? 0xff : 0;

  for (uint64_t i = 0; i < nr; ++i) {
    const unsigned char bits = p->bytes ? p->bytes[i] : all;

    atomic_store_explicit (&t->bits[byte + i], bits, memory_order_relaxed);
    if (t->durable != NULL)
      atomic_store_explicit (&t->durable[byte + i], bits,
                             memory_order_relaxed);
  }
}

int
q2_tracked_load (const struct q2_track *track, const struct q2_io *io,
                 const struct q2_bitmap *b, struct q2_tracked *t,
                 struct qcow2_error *err)
{
  const uint64_t end = q2_ceil_shift (t->nr_bits, 3);
  struct q2_bitmap_reader reader;
  uint64_t byte = 0;
  int r = 0;

  if (q2_bitmap_reader_init (&reader, track->geo, io, b, err) == -1)
    return -1;
  while (r == 0 && byte < end) {
    struct q2_bitmap_piece p;

    r = q2_bitmap_reader_get (&reader, byte, &p, err);
    if (r == 0 && !q2_assume (p.len > 0, err))
      r = -1;
    if (r == 0) {
      const uint64_t nr = q2_min (p.len, end - byte);

      copy_piece (t, byte, &p, nr);
      byte += nr;
    }
  }
  q2_bitmap_reader_destroy (&reader);
  return r;
}

void
q2_track_warn (const struct q2_track *track, const struct q2_bitmap *b,
               const char *why)
{
  char text[400], name[80];

  if (track->log == NULL)
    return;
  snprintf (text, sizeof text, "the bitmap '%s' is not kept up while the disk "
            "changes, and stays marked as in use: %s",
            q2_printable (name, sizeof name, b->name, b->name_len), why);
  track->log (track->log_opaque, QCOW2_LOG_WARNING, text,
              QCOW2_ADVICE_NEW_BITMAP);
}

/* Forget the one of that name.  Returns how many there are then. */
static size_t
drop_namesake (struct q2_track *track, const struct q2_bitmap *b)
{
  struct q2_tracked **p = &track->first;
  size_t nr = 0;

  while (*p != NULL) {
    struct q2_tracked *const t = *p;

    if (is_named (t, b)) {
      *p = t->next;
      q2_tracked_free (track, t);
    }
    else {
      p = &t->next;
      ++nr;
    }
  }
  return nr;
}

void
q2_track_drop (struct q2_track *track, const char *name, size_t len)
{
  const struct q2_bitmap b = { .name = name, .name_len = (uint16_t) len };

  if (!q2_check (len <= Q2_BITMAP_MAX_NAME))
    return;
  (void) drop_namesake (track, &b);
}

static int
load_one (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
          struct qcow2_error *err)
{
  const struct loading *const l = opaque;
  struct qcow2_error why;
  struct q2_tracked *t;

  (void) host_off;
  (void) err;
  if (!(b->flags & Q2_BITMAP_AUTO) || (b->flags & Q2_BITMAP_IN_USE))
    return 0;
  if (drop_namesake (l->track, b) >= Q2_MAX_TRACKED)
    q2_track_warn (l->track, b, "there are too many");
  else if (b->extra_len > 0 || b->table_entries == 0 ||
           b->table_entries != q2_bitmap_nr_entries (l->track->geo, b))
    q2_track_warn (l->track, b, "it cannot be used");
  else if ((t = q2_tracked_new (l->track, b, &why)) == NULL)
    q2_track_warn (l->track, b, why.text);
  else if (q2_tracked_load (l->track, l->io, b, t, &why) == -1) {
    q2_tracked_free (l->track, t);
    q2_track_warn (l->track, b, why.text);
  }
  else {
    t->next = l->track->first;
    l->track->first = t;
  }
  return 0;
}

void
q2_track_load (struct q2_track *track, const struct q2_io *io,
               struct q2_overlap *overlap)
{
  const struct q2_header h = q2_superblock_header (track->superblock);
  struct loading l = { track, io };
  struct qcow2_error why;

  if (track->mode == QCOW2_BITMAPS_INVALIDATE ||
      !(h.autoclear & Q2_AUTOCLEAR_BITMAPS))
    return;
  track->overlap = overlap;
  track->budget = q2_io_budget (io);
  /* Who marks them fails if the directory is broken. */
  if (q2_bitmaps_walk (io, &h, track->geo, load_one, &l, &why) == -1)
    q2_track_forget (track);
}

/* ---- Changes ---------------------------------------------------------- */

static void
make_fresh (struct q2_tracked *t, uint64_t byte)
{
  const uint64_t last = q2_min (byte * 8 + 7, t->nr_bits - 1) >> t->zone_bits;

  for (uint64_t z = byte * 8 >> t->zone_bits; z <= last; ++z)
    t->fresh[z] = 1;
}

/* Whether nobody has to be waited for. */
static bool
set_in_byte (struct q2_tracked *t, uint64_t byte, unsigned mask)
{
  _Atomic unsigned char *const p = &t->bits[byte];

  if ((*p & mask) != mask) {
    atomic_fetch_or (p, (unsigned char) mask);
    atomic_store_explicit (&t->changed, true, memory_order_relaxed);
    if (t->durable != NULL)
      make_fresh (t, byte);
  }
  return t->durable == NULL || (t->durable[byte] & mask) == mask;
}

bool
q2_tracked_set (struct q2_tracked *t, uint64_t first, uint64_t last)
{
  bool kept = true;

  if (!q2_check (first <= last && last < t->nr_bits))
    return false;
  for (uint64_t byte = first / 8; byte <= last / 8; ++byte)
    kept &= set_in_byte (t, byte, q2_bits_in_byte (byte, first, last + 1));
  return kept;
}

bool
q2_track_set (struct q2_track *track, uint64_t count, uint64_t guest_off)
{
  bool kept = true;

  if (count == 0 || Q2_PLANTED (Q2_PLANT_BITMAPS_SET_NOTHING))
    return true;
  for (struct q2_tracked *t = track->first; t != NULL; t = t->next) {
    const uint64_t first = guest_off >> t->granularity_bits;
    const uint64_t last = (guest_off + count - 1) >> t->granularity_bits;

    if (first < t->nr_bits && !t->lost)
      kept &= q2_tracked_set (t, first, q2_min (last, t->nr_bits - 1));
  }
  return kept;
}

/* ---- Storing ---------------------------------------------------------- */

/* While a set is made there may be two of a name, with different tables. */
bool
q2_tracked_is (const struct q2_track *track, const struct q2_tracked *t,
               const struct q2_bitmap *b)
{
  return is_named (t, b) && b->table_offset == t->table_offset &&
    b->granularity_bits == t->granularity_bits &&
    q2_bitmap_nr_bits (track->geo, b) == t->nr_bits;
}

bool
q2_track_find (const struct q2_track *track, const struct q2_bitmap *b,
               const unsigned char **ret_bits, uint64_t *ret_len,
               bool *ret_changed)
{
  const uint32_t flags = Q2_BITMAP_AUTO | Q2_BITMAP_IN_USE;

  for (const struct q2_tracked *t = track->first; t != NULL; t = t->next)
    /* Else it is another one, made meanwhile. */
    if (t->durable == NULL && !t->lost && q2_tracked_is (track, t, b)) {
      q2_check (t->fresh == NULL && t->clusters == NULL);
      *ret_bits = (const unsigned char *) t->bits;
      *ret_len = t->len;
      *ret_changed = t->changed;
      return (b->flags & flags) == flags;
    }
  return false;
}

const struct q2_tracked *
q2_tracked_find (const struct q2_track *track, const struct q2_bitmap *b)
{
  const struct q2_tracked *t = track->first;

  while (t != NULL && (t->lost || !q2_tracked_is (track, t, b)))
    t = t->next;
  return t;
}

bool
q2_track_has (const struct q2_track *track, const struct q2_bitmap *b)
{
  return q2_tracked_find (track, b) != NULL;
}

bool
q2_track_keeps (const void *opaque, const struct q2_bitmap *b)
{
  const struct q2_track *const track = opaque;

  for (const struct q2_tracked *t = track->first; t != NULL; t = t->next)
    if (q2_tracked_is_kept (t) && q2_tracked_is (track, t, b))
      return true;
  return false;
}
