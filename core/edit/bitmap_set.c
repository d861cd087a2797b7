/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_set.c - the set of bitmaps in memory, and its directory.
 *
 * Owns      the slots; writing the directory; the switch to it.
 * Method    slots are in the order of the directory.  A changed set gets a
 *           directory in new clusters; the header names it in the step that
 *           makes the set the image's (SET-2).
 * Locks     none of its own: the gate is closed, or the set is live.
 */
#include "config.h"

#include "edit/bitmaps.h"

#include "base/assume.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/plant.h"
#include "track/tracked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 16

/* ---- Slots ------------------------------------------------------------ */

static bool
is_named (const struct q2_bitmap *b, const struct qcow2_name *name)
{
  return b->name_len == name->len &&
    memcmp (b->name, name->bytes, name->len) == 0;
}

/* FNV-1a: there may be many names that begin alike. */
static uint32_t
hash_of (const char *bytes, size_t len)
{
  uint32_t h = UINT32_C (2166136261);

  for (size_t i = 0; i < len; ++i)
    h = (h ^ (unsigned char) bytes[i]) * UINT32_C (16777619);
  return h;
}

struct q2_bitmap_slot *
q2_bitmap_set_find (const struct q2_bitmap_set *set,
                    const struct qcow2_name *name)
{
  const uint32_t hash = hash_of (name->bytes, name->len);

  for (size_t i = 0; i < set->nr; ++i)
    if (set->slots[i].hash == hash && is_named (&set->slots[i].b, name))
      return &set->slots[i];
  return NULL;
}

unsigned
q2_bitmap_set_finest (const struct q2_bitmap_set *set)
{
  unsigned bits = Q2_BITMAP_MAX_GRANULARITY_BITS;

  for (size_t i = 0; i < set->nr; ++i)
    bits = (unsigned) q2_min (bits, set->slots[i].b.granularity_bits);
  return bits;
}

static uint64_t
slots_bytes (size_t nr)
{
  return nr * sizeof (struct q2_bitmap_slot);
}

int
q2_bitmap_set_add (struct q2_bitmap_set *set,
                   const struct q2_bitmap_slot *slot, struct qcow2_error *err)
{
  if (!q2_assume (set->nr <= set->max, err))
    return -1;
  if (set->nr == set->max) {
    struct qcow2_budget *const budget = q2_io_budget (&set->edit->io);
    const size_t max = set->max > 0 ? 2 * set->max : FIRST_SLOTS;
    struct q2_bitmap_slot *slots;

    if (q2_budget_take (budget, slots_bytes (max - set->max), "the bitmaps",
                        err) == -1)
      return -1;
    slots = realloc (set->slots, slots_bytes (max));
    if (slots == NULL) {
      q2_budget_give (budget, slots_bytes (max - set->max));
      return q2_fail_nomem (err, "the bitmaps");
    }
    set->slots = slots;
    set->max = max;
  }
  set->slots[set->nr] = *slot;
  set->slots[set->nr++].hash = hash_of (slot->b.name, slot->b.name_len);
  return 0;
}

void
q2_bitmap_set_remove (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot)
{
  const size_t after = set->nr - 1 - (size_t) (slot - set->slots);

  /* Else its table is named by nobody, and released by nobody. */
  if (!q2_check (after < set->nr) || !q2_check (slot->b.table_offset == 0))
    return;
  memmove (slot, slot + 1, after * sizeof *slot);
  set->nr--;
}

/* By name; of one name, by their order. */
static int
compare_slots (const void *x, const void *y)
{
  const struct q2_bitmap_slot *const *const p = x, *const *const q = y;
  const struct q2_bitmap_slot *const a = *p, *const b = *q;
  const size_t len = q2_min (a->b.name_len, b->b.name_len);
  const int r = memcmp (a->b.name, b->b.name, len);

  if (r != 0)
    return r;
  if (a->b.name_len != b->b.name_len)
    return a->b.name_len < b->b.name_len ? -1 : 1;
  return a < b ? -1 : a > b;
}

int
q2_bitmap_set_find_double (const struct q2_bitmap_set *set,
                           const struct q2_bitmap_slot **ret,
                           struct qcow2_error *err)
{
  const struct q2_bitmap_slot **sorted;

  *ret = NULL;
  if (set->nr < 2)
    return 0;
  sorted = malloc (set->nr * sizeof (void *));
  if (sorted == NULL)
    return q2_fail_nomem (err, "the bitmaps");
  for (size_t i = 0; i < set->nr; ++i)
    sorted[i] = &set->slots[i];
  qsort (sorted, set->nr, sizeof (void *), compare_slots);
  for (size_t i = 1; i < set->nr && *ret == NULL; ++i) {
    const struct q2_bitmap *const b = &sorted[i]->b;

    if (is_named (&sorted[i - 1]->b,
                  &(struct qcow2_name) { b->name, b->name_len }))
      *ret = sorted[i];
  }
  free (sorted);
  return 0;
}

/* ---- The set of the file ---------------------------------------------- */

static int
load_entries (struct q2_bitmap_set *set, const struct q2_header *h,
              struct qcow2_error *err)
{
  uint64_t pos = 0;

  for (uint32_t i = 0; i < h->nr_bitmaps; ++i) {
    struct q2_bitmap_slot slot = { .made = false };

    if (q2_bitmap_decode (set->geo, set->old.bytes + pos, set->old.len - pos,
                          h->bitmap_dir_offset + pos, &slot.b, err) == -1 ||
        q2_bitmap_set_add (set, &slot, err) == -1)
      return -1;
    pos += slot.b.entry_len;
  }
  if (pos != set->old.len)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BROKEN,
                           h->bitmap_dir_offset,
                           "the bitmap directory at offset 0x%" PRIx64 " has "
                           "more than its %u entries", h->bitmap_dir_offset,
                           h->nr_bitmaps);
  return 0;
}

static int
check_names (const struct q2_bitmap_set *set, const struct q2_header *h,
             struct qcow2_error *err)
{
  const struct q2_bitmap_slot *twice;
  char text[80];

  if (q2_bitmap_set_find_double (set, &twice, err) == -1)
    return -1;
  return twice == NULL ? 0
    : q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BROKEN,
                      h->bitmap_dir_offset,
                      "the bitmap directory at offset 0x%" PRIx64 " has two "
                      "entries with the name '%s'", h->bitmap_dir_offset,
                      q2_printable (text, sizeof text, twice->b.name,
                                    twice->b.name_len));
}

/* Requests may have given bitmaps up after the directory was read. */
static void
note_lost (struct q2_bitmap_set *set)
{
  const struct q2_track *const track = &set->edit->w->track;

  for (size_t i = 0; i < set->nr; ++i) {
    struct q2_bitmap *const b = &set->slots[i].b;

    if ((b->flags & Q2_BITMAP_AUTO) && !q2_track_has (track, b))
      b->flags |= Q2_BITMAP_IN_USE;
  }
}

int
q2_bitmap_set_init_live (struct q2_bitmap_set *set, struct q2_edit *edit,
                         struct qcow2_error *err)
{
  if (!q2_assume (edit->beside && q2_writer_is_for_disk (edit->w), err) ||
      q2_bitmap_set_init (set, edit, err) == -1)
    return -1;
  set->live = true;
  note_lost (set);
  return 0;
}

int
q2_bitmap_set_init (struct q2_bitmap_set *set, struct q2_edit *edit,
                    struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (edit->image);

  *set = (struct q2_bitmap_set) { .edit = edit, .geo = edit->w->geo };
  edit->aside = true;
  /* Those that are kept up have more bits than are exact, till then. */
  if ((edit->beside ||
       q2_writer_settle_bitmaps (edit->w, &edit->io, err) == 0) &&
      q2_bitmaps_read (&edit->io, &h, &set->old, err) == 0 &&
      load_entries (set, &h, err) == 0 && check_names (set, &h, err) == 0)
    return 0;
  q2_bitmap_set_destroy (set);
  return -1;
}

void
q2_bitmap_set_destroy (struct q2_bitmap_set *set)
{
  q2_budget_give (q2_io_budget (&set->edit->io), slots_bytes (set->max));
  while (set->next != NULL) {
    struct q2_tracked *const t = set->next;

    set->next = t->next;
    q2_tracked_free (&set->edit->w->track, t);
  }
  free (set->slots);
  free (set->dropped);
  q2_bitmaps_free (&set->edit->io, &set->old);
  *set = (struct q2_bitmap_set) { .edit = set->edit };
}

/* ---- The new one ------------------------------------------------------ */

static int
check_limits (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  set->dir_bytes = 0;
  for (size_t i = 0; i < set->nr; ++i)
    set->dir_bytes += q2_bitmap_entry_len (&set->slots[i].b);
  if (set->nr > Q2_BITMAPS_MAX)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the image would have %zu bitmaps; at most %u are "
                    "possible", set->nr, Q2_BITMAPS_MAX);
  if (set->dir_bytes > Q2_BITMAPS_MAX_DIR_BYTES)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the names of the bitmaps are too long together: the "
                    "directory would have %" PRIu64 " bytes, and at most %"
                    PRIu64 " are possible", set->dir_bytes,
                    Q2_BITMAPS_MAX_DIR_BYTES);
  return 0;
}

static int
write_encoded (struct q2_bitmap_set *set, unsigned char *bytes,
               struct qcow2_error *err)
{
  uint64_t pos = 0;

  for (size_t i = 0; i < set->nr; ++i) {
    const struct q2_bitmap *const b = &set->slots[i].b;

    if (!q2_assume (b->table_offset != 0, err) ||
        !q2_assume (q2_bitmap_entry_len (b) <= set->dir_bytes - pos, err))
      return -1;
    q2_bitmap_encode (b, bytes + pos);
    pos += q2_bitmap_entry_len (b);
  }
  if (!q2_assume (pos == set->dir_bytes, err))
    return -1;
  return q2_edit_write (set->edit, bytes, pos, set->dir_offset,
                        Q2_META_BITMAP_DIRECTORY, err);
}

/* Into new clusters: SET-1. */
static int
allocate_directory (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  if (Q2_PLANTED (Q2_PLANT_BITMAPS_IN_PLACE) &&
      set->dir_bytes <= q2_align_up (set->old.len, set->geo->cluster_size)) {
    set->dir_offset = q2_image_header (set->edit->image).bitmap_dir_offset;
    return 0;
  }
  return q2_edit_alloc (set->edit, set->dir_bytes, Q2_META_BITMAP_DIRECTORY,
                        &set->dir_offset, err);
}

static int
write_directory (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  struct qcow2_budget *const budget = q2_io_budget (&set->edit->io);
  unsigned char *bytes;
  int r;

  if (check_limits (set, err) == -1)
    return -1;
  if (set->nr == 0)
    return 0;
  if (allocate_directory (set, err) == -1 ||
      q2_budget_take (budget, set->dir_bytes, "the bitmap directory", err)
      == -1)
    return -1;
  bytes = q2_buffer_alloc (set->dir_bytes);
  r = bytes == NULL ? q2_fail_nomem (err, "the bitmap directory")
    : write_encoded (set, bytes, err);
  q2_buffer_free (bytes, set->dir_bytes);
  q2_budget_give (budget, set->dir_bytes);
  return r;
}

int
q2_bitmap_set_edit_header (void *opaque, struct q2_header_parts *parts,
                           struct qcow2_error *err)
{
  const struct q2_bitmap_set *const set = opaque;

  if (!set->changed)
    return 0;
  if (!q2_assume ((set->nr == 0) == (set->dir_bytes == 0) &&
                  (set->nr == 0 || set->dir_offset != 0), err))
    return -1;
  return q2_header_set_bitmaps (parts, (uint32_t) set->nr, set->dir_offset,
                                set->dir_bytes, err);
}

static int
make_missing_tables (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  for (size_t i = 0; i < set->nr; ++i)
    if (set->slots[i].b.table_offset == 0 &&
        q2_bitmap_table_make (set, &set->slots[i], NULL, err) == -1)
      return -1;
  return 0;
}

static int
fail_pinned (uint64_t host_off, struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_BUSY, QCOW2_ADVICE_CLOSE_VIEWS,
                         host_off, "a view is open of a bitmap that is to be "
                         "changed or removed");
}

static int
check_pins_locked (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  const struct qcow2_image *const image = set->edit->image;

  q2_mutex_check_held (&image->pins.lock);
  for (size_t i = 0; i < set->nr_dropped; ++i)
    if (q2_is_pinned_locked (image, set->dropped[i].offset))
      return fail_pinned (set->dropped[i].offset, err);
  /* Who reads it takes it for one that stays as it is. */
  for (size_t i = 0; i < set->nr; ++i)
    if (set->slots[i].enabled &&
        q2_is_pinned_locked (image, set->slots[i].b.table_offset))
      return fail_pinned (set->slots[i].b.table_offset, err);
  return 0;
}

int
q2_bitmap_set_check_pin (const struct q2_bitmap_set *set,
                         uint64_t table_offset, struct qcow2_error *err)
{
  struct q2_pins *const pins = &set->edit->image->pins;
  bool pinned;

  q2_mutex_lock (&pins->lock);
  pinned = q2_is_pinned_locked (set->edit->image, table_offset);
  q2_mutex_unlock (&pins->lock);
  return pinned ? fail_pinned (table_offset, err) : 0;
}

/* Already before it is certain. */
static int
check_pins (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  struct q2_pins *const pins = &set->edit->image->pins;
  int r;

  q2_mutex_lock (&pins->lock);
  r = check_pins_locked (set, err);
  q2_mutex_unlock (&pins->lock);
  return r;
}

int
q2_bitmap_set_prepare (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (set->edit->image);

  set->edit->aside = false;
  if (!set->changed)
    return 0;
  if (check_pins (set, err) == -1)
    return -1;
  set->old_dir_offset = h.nr_bitmaps > 0 ? h.bitmap_dir_offset : 0;
  return make_missing_tables (set, err) == -1 ? -1
    : write_directory (set, err);
}

/* Nobody can begin to read what the old header names, and is released then. */
static int
switch_sets (struct q2_bitmap_set *set, q2_superblock_edit_fn fn, void *opaque,
             struct qcow2_error *err)
{
  struct q2_pins *const pins = &set->edit->image->pins;
  int r;

  q2_mutex_lock (&pins->lock);
  r = check_pins_locked (set, err);
  if (r == 0)
    r = q2_edit_switch (set->edit, fn, opaque, 0, err);
  q2_mutex_unlock (&pins->lock);
  return r;
}

int
q2_bitmap_set_switch (struct q2_bitmap_set *set, q2_superblock_edit_fn fn,
                      void *opaque, struct qcow2_error *err)
{
  int r;

  if (!q2_assume (set->changed && !set->edit->switched, err))
    return -1;
  if (Q2_PLANTED (Q2_PLANT_BITMAPS_EARLY_RELEASE))
    q2_bitmap_set_release (set, set->old_dir_offset);
  r = switch_sets (set, fn, opaque, err);
  /* Those that are enabled are true until the next change of the disk; perhaps
   * so even after a failure.
   */
  if (!set->live && (r == 0 || set->edit->switched) &&
      !Q2_PLANTED (Q2_PLANT_BITMAPS_KEEP_PROMISE))
    q2_writer_renew_promises (set->edit->w);
  return r;
}

void
q2_bitmap_set_finish (struct q2_bitmap_set *set)
{
  /* SET-3 */
  if (!q2_check (!set->changed || set->edit->switched))
    return;
  if (set->changed && set->old_dir_offset != set->dir_offset)
    q2_bitmap_set_release (set, set->old_dir_offset);
}

int
q2_bitmap_set_publish (struct q2_bitmap_set *set, struct qcow2_error *err)
{
  if (!set->changed)
    return 0;
  if (q2_bitmap_set_prepare (set, err) == -1 ||
      q2_bitmap_set_switch (set, q2_bitmap_set_edit_header, set, err) == -1)
    return -1;
  q2_bitmap_set_finish (set);
  return 0;
}
