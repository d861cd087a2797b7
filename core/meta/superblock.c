/* SPDX-License-Identifier: BSD-3-Clause */
/* superblock.c - reads, plans, writes and publishes the header.
 *
 * Owns      the header area of the file, from the moment the image is open.
 * Method    in place: copy the current header, let the caller edit the copy,
 *           write a span of it, publish the copy.  In parts: read what is in
 *           the file, let the caller edit that, plan, carry the plan out with
 *           a flush after each write, decode what is there now, and publish
 *           it.
 * Locks     sb->lock over all of a change, current_lock while the header is
 *           copied.
 */
#include "config.h"

#include "format/header_plan.h"
#include "meta/superblock.h"

#include "base/error.h"
#include "base/plant.h"

#include <stdlib.h>
#include <string.h>

void
q2_superblock_describe (const struct q2_header *h, struct qcow2_info *info)
{
  info->version = h->version;
  info->virtual_size = h->virtual_size;
  info->cluster_size = UINT64_C (1) << h->cluster_bits;
  info->refcount_bits = h->version == 1 ? 0 : 1u << h->refcount_order;
  info->extended_l2 = h->incompatible & Q2_INCOMPAT_EXTENDED_L2;
  info->compression = h->compression;
  info->dirty = h->incompatible & Q2_INCOMPAT_DIRTY;
  info->corrupt = h->incompatible & Q2_INCOMPAT_CORRUPT;
  info->lazy_refcounts = h->compatible & Q2_COMPAT_LAZY_REFCOUNTS;
  info->nr_snapshots = h->nr_snapshots;
  info->nr_bitmaps = h->nr_bitmaps;
  info->encryption = h->crypt == Q2_CRYPT_LUKS ? QCOW2_ENCRYPTION_LUKS
    : h->crypt == Q2_CRYPT_AES ? QCOW2_ENCRYPTION_AES
    : QCOW2_ENCRYPTION_NONE;
  info->has_backing_file = h->backing_file.len > 0;
  info->has_data_file = h->incompatible & Q2_INCOMPAT_DATA_FILE;
}

/* ---- The current header ----------------------------------------------- */

void
q2_superblock_init (struct q2_superblock *sb, const struct q2_header *header,
                    const struct qcow2_info *info)
{
  memset (sb, 0, sizeof *sb);
  q2_mutex_init (&sb->lock, 3, "superblock.lock");
  q2_mutex_init (&sb->current_lock, 10, "superblock.current_lock");
  sb->current = *header;
  sb->current.number = 1;
  sb->info = *info;
  if (header->version > 0)
    q2_superblock_describe (header, &sb->info);
}

void
q2_superblock_destroy (struct q2_superblock *sb)
{
  if (sb->current.number == 0)
    return;
  q2_mutex_destroy (&sb->current_lock);
  q2_mutex_destroy (&sb->lock);
  sb->current.number = 0;
}

/* Reading changes nothing but the lock. */
static struct q2_mutex *
lock_of (const struct q2_superblock *sb)
{
  return &((struct q2_superblock *) sb)->current_lock;
}

struct q2_header
q2_superblock_header (const struct q2_superblock *sb)
{
  struct q2_header header;

  q2_mutex_lock (lock_of (sb));
  header = sb->current;
  q2_mutex_unlock (lock_of (sb));
  return header;
}

struct qcow2_info
q2_superblock_info (const struct q2_superblock *sb)
{
  struct qcow2_info info;

  q2_mutex_lock (lock_of (sb));
  info = sb->info;
  q2_mutex_unlock (lock_of (sb));
  return info;
}

bool
q2_superblock_is_dirty_surely (const struct q2_superblock *sb)
{
  bool surely;

  q2_mutex_lock (lock_of (sb));
  surely = (sb->current.incompatible & Q2_INCOMPAT_DIRTY) &&
    (!sb->marks_in_doubt || Q2_PLANTED (Q2_PLANT_LAZY_TRUST));
  q2_mutex_unlock (lock_of (sb));
  return surely;
}

static void
set_in_doubt (struct q2_superblock *sb, bool in_doubt)
{
  q2_mutex_lock (&sb->current_lock);
  sb->marks_in_doubt = in_doubt;
  q2_mutex_unlock (&sb->current_lock);
}

static void
publish_locked (struct q2_superblock *sb, const struct q2_header *header)
{
  uint64_t number;

  q2_mutex_check_held (&sb->lock);
  number = sb->current.number + 1;
  q2_mutex_lock (&sb->current_lock);
  sb->current = *header;
  sb->current.number = number;
  q2_superblock_describe (header, &sb->info);
  q2_mutex_unlock (&sb->current_lock);
}

/* ---- In place --------------------------------------------------------- */

void
q2_superblock_begin (struct q2_superblock *sb,
                     struct q2_superblock_edit *edit)
{
  q2_mutex_lock (&sb->lock);
  edit->sb = sb;
  edit->features = false;
  edit->header = sb->current;
}

int
q2_superblock_write (struct q2_superblock_edit *edit, const struct q2_io *io,
                     enum q2_header_span span, struct qcow2_error *err)
{
  struct q2_header_bytes b;

  /* A write that has failed may still reach the disk, until a newer one. */
  if (span == Q2_SPAN_FEATURES) {
    edit->features = true;
    set_in_doubt (edit->sb, true);
  }
  q2_header_encode_span (&edit->header, span, &b);
  return q2_io_write (io, b.bytes, b.len, b.off, QCOW2_IO_HEADER, err);
}

void
q2_superblock_end (struct q2_superblock_edit *edit, bool durable)
{
  if (durable)
    publish_locked (edit->sb, &edit->header);
  if (durable && edit->features)
    set_in_doubt (edit->sb, false);
  q2_mutex_unlock (&edit->sb->lock);
}

int
q2_superblock_reload (struct q2_superblock *sb, const struct q2_io *io,
                      struct qcow2_error *err)
{
  struct q2_superblock_edit edit;
  unsigned char bytes[Q2_SPANS_END];
  int r;

  q2_superblock_begin (sb, &edit);
  r = q2_io_read (io, bytes, sizeof bytes, 0, QCOW2_IO_HEADER, err);
  if (r == 0)
    q2_header_decode_span (bytes, Q2_SPAN_REFCOUNT_TABLE, &edit.header);
  if (r == 0 && edit.header.version >= 3)
    q2_header_decode_span (bytes, Q2_SPAN_FEATURES, &edit.header);
  q2_superblock_end (&edit, r == 0);
  return r;
}

/* ---- In parts --------------------------------------------------------- */

static int
check_atomic (const struct q2_header_plan *plan, unsigned flags,
              struct qcow2_error *err)
{
  if (plan->atomic || (flags & Q2_SUPERBLOCK_FORCE))
    return 0;
  return q2_fail (err, QCOW2_ERR_NO_SPACE, 0,
                  "the header cannot be changed safely: the old and the new "
                  "one do not fit into the first cluster together, so a "
                  "crash in between could destroy the image");
}

/* The first cluster: more than the header area, so that a plan knows all that
 * is in use.
 */
static int
read_area (const struct q2_superblock *sb, const struct q2_io *io,
           struct q2_bytes *area, struct qcow2_error *err)
{
  area->len = (size_t) 1 << sb->current.cluster_bits;
  area->data = malloc (area->len);
  if (area->data == NULL)
    return q2_fail_nomem (err, "the image header");
  if (q2_io_read (io, area->data, area->len, 0, QCOW2_IO_HEADER, err) == 0)
    return 0;
  free (area->data);
  return -1;
}

static int
carry_out (const struct q2_io *io, const struct q2_header_plan *plan,
           struct qcow2_error *err)
{
  for (size_t i = 0; i < plan->nr_writes; ++i) {
    const struct q2_header_write *const w = &plan->writes[i];

    if (q2_io_write (io, w->bytes, w->len, w->off, QCOW2_IO_HEADER, err) == -1)
      return -1;
    if (!Q2_PLANTED (Q2_PLANT_LAZY_SWITCH) && q2_io_flush (io, err) == -1)
      return -1;
  }
  return 0;
}

/* Writes what the plan says and makes it current. */
static int
write_and_publish (struct q2_superblock *sb, const struct q2_io *io,
                   const struct q2_header_plan *plan, struct qcow2_error *err)
{
  struct q2_header header;
  struct q2_geometry geo;

  if (q2_header_decode (plan->after, plan->len, &header, &geo, err) == -1)
    return -1;
  if (carry_out (io, plan, err) == -1) {
    sb->in_doubt = true;
    return -1;
  }
  publish_locked (sb, &header);
  return 0;
}

/* On success the caller frees the plan. */
static int
plan_safely (struct q2_header_plan *plan, const struct q2_bytes *area,
             const struct q2_header_parts *parts, unsigned flags,
             struct qcow2_error *err)
{
  if (q2_header_plan (plan, area->data, area->len, parts, err) == -1)
    return -1;
  if (check_atomic (plan, flags, err) == 0)
    return 0;
  q2_header_plan_free (plan);
  return -1;
}

/* If it does not fit, do without the names of feature bits, which nobody
 * needs.
 */
static int
plan_somehow (struct q2_header_plan *plan, const struct q2_bytes *area,
              struct q2_header_parts *parts, unsigned flags,
              struct qcow2_error *err)
{
  const bool names = parts->has_ext[Q2_EXT_FEATURE_NAMES];
  const int r = plan_safely (plan, area, parts, names ? 0 : flags, err);

  if (r == 0 || !names || err->kind != QCOW2_ERR_NO_SPACE)
    return r;
  if (q2_header_set_ext (parts, Q2_EXT_FEATURE_NAMES, NULL, 0, err) == -1)
    return -1;
  return plan_safely (plan, area, parts, flags, err);
}

static int
change_area (struct q2_superblock *sb, const struct q2_io *io,
             const struct q2_bytes *area, struct q2_header_parts *parts,
             unsigned flags, struct qcow2_error *err)
{
  struct q2_header_plan plan;
  int r;

  if (plan_somehow (&plan, area, parts, flags, err) == -1)
    return -1;
  r = flags & Q2_SUPERBLOCK_TRY ? 0 : write_and_publish (sb, io, &plan, err);
  q2_header_plan_free (&plan);
  return r;
}

static int
change_locked (struct q2_superblock *sb, const struct q2_io *io,
               q2_superblock_edit_fn edit, void *opaque, unsigned flags,
               struct qcow2_error *err)
{
  struct q2_header_parts parts;
  struct q2_bytes area;
  int r;

  q2_mutex_check_held (&sb->lock);
  if (read_area (sb, io, &area, err) == -1)
    return -1;
  r = q2_header_parts_load (&parts, area.data, area.len, err);
  if (r == 0) {
    r = edit (opaque, &parts, err);
    if (r == 0)
      r = change_area (sb, io, &area, &parts, flags, err);
    q2_header_parts_free (&parts);
  }
  free (area.data);
  return r;
}

int
q2_superblock_change (struct q2_superblock *sb, const struct q2_io *io,
                      q2_superblock_edit_fn edit, void *opaque,
                      unsigned flags, struct qcow2_error *err)
{
  int r;

  q2_mutex_lock (&sb->lock);
  sb->in_doubt = false;
  r = change_locked (sb, io, edit, opaque, flags, err);
  q2_mutex_unlock (&sb->lock);
  return r;
}
