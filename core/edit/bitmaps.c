/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmaps.c - actions on persistent bitmaps.
 *
 * Owns      the rules: which bitmaps can be made, and what can be done to one.
 * Method    each action changes the set in memory (bitmap_set.c) and writes
 *           what is new to new clusters; then the header switches to the set
 *           as a whole (transact.c), and what it no longer needs is released
 *           (SET-2).  No bitmap is marked as in use by this, at no moment.
 *           One that is kept up in memory is stored into the set when an
 *           action needs its bits; the others stay marked, and are kept up on.
 * Locks     none of its own: the gate is closed, or the set is live.
 */
#include "config.h"

#include "edit/bitmaps.h"
#include "view/bitmap_view.h"

#include "base/assume.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MIN_DEFAULT_GRANULARITY 4096
#define MAX_DEFAULT_GRANULARITY 65536

/* So much of the progress each action is. */
#define SHARE (UINT64_C (1) << 20)

/* ---- Which bitmaps there can be ---------------------------------------- */

static const char *
name_of (const struct qcow2_name *name, char text[80])
{
  return q2_printable (text, 80, name->bytes, name->len);
}

static int
check_name (const struct qcow2_name *name, struct qcow2_error *err)
{
  if (name->len > 0 && name->len <= Q2_BITMAP_MAX_NAME)
    return 0;
  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                  "the name of a bitmap has 1 to %u bytes, not %zu",
                  Q2_BITMAP_MAX_NAME, name->len);
}

static int
check_size (const struct q2_geometry *geo, const struct q2_bitmap *b,
            struct qcow2_error *err)
{
  if (geo->virtual_size == 0)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "a disk of 0 bytes cannot have a bitmap");
  if (q2_ceil_shift (q2_bitmap_nr_bits (geo, b), 3) <= Q2_BITMAP_MAX_BYTES)
    return 0;
  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                  "a bitmap of granularity %" PRIu64 " for %" PRIu64 " bytes "
                  "of disk would have more than %" PRIu64 " MiB of bits; use "
                  "a larger granularity", UINT64_C (1) << b->granularity_bits,
                  geo->virtual_size, Q2_BITMAP_MAX_BYTES >> 20);
}

static int
choose_granularity (const struct q2_geometry *geo, uint64_t granularity,
                    unsigned *ret_bits, struct qcow2_error *err)
{
  if (granularity == 0)
    granularity = q2_min (q2_max (geo->cluster_size, MIN_DEFAULT_GRANULARITY),
                          MAX_DEFAULT_GRANULARITY);
  if (!q2_is_pow2 (granularity) ||
      granularity < UINT64_C (1) << Q2_BITMAP_MIN_GRANULARITY_BITS ||
      granularity > UINT64_C (1) << Q2_BITMAP_MAX_GRANULARITY_BITS)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the granularity of a bitmap is a power of two from 512 "
                    "to 2147483648 (2 GiB), not %" PRIu64, granularity);
  *ret_bits = (unsigned) __builtin_ctzll (granularity);
  return 0;
}

/* ---- Which can be used ------------------------------------------------- */

static struct q2_bitmap_slot *
find (const struct q2_bitmap_set *set, const struct qcow2_name *name,
      struct qcow2_error *err)
{
  struct q2_bitmap_slot *const slot = q2_bitmap_set_find (set, name);
  char text[80];

  if (slot != NULL)
    return slot;
  if (q2_image_header (set->edit->image).stale_bitmaps)
    q2_fail (err, QCOW2_ERR_NOT_FOUND, QCOW2_NO_OFFSET,
             "the bitmaps of the image, '%s' or not, mean nothing any more: a "
             "program that does not know bitmaps has written to it",
             name_of (name, text));
  else
    q2_fail_advise (err, QCOW2_ERR_NOT_FOUND, QCOW2_ADVICE_LIST_BITMAPS,
                    QCOW2_NO_OFFSET, "the image has no bitmap with the name "
                    "'%s'", name_of (name, text));
  return NULL;
}

/* Its bits mean something; else 'why' they do not. */
static int
check_usable (const struct q2_bitmap *b, const char *why,
              struct qcow2_error *err)
{
  char text[80];

  if (why == NULL)
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_REFUSED, QCOW2_ADVICE_NEW_BITMAP,
                         QCOW2_NO_OFFSET,
                         "the bitmap '%s' can only be removed: %s",
                         q2_printable (text, sizeof text, b->name,
                                       b->name_len), why);
}

/* The set is live, and the bitmap is kept up: it is true, marked or not. */
static bool
is_followed (const struct q2_bitmap_set *set, const struct q2_bitmap *b)
{
  return set->live && q2_track_has (&set->edit->w->track, b);
}

/* No change of the disk is running, or the set is live.  So one that was kept
 * up in memory can be stored, and one that is not marked as in use is true.
 */
static struct q2_bitmap_slot *
find_usable (struct q2_bitmap_set *set, const struct qcow2_name *name,
             bool wants_bits, struct qcow2_error *err)
{
  const struct qcow2_image *const image = set->edit->image;
  struct q2_bitmap_slot *const slot = find (set, name, err);
  struct q2_header h;

  if (slot != NULL && !wants_bits && is_followed (set, &slot->b))
    return slot;
  if (slot == NULL || q2_bitmap_store_tracked (set, slot, err) == -1)
    return NULL;
  h = q2_image_header (image);
  return check_usable (&slot->b, q2_bitmap_why_untrue (image, &h, &slot->b),
                       err) == 0 ? slot : NULL;
}

/* ---- Actions ------------------------------------------------------------ */

static int
add (struct q2_bitmap_set *set, const struct qcow2_bitmap_action *a,
     struct qcow2_error *err)
{
  struct q2_bitmap_slot slot = {
    .b = { .flags = a->disabled ? 0 : Q2_BITMAP_AUTO, .name = a->name.bytes },
  };
  char text[80];

  if (check_name (&a->name, err) == -1 ||
      choose_granularity (set->geo, a->granularity, &slot.b.granularity_bits,
                          err) == -1 ||
      check_size (set->geo, &slot.b, err) == -1)
    return -1;
  if (q2_bitmap_set_find (set, &a->name) != NULL)
    return q2_fail (err, QCOW2_ERR_EXISTS, QCOW2_NO_OFFSET,
                    "there is a bitmap with the name '%s' already",
                    name_of (&a->name, text));
  slot.b.name_len = (uint16_t) a->name.len;
  slot.b.table_entries = (uint32_t) q2_bitmap_nr_entries (set->geo, &slot.b);
  set->changed = true;
  return q2_bitmap_set_add (set, &slot, err);
}

static int
remove_one (struct q2_bitmap_set *set, const struct qcow2_bitmap_action *a,
            struct qcow2_error *err)
{
  struct q2_bitmap_slot *const slot = find (set, &a->name, err);

  if (slot == NULL || q2_bitmap_table_drop (set, slot, err) == -1)
    return -1;
  q2_bitmap_set_remove (set, slot);
  set->changed = true;
  return 0;
}

static int
clear (struct q2_bitmap_set *set, const struct qcow2_bitmap_action *a,
       struct qcow2_error *err)
{
  struct q2_bitmap_slot *const slot = find_usable (set, &a->name, false, err);

  if (slot == NULL || q2_bitmap_table_drop (set, slot, err) == -1)
    return -1;
  slot->b.flags &= ~Q2_BITMAP_IN_USE;   /* that was because it is kept up */
  set->changed = true;
  return 0;
}

static int
enable (struct q2_bitmap_set *set, const struct qcow2_bitmap_action *a,
        struct qcow2_error *err)
{
  const uint32_t flag =
    a->verb == QCOW2_BITMAP_ENABLE ? Q2_BITMAP_AUTO : 0;
  struct q2_bitmap_slot *const slot =
    find_usable (set, &a->name, flag == 0, err);

  if (slot == NULL)
    return -1;
  if ((slot->b.flags & Q2_BITMAP_AUTO) != flag) {
    slot->b.flags ^= Q2_BITMAP_AUTO;
    slot->enabled = flag != 0;
    set->changed = true;
  }
  return 0;
}

/* ---- Merging ------------------------------------------------------------ */

/* The bitmaps that are merged, with readers for them. */
struct sources {
  struct q2_bitmap_reader *readers;
  struct sources_pin {
    struct qcow2_image *image;  /* NULL: none */
    struct q2_pin pin;
  } *pins;                      /* as many */
  struct q2_bitmap_copy *copies;        /* as many */
  size_t nr, max;
};

static int
add_reader (struct sources *s, const struct q2_geometry *geo,
            const struct q2_io *io, const struct q2_bitmap *b,
            struct qcow2_error *err)
{
  if (!q2_assume (s->nr < s->max, err) ||
      q2_bitmap_reader_init (&s->readers[s->nr], geo, io, b, err) == -1)
    return -1;
  s->nr++;
  return 0;
}

struct looking {
  const struct qcow2_bitmap_source *source;
  const struct q2_io *io;
  struct sources *sources;
  const struct q2_header *header;
  bool found;
};

/* Pinned, in case that image is edited, too. */
static int
take_source (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
             struct qcow2_error *err)
{
  const struct looking *const l = opaque;
  const struct qcow2_name *const name = &l->source->name;
  struct qcow2_image *const image = l->source->image;
  struct sources_pin *const pin = &l->sources->pins[l->sources->nr];

  (void) host_off;
  if (b->name_len != name->len ||
      memcmp (b->name, name->bytes, name->len) != 0)
    return 0;
  if (check_usable (b, q2_bitmap_why_unusable (image, l->header, b), err)
      == -1 ||
      q2_pin (image, &pin->pin, Q2_PINNED_SOURCE, b->table_offset,
              l->header->number, err) == -1)
    return -1;
  pin->image = image;
  if (add_reader (l->sources, &image->geo, l->io, b, err) == -1) {
    q2_unpin (image, &pin->pin);
    return -1;
  }
  return 1;
}

static int
add_foreign (struct q2_bitmap_set *set,
             const struct qcow2_bitmap_source *source, struct sources *s,
             struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (source->image, source->io);
  const struct q2_header h = q2_image_header (source->image);
  const size_t before = s->nr;
  struct looking l = {
    .source = source, .io = &io, .sources = s, .header = &h,
  };
  char text[80];

  if (h.virtual_size != set->geo->virtual_size)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the bitmap '%s' is of a disk of another size",
                    name_of (&source->name, text));
  if (q2_bitmaps_walk (&io, &h, &source->image->geo, take_source, &l, err)
      == -1)
    return -1;
  return s->nr > before ? 0
    : q2_fail (err, QCOW2_ERR_NOT_FOUND, QCOW2_NO_OFFSET,
               "the other image has no bitmap with the name '%s'",
               name_of (&source->name, text));
}

/* It is left as it is, and kept up on. */
static int
add_followed (struct q2_bitmap_set *set, const struct q2_bitmap *b,
              struct sources *s, struct qcow2_error *err)
{
  struct q2_bitmap_copy *const copy = &s->copies[s->nr];

  if (!q2_assume (s->nr < s->max, err) ||
      q2_bitmap_copy_make (set, b, copy, err) == -1 ||
      !q2_assume (copy->bits != NULL, err))
    return -1;
  q2_bitmap_reader_init_memory (&s->readers[s->nr++], set->geo,
                                &set->edit->io, b, copy->bits, copy->len);
  return 0;
}

/* One that has no table yet has no bits, either. */
static int
add_source (struct q2_bitmap_set *set, const struct q2_bitmap_slot *target,
            const struct qcow2_bitmap_source *source, struct sources *s,
            struct qcow2_error *err)
{
  const struct q2_bitmap_slot *slot;

  if (source->image != NULL && source->image != set->edit->image)
    return add_foreign (set, source, s, err);
  slot = find_usable (set, &source->name, !set->live, err);
  if (slot == NULL)
    return -1;
  if (slot != target && is_followed (set, &slot->b))
    return add_followed (set, &slot->b, s, err);
  return slot == target || slot->b.table_offset == 0 ? 0
    : add_reader (s, set->geo, &set->edit->io, &slot->b, err);
}

static int
add_sources (struct q2_bitmap_set *set, const struct q2_bitmap_slot *target,
             const struct qcow2_bitmap_action *a, struct sources *s,
             struct qcow2_error *err)
{
  for (size_t i = 0; i < a->nr_sources; ++i)
    if (add_source (set, target, &a->sources[i], s, err) == -1)
      return -1;
  if (s->nr > 0 && target->b.table_offset != 0)
    return add_reader (s, set->geo, &set->edit->io, &target->b, err);
  return 0;
}

static void
free_sources (const struct q2_bitmap_set *set, struct sources *s)
{
  for (size_t i = 0; i < s->nr; ++i) {
    if (s->pins[i].image != NULL)
      q2_unpin (s->pins[i].image, &s->pins[i].pin);
    q2_bitmap_reader_destroy (&s->readers[i]);
  }
  for (size_t i = 0; s->copies != NULL && i < s->max; ++i)
    q2_bitmap_copy_free (set, &s->copies[i]);
  free (s->copies);
  free (s->readers);
  free (s->pins);
}

static int
merge (struct q2_bitmap_set *set, const struct qcow2_bitmap_action *a,
       struct qcow2_error *err)
{
  struct q2_bitmap_slot *const slot = find_usable (set, &a->name, true, err);
  struct sources s = { .nr = 0 };
  int r;

  if (slot == NULL)
    return -1;
  s.max = a->nr_sources + 1;
  s.readers = calloc (s.max, sizeof *s.readers);
  s.pins = calloc (s.max, sizeof *s.pins);
  s.copies = calloc (s.max, sizeof *s.copies);
  r = s.readers == NULL || s.pins == NULL || s.copies == NULL
    ? q2_fail_nomem (err, "merging bitmaps")
    : add_sources (set, slot, a, &s, err);
  if (r == 0 && s.nr > 0) {
    set->changed = true;
    r = q2_bitmap_merge (set, slot, s.readers, s.nr, SHARE - 1, err);
  }
  free_sources (set, &s);
  return r;
}

/* ---- The whole --------------------------------------------------------- */

static int
act (struct q2_bitmap_set *set, const struct qcow2_bitmap_action *a,
     struct qcow2_error *err)
{
  switch (a->verb) {
  case QCOW2_BITMAP_ADD:
    return add (set, a, err);
  case QCOW2_BITMAP_REMOVE:
    return remove_one (set, a, err);
  case QCOW2_BITMAP_CLEAR:
    return clear (set, a, err);
  case QCOW2_BITMAP_ENABLE:
  case QCOW2_BITMAP_DISABLE:
    return enable (set, a, err);
  case QCOW2_BITMAP_MERGE:
    return merge (set, a, err);
  }
  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                  "there is no such change of a bitmap");
}

int
q2_bitmaps_act (struct q2_bitmap_set *set, const struct qcow2_part *part,
                struct qcow2_error *err)
{
  set->progress = (struct q2_progress) {
    .fn = part->progress, .opaque = part->progress_opaque,
    .total = part->nr_actions * SHARE,
  };
  if (!q2_assume (!set->edit->switched, err))
    return -1;
  for (size_t i = 0; i < part->nr_actions; ++i)
    if (act (set, &part->actions[i], err) == -1 ||
        q2_progress_add (&set->progress,
                         (i + 1) * SHARE - set->progress.done,
                         Q2_BITMAPS_CANCELLED, err) == -1)
      return -1;
  return 0;
}

int
q2_bitmaps_rehearse (struct q2_bitmap_set *set, const struct qcow2_part *part,
                     struct qcow2_error *err)
{
  for (size_t i = 0; i < part->nr_actions; ++i) {
    const struct qcow2_bitmap_action *const a = &part->actions[i];
    struct q2_bitmap_slot *slot;

    if (a->verb == QCOW2_BITMAP_ADD) {
      if (add (set, a, err) == -1)
        return -1;
      continue;
    }
    slot = find (set, &a->name, err);
    if (slot == NULL)
      return -1;
    if (slot->b.table_offset != 0 &&
        q2_bitmap_set_check_pin (set, slot->b.table_offset, err) == -1) {
      if (a->verb != QCOW2_BITMAP_DISABLE)
        return -1;
      set->has_pinned = true;
    }
    if (a->verb == QCOW2_BITMAP_REMOVE) {
      slot->b.table_offset = 0;
      q2_bitmap_set_remove (set, slot);
    }
  }
  return 0;
}

/* Bits that it has, if any, stay. */
static int
add_since (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
           const struct q2_since *since, struct qcow2_error *err)
{
  const bool had = slot->b.table_offset != 0;
  struct q2_bitmap_reader readers[2] = { { .geo = NULL } };
  int r = 0;

  q2_bitmap_reader_init_memory (&readers[0], set->geo, &set->edit->io,
                                &since->like,
                                (const unsigned char *) since->bits,
                                since->len);
  if (had)
    r = q2_bitmap_reader_init (&readers[1], set->geo, &set->edit->io, &slot->b,
                               err);
  if (r == 0)
    r = q2_bitmap_merge (set, slot, readers, had ? 2 : 1, 0, err);
  q2_bitmap_reader_destroy (&readers[1]);
  return r;
}

int
q2_bitmaps_add_since (struct q2_bitmap_set *set, const struct qcow2_part *part,
                      const struct q2_since *since, struct qcow2_error *err)
{
  for (size_t i = 0; since->any && i < part->nr_actions; ++i) {
    struct q2_bitmap_slot *const slot =
      q2_bitmap_set_find (set, &part->actions[i].name);

    /* One that was removed needs nothing, and what it stands for is kept up
     * by one that was enabled before.
     */
    if (slot != NULL && (slot->b.flags & Q2_BITMAP_AUTO) &&
        (slot->b.table_offset == 0 || slot->enabled || slot->made) &&
        add_since (set, slot, since, err) == -1)
      return -1;
  }
  return 0;
}

void
q2_bitmaps_drop_tracked (struct q2_edit *edit, const struct qcow2_part *part)
{
  struct q2_track *const track = &edit->w->track;

  /* SET-5 */
  if (!q2_check (edit->switched || part->nr_actions == 0))
    return;
  for (size_t i = 0; i < part->nr_actions; ++i) {
    const struct qcow2_bitmap_action *const a = &part->actions[i];

    q2_track_drop (track, a->name.bytes, a->name.len);
    for (size_t s = 0; a->verb == QCOW2_BITMAP_MERGE && s < a->nr_sources; ++s)
      q2_track_drop (track, a->sources[s].name.bytes, a->sources[s].name.len);
  }
}

int
q2_bitmaps_check_possible (const struct qcow2_image *image,
                           struct qcow2_error *err)
{
  if (q2_image_info (image).version >= 3)
    return 0;
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                  "bitmaps cannot be changed: an image of version 2 has none, "
                  "since it could not tell when they are out of date");
}
