/* SPDX-License-Identifier: BSD-3-Clause */
/* resize_switch.c - the moment in which the disk has its new size.
 *
 * Owns      the new header, and the list of what only the old one names.
 * Method    the size, the length and the place of the L1 table lie next to
 *           each other in the first sector of the header, and with them the
 *           directory of bitmaps changes: one switch.
 * Locks     the gate is closed.
 */
#include "config.h"

#include "edit/resize.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/plant.h"

int
q2_resize_note_old (struct q2_resize *r, uint64_t host_off, uint64_t bytes,
                    struct qcow2_error *err)
{
  const unsigned bits = r->old_geo.cluster_bits;

  if (bytes == 0)
    return 0;
  if (!q2_frees_reserve (&r->old, 1))
    return q2_fail_nomem (err, "a list of clusters");
  q2_frees_add (&r->old, host_off >> bits, q2_ceil_shift (bytes, bits));
  return 0;
}

static int
edit_header (void *opaque, struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  const struct q2_resize *const r = opaque;

  parts->fields.virtual_size = r->new_geo.virtual_size;
  parts->fields.l1_offset = r->l1_off;
  parts->fields.l1_entries = r->l1_entries;
  return r->nr_bitmaps == 0 ? 0
    : q2_header_set_bitmaps (parts, r->nr_bitmaps, r->dir_off, r->dir_bytes,
                             err);
}

static void
let_go_old (struct q2_resize *r)
{
  for (size_t i = 0; i < r->old.nr; ++i)
    q2_edit_let_go (&r->edit, r->old.runs[i].cluster, r->old.runs[i].nr);
}

/* Who has a bitmap open reads its table, where it is; bits are only let go
 * together with that.  Who merges it counts on the size of the disk.
 */
static bool
is_old_pinned_locked (const struct q2_resize *r)
{
  const struct qcow2_image *const image = r->edit.image;
  const unsigned bits = r->old_geo.cluster_bits;

  if (q2_is_any_pinned_locked (image, Q2_PINNED_SOURCE))
    return true;
  if (!q2_is_any_pinned_locked (image, Q2_PINNED_BITMAP))
    return false;
  for (size_t i = 0; i < r->old.nr; ++i)
    for (uint64_t j = 0; j < r->old.runs[i].nr; ++j)
      if (q2_is_pinned_locked (image, (r->old.runs[i].cluster + j) << bits))
        return true;
  return false;
}

static int
fail_pinned (struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_BUSY, QCOW2_ADVICE_CLOSE_VIEWS,
                         QCOW2_NO_OFFSET, "the disk cannot change its size "
                         "while a bitmap of it is open that would change, "
                         "too");
}

static int
switch_unless_pinned (struct q2_resize *r, struct qcow2_error *err)
{
  struct q2_pins *const pins = &r->edit.image->pins;
  int result;

  q2_mutex_lock (&pins->lock);
  result = is_old_pinned_locked (r) ? fail_pinned (err)
    : q2_edit_switch (&r->edit, edit_header, r, 0, err);
  q2_mutex_unlock (&pins->lock);
  return result;
}

int
q2_resize_switch (struct q2_resize *r, struct qcow2_error *err)
{
  const bool early = Q2_PLANTED (Q2_PLANT_LET_GO_EARLY);

  r->edit.done = "the disk has its new size";
  if (q2_progress_last (&r->progress, Q2_RESIZE_CANCELLED, err) == -1)
    return -1;
  if (early)
    let_go_old (r);
  if (switch_unless_pinned (r, err) == -1)
    return -1;
  if (!early)
    let_go_old (r);
  return 0;
}
