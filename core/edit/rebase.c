/* SPDX-License-Identifier: BSD-3-Clause */
/* rebase.c - another backing image, and the same disk.
 *
 * Owns      which bytes have to be copied for that.
 * Method    wherever the image has nothing of its own, what it reads there is
 *           compared with what the new backing image has.  Where they differ
 *           the old bytes become the image's own, by writes like those of a
 *           guest, or entries that say zeros; until the switch that changes
 *           nothing, since the disk reads the same with them and without.
 *           Then the header names the new image, after all of that is durable.
 *
 *           What both say are zeros is not read.  If the new image is below
 *           the old one, only what those in between have is looked at.
 * Locks     the gate is closed, and the image is nobody else's; writes take
 *           what those of a guest take.
 */
#include "config.h"

#include "edit/amend.h"
#include "edit/chain.h"

#include "map/map.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <string.h>

/* Read at once: a multiple of the largest cluster. */
#define PIECE (UINT64_C (4) << 20)
/* Looked at in tables at once, so that there is progress to tell. */
#define STEP (UINT64_C (256) << 20)

#define CANCELLED \
  "rebasing was cancelled; the image has its old backing file"

/* The kind of the disk from 'end' backwards; 0: not known. */
struct known {
  uint64_t end;
  bool zeros;
};

struct rebase {
  struct q2_edit edit;
  struct q2_link_down old, new; /* below the image */
  bool has_old, has_new;
  bool above;                   /* 'old' stands on 'new' */
  const struct qcow2_file *below;
  struct known old_kind, new_kind;
  unsigned char *old_bytes, *new_bytes; /* PIECE each */
  struct q2_progress progress;  /* in bytes of the disk */
  const struct qcow2_name *file, *format;
};

/* ---- What both sides have ---------------------------------------------- */

static int
fail_below (const struct rebase *r, const struct q2_link_down *l,
            struct qcow2_error *err)
{
  return q2_chain_fail (l == &r->new ? "new backing file" : "old backing file",
                        err);
}

static int
note_first (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct known *const k = opaque;

  k->end = guest_off + len;
  k->zeros = type != QCOW2_EXTENT_DATA;
  return 1;
}

/* What 'l', if there is one, has from 'pos' on. */
static int
look (const struct rebase *r, const struct q2_link_down *l, bool exists,
      uint64_t pos, uint64_t end, struct known *k, struct qcow2_error *err)
{
  bool all;

  if (k->end > pos)
    return 0;
  *k = (struct known) { end, true };
  if (!exists || pos >= l->size)
    return 0;
  *k = (struct known) { q2_min (end, l->size), false };
  return q2_reader_extents (l->reader, &l->io, k->end - pos, pos, note_first,
                            k, &all, err) == 0 ? 0 : fail_below (r, l, err);
}

static int
read_piece (const struct rebase *r, const struct q2_link_down *l, bool exists,
            unsigned char *buf, uint64_t pos, uint64_t len,
            struct qcow2_error *err)
{
  const uint64_t inside =
    exists && pos < l->size ? q2_min (len, l->size - pos) : 0;

  memset (buf + inside, 0, len - inside);
  if (inside == 0 ||
      q2_reader_pread (l->reader, &l->io, buf, inside, pos, err) == 0)
    return 0;
  return fail_below (r, l, err);
}

/* ---- Copying ------------------------------------------------------------ */

enum fate { FATE_SAME, FATE_ZERO, FATE_DATA };

static enum fate
fate_of (const unsigned char *old, const unsigned char *new, uint64_t len)
{
  if (memcmp (old, new, len) == 0)
    return FATE_SAME;
  return q2_all_are (old, 0, len) ? FATE_ZERO : FATE_DATA;
}

static int
keep (struct rebase *r, enum fate fate, const unsigned char *bytes,
      uint64_t pos, uint64_t len, struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;

  if (fate == FATE_SAME)
    return 0;
  if (q2_writer_is_pressed (e->w) && q2_edit_commit (e, err) == -1)
    return -1;
  return fate == FATE_ZERO
    ? q2_writer_zero (e->w, &e->io, len, pos, 0, err)
    : q2_writer_pwrite (e->w, &e->io, bytes, len, pos, err);
}

/* Of [pos, pos+len), at most PIECE; it begins with a unit. */
static int
compare (struct rebase *r, uint64_t pos, uint64_t len,
         struct qcow2_error *err)
{
  const uint64_t unit = UINT64_C (1) << r->edit.w->geo->subcluster_bits;
  uint64_t n, done = 0;

  if (!q2_assume (len > 0 && len <= PIECE && q2_is_aligned (pos, unit), err))
    return -1;
  if (read_piece (r, &r->old, r->has_old, r->old_bytes, pos, len, err) == -1 ||
      read_piece (r, &r->new, r->has_new, r->new_bytes, pos, len, err) == -1)
    return -1;
  for (uint64_t start = 0; start < len; start = done) {
    const enum fate fate = fate_of (r->old_bytes + start,
                                    r->new_bytes + start,
                                    q2_min (unit, len - start));

    do {
      done += q2_min (unit, len - done);
      n = q2_min (unit, len - done);
    } while (n > 0 && fate_of (r->old_bytes + done, r->new_bytes + done, n) ==
             fate);
    if (keep (r, fate, r->old_bytes + start, pos + start, done - start, err)
        == -1)
      return -1;
  }
  return 0;
}

/* The first part of a range in which the image has nothing. */
static int
do_some (struct rebase *r, uint64_t pos, uint64_t end, uint64_t *ret_end,
         struct qcow2_error *err)
{
  const uint64_t unit = UINT64_C (1) << r->edit.w->geo->subcluster_bits;
  uint64_t known;

  if (r->above) {
    enum q2_run_kind kind;
    uint64_t len;

    if (q2_chain_look (&r->old, r->below->image, pos, end - pos, &kind, &len,
                       err) == -1)
      return fail_below (r, &r->old, err);
    *ret_end = pos + len == end ? end : q2_align_down (pos + len, unit);
    if (kind == Q2_RUN_UNALLOCATED && *ret_end > pos)
      return 0;
  }
  if (look (r, &r->old, r->has_old, pos, end, &r->old_kind, err) == -1 ||
      look (r, &r->new, r->has_new, pos, end, &r->new_kind, err) == -1)
    return -1;
  known = q2_min (end, q2_min (r->old_kind.end, r->new_kind.end));
  *ret_end = known == end ? end : q2_align_down (known, unit);
  if (r->old_kind.zeros && r->new_kind.zeros && *ret_end > pos)
    return 0;
  *ret_end = q2_min (end, q2_min (q2_align_up (known, unit), pos + PIECE));
  return compare (r, pos, *ret_end - pos, err);
}

/* [pos, end) has nothing of its own. */
static int
do_gap (struct rebase *r, uint64_t pos, uint64_t end, struct qcow2_error *err)
{
  while (pos < end) {
    uint64_t next = pos;

    if (do_some (r, pos, end, &next, err) == -1 ||
        !q2_assume (next > pos && next <= end, err) ||
        q2_progress_add (&r->progress, next - pos, CANCELLED, err) == -1)
      return -1;
    pos = next;
  }
  return 0;
}

static int
copy (struct rebase *r, struct qcow2_error *err)
{
  const uint64_t size = r->progress.total;

  for (uint64_t pos = 0; pos < size;) {
    struct q2_run run;
    size_t nr;

    if (q2_map_scan (r->edit.w->tables, &r->edit.io, pos,
                     q2_min (STEP, size - pos), &run, 1, &nr, err) == -1 ||
        !q2_assume (nr == 1 && run.len > 0 && run.len <= size - pos, err))
      return -1;
    if (run.kind == Q2_RUN_UNALLOCATED
        ? do_gap (r, pos, pos + run.len, err) == -1
        : q2_progress_add (&r->progress, run.len, CANCELLED, err) == -1)
      return -1;
    pos += run.len;
  }
  return 0;
}

/* ---- All of it ---------------------------------------------------------- */

static int
edit_header (void *opaque, struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  const struct rebase *const r = opaque;

  return q2_backing_set (parts, r->file, r->format, err);
}

static int
run (struct rebase *r, unsigned flags, struct qcow2_error *err)
{
  const unsigned force =
    flags & QCOW2_SET_BACKING_FORCE ? Q2_SUPERBLOCK_FORCE : 0;
  int result = -1;

  if (q2_edit_try (&r->edit, edit_header, r, force, err) == -1)
    return -1;
  r->old_bytes = q2_buffer_alloc (PIECE);
  r->new_bytes = q2_buffer_alloc (PIECE);
  if (r->old_bytes == NULL || r->new_bytes == NULL)
    q2_fail_nomem (err, "comparing backing images");
  else if (copy (r, err) == 0 &&
           q2_assume (r->progress.done == r->progress.total, err) &&
           q2_progress_last (&r->progress, CANCELLED, err) == 0)
    result = q2_edit_switch (&r->edit, edit_header, r, force, err);
  q2_buffer_free (r->old_bytes, PIECE);
  q2_buffer_free (r->new_bytes, PIECE);
  return result;
}

static int
check (const struct rebase *r, const struct qcow2_image *image,
       struct qcow2_error *err)
{
  if (q2_backing_check (image, r->file, r->format, err) == -1)
    return -1;
  if (r->has_new != (r->file != NULL && r->file->len > 0))
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "a new backing file needs both a name and an image");
  if (r->has_new && r->below->image->view != NULL)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "a part of an image cannot be a backing image");
  if (q2_image_header (image).nr_snapshots > 0)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "the image has snapshots, which read what they do not "
                    "have themselves from the backing file: with another one "
                    "they would change");
  return 0;
}

static void
look_below (struct rebase *r, struct qcow2_image *image,
            const struct qcow2_io *host)
{
  const struct q2_link_down top = q2_chain_top (image, host);

  r->has_old = q2_chain_down (&top, &r->old);
  if (r->below == NULL || r->below->image == NULL)
    return;
  r->has_new = true;
  r->new = q2_chain_top (r->below->image, r->below->io);
  r->above = q2_chain_has (&top, r->below->image);
}

int
qcow2_rebase (struct qcow2_image *image, const struct qcow2_io *host,
              const struct qcow2_name *file, const struct qcow2_name *format,
              const struct qcow2_file *below, unsigned flags,
              const struct qcow2_progress *progress, struct qcow2_error *err)
{
  static const char what[] = "the image cannot be rebased";
  struct rebase r = { .below = below, .file = file, .format = format };
  int result;

  if (q2_edit_check (image, what, err) == -1)
    return -1;
  q2_progress_init (&r.progress, progress);
  r.progress.total = q2_image_info (image).virtual_size;
  look_below (&r, image, host);
  if (check (&r, image, err) == -1 ||
      q2_edit_begin (&r.edit, image, host, Q2_EDIT_IMAGE, what, err) == -1)
    return -1;
  if (r.has_new)
    image->store.below_reach = q2_max (image->store.below_reach, r.new.size);
  result = run (&r, flags, err);
  return q2_edit_end_last (&r.edit, result, err);
}
