/* SPDX-License-Identifier: BSD-3-Clause */
/* track.c - persistent bitmaps that are kept up in memory.
 *
 * Owns      the bits of the enabled bitmaps, from the first change of the disk
 *           until they are stored or given up.
 * Method    all bits of a bitmap are one array, counted in the budget: 2 MiB
 *           for 1 TiB of disk at a granularity of 64 KiB.  They are looked up
 *           by name.  A bitmap that is loaded and not in use in the file
 *           replaces one of the same name, which was removed there.
 * Invariant a tracked bitmap is marked as in use in the file, durably, while
 *           the disk changes; so what is in memory matters only if it gets
 *           stored, and then has each bit of each change that has begun.
 * Locks     none: see track.h for the list; bits are atomics.  Storing comes
 *           after all changes, which the gate sees to.
 */
#include "config.h"

#include "track/track.h"

#include "base/error.h"
#include "base/plant.h"
#include "meta/bitmaps.h"
#include "track/bitmap_reader.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each costs every request a little. */
#define MAX_TRACKED 64

struct q2_tracked {
  struct q2_tracked *next;
  uint64_t table_offset;
  uint64_t nr_bits, len;        /* bytes of them, a multiple of 8 */
  uint64_t charge;              /* of the budget */
  unsigned granularity_bits;
  _Atomic bool changed;
  _Atomic unsigned char *bits;
  uint16_t name_len;
  char name[];
};

static void
free_tracked (struct q2_track *track, struct q2_tracked *t)
{
  if (t == NULL)
    return;
  q2_budget_give (track->budget, t->charge);
  free ((void *) t->bits);
  free (t);
}

void
q2_track_forget (struct q2_track *track)
{
  while (track->first != NULL) {
    struct q2_tracked *const t = track->first;

    track->first = t->next;
    free_tracked (track, t);
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
  const struct q2_geometry *geo;
};

static struct q2_tracked *
new_tracked (const struct loading *l, const struct q2_bitmap *b,
             struct qcow2_error *err)
{
  const uint64_t nr_bits = q2_bitmap_nr_bits (l->geo, b);
  const uint64_t len = q2_align_up (q2_ceil_shift (nr_bits, 3), 8);
  const uint64_t charge = len + sizeof (struct q2_tracked) + b->name_len;
  struct q2_tracked *t;

  if (q2_budget_take (l->track->budget, charge, "a bitmap", err) == -1)
    return NULL;
  t = calloc (1, sizeof *t + b->name_len);
  if (t != NULL)
    t->bits = calloc (len > 0 ? len : 1, 1);
  if (t == NULL || t->bits == NULL) {
    q2_budget_give (l->track->budget, charge);
    free (t);
    q2_fail_nomem (err, "a bitmap");
    return NULL;
  }
  t->table_offset = b->table_offset;
  t->nr_bits = nr_bits;
  t->len = len;
  t->charge = charge;
  t->granularity_bits = b->granularity_bits;
  t->name_len = b->name_len;
  memcpy (t->name, b->name, b->name_len);
  return t;
}

static void
copy_piece (struct q2_tracked *t, uint64_t byte,
            const struct q2_bitmap_piece *p, uint64_t nr)
{
  const unsigned char all = p->set ? 0xff : 0;

  for (uint64_t i = 0; i < nr; ++i)
    atomic_store_explicit (&t->bits[byte + i], p->bytes ? p->bytes[i] : all,
                           memory_order_relaxed);
}

static int
load_bits (const struct loading *l, const struct q2_bitmap *b,
           struct q2_tracked *t, struct qcow2_error *err)
{
  const uint64_t end = q2_ceil_shift (t->nr_bits, 3);
  struct q2_bitmap_reader reader;
  uint64_t byte = 0;
  int r = 0;

  if (q2_bitmap_reader_init (&reader, l->geo, l->io, b, err) == -1)
    return -1;
  while (r == 0 && byte < end) {
    struct q2_bitmap_piece p;

    r = q2_bitmap_reader_get (&reader, byte, &p, err);
    if (r == 0) {
      const uint64_t nr = q2_min (p.len, end - byte);

      copy_piece (t, byte, &p, nr);
      byte += nr;
    }
  }
  q2_bitmap_reader_destroy (&reader);
  return r;
}

static void
warn (const struct loading *l, const struct q2_bitmap *b, const char *why)
{
  char text[400], name[80];

  if (l->track->log == NULL)
    return;
  snprintf (text, sizeof text, "the bitmap '%s' is not kept up while the disk "
            "changes, and stays marked as in use: %s",
            q2_printable (name, sizeof name, b->name, b->name_len), why);
  l->track->log (l->track->log_opaque, QCOW2_LOG_WARNING, text,
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
      free_tracked (track, t);
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
  if (drop_namesake (l->track, b) >= MAX_TRACKED)
    warn (l, b, "there are too many");
  else if (b->extra_len > 0 ||
           b->table_entries != q2_bitmap_nr_entries (l->geo, b))
    warn (l, b, "it cannot be used");
  else if ((t = new_tracked (l, b, &why)) == NULL)
    warn (l, b, why.text);
  else if (load_bits (l, b, t, &why) == -1) {
    free_tracked (l->track, t);
    warn (l, b, why.text);
  }
  else {
    t->next = l->track->first;
    l->track->first = t;
  }
  return 0;
}

void
q2_track_load (struct q2_track *track, const struct q2_io *io,
               const struct q2_header *h, const struct q2_geometry *geo)
{
  struct loading l = { track, io, geo };
  struct qcow2_error why;

  if (!track->lazy || !(h->autoclear & Q2_AUTOCLEAR_BITMAPS))
    return;
  track->budget = q2_io_budget (io);
  /* Who marks them fails if the directory is broken. */
  if (q2_bitmaps_walk (io, h, geo, load_one, &l, &why) == -1)
    q2_track_forget (track);
}

/* ---- Changes ---------------------------------------------------------- */

static void
set_in_byte (struct q2_tracked *t, uint64_t byte, unsigned mask)
{
  _Atomic unsigned char *const p = &t->bits[byte];

  if ((atomic_load_explicit (p, memory_order_relaxed) & mask) == mask)
    return;
  atomic_fetch_or_explicit (p, (unsigned char) mask, memory_order_relaxed);
  atomic_store_explicit (&t->changed, true, memory_order_relaxed);
}

static void
set_bits (struct q2_tracked *t, uint64_t first, uint64_t last)
{
  for (uint64_t byte = first / 8; byte <= last / 8; ++byte) {
    unsigned mask = 0xff;

    if (byte == first / 8)
      mask &= 0xffu << first % 8;
    if (byte == last / 8)
      mask &= 0xffu >> (7 - last % 8);
    set_in_byte (t, byte, mask);
  }
}

void
q2_track_set (struct q2_track *track, uint64_t count, uint64_t guest_off)
{
  if (count == 0 || Q2_PLANTED (Q2_PLANT_BITMAPS_SET_NOTHING))
    return;
  for (struct q2_tracked *t = track->first; t != NULL; t = t->next) {
    const uint64_t first = guest_off >> t->granularity_bits;
    const uint64_t last = (guest_off + count - 1) >> t->granularity_bits;

    if (first < t->nr_bits)
      set_bits (t, first, q2_min (last, t->nr_bits - 1));
  }
}

/* ---- Storing ---------------------------------------------------------- */

bool
q2_track_find (const struct q2_track *track, const struct q2_geometry *geo,
               const struct q2_bitmap *b, const unsigned char **ret_bits,
               uint64_t *ret_len, bool *ret_changed)
{
  const uint32_t flags = Q2_BITMAP_AUTO | Q2_BITMAP_IN_USE;

  for (const struct q2_tracked *t = track->first; t != NULL; t = t->next)
    if (is_named (t, b)) {
      *ret_bits = (const unsigned char *) t->bits;
      *ret_len = t->len;
      *ret_changed = t->changed;
      /* Else it is another one, made meanwhile. */
      return (b->flags & flags) == flags &&
        b->table_offset == t->table_offset &&
        b->granularity_bits == t->granularity_bits &&
        q2_bitmap_nr_bits (geo, b) == t->nr_bits;
    }
  return false;
}
