/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_broken.c - a directory without the entries that make it unusable.
 *
 * Owns      the question which bitmaps are broken: those because of which QEMU
 *           does not open the image, or that could harm others when they are
 *           removed.
 * Method    each entry is decoded on its own; behind one that is broken the
 *           next is found by its lengths, as far as they make sense.  What is
 *           decoded is checked: its name is its own, its table and its bits
 *           are in the file, and no cluster of them is anything else.  Bits of
 *           a bitmap that is in use mean nothing, so that of it only the place
 *           is checked.  What remains is published as a new set.  Nothing that
 *           a broken entry refers to is released, since it may belong to
 *           something else: it is leaked.
 * Locks     none of its own: the gate is closed.
 */
#include "config.h"

#include "edit/bitmaps.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>

struct cleaning {
  struct q2_bitmap_set *set;
  struct q2_overlap *mine;      /* the clusters of sound bitmaps */
  qcow2_broken_bitmap_fn fn;
  void *opaque;
};

static void
report (struct cleaning *c, const struct q2_bitmap *b, uint64_t host_off,
        const char *why)
{
  const struct qcow2_broken_bitmap broken = {
    .name = { b ? b->name : "", b ? b->name_len : 0 },
    .host_off = host_off, .why = why,
  };

  c->set->changed = true;
  if (c->fn != NULL)
    c->fn (c->opaque, &broken);
}

/* ---- Tables and bits ---------------------------------------------------- */

struct checking {
  struct cleaning *c;
  const struct q2_bitmap *b;
};

static int
check_entry (void *opaque, uint64_t index, uint64_t entry,
             struct qcow2_error *err)
{
  const struct checking *const k = opaque;
  const struct q2_bitmap_set *const set = k->c->set;
  const uint64_t host_off = q2_bitmap_table_cluster (entry);

  if (!q2_bitmap_table_is_valid (set->geo, entry) ||
      host_off >= q2_io_size (&set->edit->io))
    return q2_fail (err, QCOW2_ERR_CORRUPT,
                    k->b->table_offset + 8 * index,
                    "entry %" PRIu64 " of its table is 0x%016" PRIx64
                    ", which breaks the rules", index, entry);
  return host_off == 0 ? 0
    : q2_bitmap_claim_alone (set, k->c->mine, host_off, 1,
                             Q2_META_BITMAP_BITS, err);
}

static int
check_table (struct cleaning *c, const struct q2_bitmap *b,
             struct qcow2_error *err)
{
  const struct q2_bitmap_table t = {
    b->table_offset, b->table_entries, false,
  };
  const uint64_t size = q2_align_up (q2_io_size (&c->set->edit->io), 8);
  struct checking k = { c, b };

  if (b->extra_len > 0)
    return q2_fail (err, QCOW2_ERR_CORRUPT, b->table_offset,
                    "it has extra data, of a kind that is not known");
  if (!(b->flags & Q2_BITMAP_IN_USE) &&
      b->table_entries != q2_bitmap_nr_entries (c->set->geo, b))
    return q2_fail (err, QCOW2_ERR_CORRUPT, b->table_offset,
                    "its size does not fit the disk");
  if (t.offset > size || (uint64_t) t.entries * 8 > size - t.offset)
    return q2_fail (err, QCOW2_ERR_CORRUPT, b->table_offset,
                    "its table is not in the file");
  if (q2_bitmap_claim_alone (c->set, c->mine, t.offset,
                             (uint64_t) t.entries * 8, Q2_META_BITMAP_TABLE,
                             err) == -1)
    return -1;
  return q2_bitmap_table_walk (&c->set->edit->io, &t, check_entry, &k, err);
}

/* What it has claimed before it turned out to be broken is nobody else's,
 * either.  Returns -1 only if that could not be found out.
 */
static int
add_if_sound (struct cleaning *c, const struct q2_bitmap *b,
              uint64_t host_off, struct qcow2_error *err)
{
  const struct q2_bitmap_slot slot = { .b = *b };
  const struct qcow2_name name = { b->name, b->name_len };

  if (q2_bitmap_set_find (c->set, &name) != NULL)
    report (c, b, host_off, "there is another one with its name");
  else if (check_table (c, b, err) == 0)
    return q2_bitmap_set_add (c->set, &slot, err);
  else if (err->kind != QCOW2_ERR_CORRUPT)
    return -1;
  else
    report (c, b, host_off, err->text);
  return 0;
}

/* ---- The directory ------------------------------------------------------ */

/* The length of an entry that cannot be decoded; 0: it makes no sense. */
static uint64_t
guess_length (const unsigned char *p, uint64_t left)
{
  uint64_t len;

  if (left < Q2_BITMAP_FIXED)
    return 0;
  len = q2_align_up ((uint64_t) Q2_BITMAP_FIXED + load_be32 (p + 20) +
                     load_be16 (p + 18), 8);
  return len <= left ? len : 0;
}

static int
check_entries (struct cleaning *c, const struct q2_header *h,
               struct qcow2_error *err)
{
  const struct q2_bitmap_dir *const dir = &c->set->old;
  uint64_t pos = 0;
  uint32_t i;

  for (i = 0; i < h->nr_bitmaps && pos < dir->len; ++i) {
    const uint64_t host_off = h->bitmap_dir_offset + pos;
    struct q2_bitmap b;

    if (q2_bitmap_decode (c->set->geo, dir->bytes + pos, dir->len - pos,
                          host_off, &b, err) == 0) {
      if (add_if_sound (c, &b, host_off, err) == -1)
        return -1;
      pos += b.entry_len;
      continue;
    }
    report (c, NULL, host_off, err->text);
    b.entry_len = guess_length (dir->bytes + pos, dir->len - pos);
    if (b.entry_len == 0)
      break;
    if (!q2_assume (b.entry_len <= dir->len - pos, err))
      return -1;
    pos += b.entry_len;
  }
  if (i < h->nr_bitmaps)
    report (c, NULL, h->bitmap_dir_offset + pos,
            "the entries behind it cannot be found");
  else if (pos < dir->len)
    report (c, NULL, h->bitmap_dir_offset + pos,
            "the directory has more than its entries");
  return 0;
}

/* A directory that is not in the file has no entries. */
static int
check_directory (struct cleaning *c, struct qcow2_error *err)
{
  struct q2_edit *const e = c->set->edit;
  const struct q2_header h = q2_image_header (e->image);

  if (q2_bitmaps_read (&e->io, &h, &c->set->old, err) == -1) {
    if (err->kind != QCOW2_ERR_CORRUPT)
      return -1;
    report (c, NULL, h.bitmap_dir_offset, err->text);
    return 0;
  }
  return h.nr_bitmaps == 0 ? 0 : check_entries (c, &h, err);
}

static int
clean (struct cleaning *c, bool dry_run, struct qcow2_error *err)
{
  const struct q2_edit *const e = c->set->edit;
  int r;

  c->mine = q2_overlap_new (c->set->geo->cluster_bits, q2_io_budget (&e->io),
                            err);
  if (c->mine == NULL)
    return -1;
  r = check_directory (c, err);
  q2_overlap_free (c->mine);
  /* What is sound is all in the new set, and nothing of it was dropped. */
  if (r == 0 && !q2_assume (c->set->nr_dropped == 0, err))
    return -1;
  return r == -1 || dry_run ? r : q2_bitmap_set_publish (c->set, err);
}

int
qcow2_remove_broken_bitmaps (struct qcow2_image *image,
                             const struct qcow2_io *host, bool dry_run,
                             qcow2_broken_bitmap_fn fn, void *opaque,
                             struct qcow2_error *err)
{
  struct q2_bitmap_set set;
  struct q2_edit edit;
  struct cleaning c = { .set = &set, .fn = fn, .opaque = opaque };
  int r;

  if (q2_edit_begin (&edit, image, host, Q2_EDIT_BITMAPS,
                     "bitmaps cannot be removed", err) == -1)
    return -1;
  set = (struct q2_bitmap_set) { .edit = &edit, .geo = edit.w->geo };
  edit.aside = true;
  r = clean (&c, dry_run, err);
  q2_bitmap_set_destroy (&set);
  return q2_edit_end (&edit, r, err);
}
