/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_view.c - finds the internal snapshots of an image, and opens them.
 *
 * Owns      the parts of a view that its image does not share: the geometry of
 *           the snapshot's disk, its L1 table, its cache of L2 tables, and its
 *           ahead buffers.
 * Method    a snapshot is a disk with its own L1 table, so a view of it is a
 *           reader like that of the image, with the image's threads, codecs
 *           and decompressed clusters.  The L1 table is read only up to the
 *           end of the disk: past it there may be the memory of a virtual
 *           machine, which no client may see. Decompressed clusters are
 *           identified by the place of their stream.  A snapshot's streams
 *           stay in place, so entries of all readers can be shared.  Ahead
 *           buffers may have stale bytes of the active disk, but no table of
 *           the snapshot refers to those.
 * Locks     none: a view is constant, or its parts guard themselves.
 */
#include "config.h"

#include "view/snapshot_view.h"
#include "view/view.h"

#include "base/assume.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- The table ------------------------------------------------------ */

int
q2_image_walk_snapshots (struct qcow2_image *image,
                         const struct qcow2_io *host, q2_snapshot_fn fn,
                         void *opaque, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  const struct q2_header h = q2_image_header (image);
  uint64_t ignored;

  return q2_snapshots_walk (&io, &h, &image->geo, fn, opaque, &ignored, err);
}

void
q2_snapshot_keep (const struct q2_snapshot *s, uint64_t host_off,
                  struct q2_found_snapshot *ret)
{
  *ret = (struct q2_found_snapshot) { *s, host_off, 0 };
  ret->s.id = ret->s.name = NULL;
}

struct search {
  const struct qcow2_name *name;
  bool by_id, found;
  struct q2_found_snapshot *ret;
};

static int
look_at (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
         struct qcow2_error *err)
{
  struct search *const search = opaque;

  (void) err;
  if (search->by_id ? !q2_name_is (search->name, s->id, s->id_len)
      : !q2_name_is (search->name, s->name, s->name_len))
    return 0;
  search->found = true;
  q2_snapshot_keep (s, host_off, search->ret);
  return 1;
}

int
q2_snapshot_find (struct qcow2_image *image, const struct qcow2_io *host,
                  const struct qcow2_name *name, bool by_id,
                  struct q2_found_snapshot *ret, struct qcow2_error *err)
{
  const uint64_t number = q2_image_header (image).number;
  struct search search = { .name = name, .by_id = by_id, .ret = ret };
  char text[200];

  if (q2_image_walk_snapshots (image, host, look_at, &search, err) == -1)
    return -1;
  if (!search.found)
    return q2_fail_advise (err, QCOW2_ERR_NOT_FOUND,
                           QCOW2_ADVICE_LIST_SNAPSHOTS, QCOW2_NO_OFFSET,
                           "the image has no snapshot with the %s '%s'",
                           by_id ? "id" : "name",
                           q2_printable (text, sizeof text, name->bytes,
                                         name->len));
  ret->header_number = number;
  return 0;
}

/* ---- Its disk ------------------------------------------------------- */

/* The same as the image's, except for the size. */
static int
make_geometry (const struct qcow2_image *image,
               const struct q2_found_snapshot *f, struct q2_geometry *ret,
               struct qcow2_error *err)
{
  const struct q2_geometry *const geo = &image->geo;
  const struct q2_geometry_params params = {
    .version = geo->version, .virtual_size = f->s.disk_size,
    .cluster_bits = geo->cluster_bits, .extended_l2 = geo->extended_l2,
    .refcount_order = geo->refcount_order,
  };
  struct qcow2_error why;

  if (q2_geometry_init (ret, &params, &why) == -1)
    return q2_fail (err, QCOW2_ERR_CORRUPT, f->host_off,
                    "the snapshot at offset 0x%" PRIx64 " of the image has "
                    "a disk of %" PRIu64 " bytes, which cannot be",
                    f->host_off, f->s.disk_size);
  return 0;
}

struct q2_tables *
q2_snapshot_tables (struct qcow2_image *image, const struct qcow2_io *host,
                    const struct q2_found_snapshot *f,
                    struct q2_geometry *ret_geo, struct q2_pin *ret_pin,
                    struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  struct q2_tables *tables;

  /* Clusters of a data file have no refcounts. */
  if (q2_image_info (image).has_data_file) {
    q2_fail (err, QCOW2_ERR_CORRUPT, f->host_off,
             "the image has a snapshot although its data is in another "
             "file, where snapshots do not protect it");
    return NULL;
  }
  if (q2_snapshot_check_l1 (&image->geo, &f->s, f->host_off, err) == -1 ||
      make_geometry (image, f, ret_geo, err) == -1 ||
      q2_pin (image, ret_pin, Q2_PINNED_SNAPSHOT, f->s.l1_offset,
              f->header_number, err) == -1)
    return NULL;
  tables = q2_tables_new (ret_geo, &io, f->s.l1_offset, f->s.l1_entries,
                          image->cache_size, err);
  if (tables == NULL)
    q2_unpin (image, ret_pin);
  return tables;
}

/* ---- The view ------------------------------------------------------- */

static int
snapshot_pread (struct qcow2_image *view, const struct qcow2_io *host,
                void *buf, uint32_t count, uint64_t guest_off,
                struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (view, host);

  return q2_reader_pread (&view->reader, &io, buf, count, guest_off, err);
}

static int
snapshot_extents (struct qcow2_image *view, const struct qcow2_io *host,
                  uint64_t count, uint64_t guest_off, qcow2_extent_fn fn,
                  void *fn_opaque, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (view, host);
  bool ignored;

  return q2_reader_extents (&view->reader, &io, count, guest_off, fn,
                            fn_opaque, &ignored, err);
}

static int
snapshot_cache (struct qcow2_image *view, const struct qcow2_io *host,
                uint32_t count, uint64_t guest_off, struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (view, host);

  return q2_reader_cache (&view->reader, &io, count, guest_off, err);
}

/* Waits for jobs that use the reader; the threads belong to the image. */
static void
snapshot_close (struct qcow2_image *view)
{
  struct q2_reader *const r = &view->reader;

  q2_workers_wait (r->workers, &r->jobs);
  q2_ahead_free (r->ahead);
  q2_tables_free (r->tables);
  q2_unpin (view->parent, &view->pin);
  q2_streams_destroy (&r->streams);
  q2_superblock_destroy (&view->superblock);
  free (view);
}

static const struct q2_view_ops snapshot_ops = {
  .pread = snapshot_pread,
  .extents = snapshot_extents,
  .cache = snapshot_cache,
  .close = snapshot_close,
};

static int
make_reader (struct qcow2_image *view, const struct qcow2_io *host,
             const struct q2_found_snapshot *f, struct qcow2_error *err)
{
  struct q2_reader *const r = &view->reader;

  if (!q2_assume (view->parent->view == NULL && view->parent != view, err))
    return -1;
  q2_reader_share (r, &view->parent->reader);
  r->tables = q2_snapshot_tables (view->parent, host, f, &view->geo,
                                  &view->pin, err);
  if (r->tables == NULL)
    return -1;
  r->ahead = q2_ahead_new (Q2_MAX_AHEAD_BYTES, &view->parent->budget, err);
  return r->ahead == NULL ? -1 : 0;
}

struct qcow2_image *
q2_snapshot_open (struct qcow2_image *image, const struct qcow2_io *host,
                  const struct q2_found_snapshot *f, struct qcow2_error *err)
{
  struct qcow2_image *const view = calloc (1, sizeof *view);

  if (view == NULL) {
    q2_fail_nomem (err, "a view of a snapshot");
    return NULL;
  }
  view->view = &snapshot_ops;
  view->parent = image;
  if (make_reader (view, host, f, err) == 0) {
    q2_view_describe (view, view->geo.virtual_size,
                      "it is a snapshot, which never changes");
    return view;
  }
  qcow2_close (view);
  return NULL;
}
