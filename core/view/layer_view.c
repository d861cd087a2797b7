/* SPDX-License-Identifier: BSD-3-Clause */
/* layer_view.c - what one file of a chain has itself of its disk.
 *
 * Owns      the reader of each view, with its streams.
 * Method    the image, and each image below it, has a reader with its tables.
 *           A view of a layer is one more reader of the same tables, caches
 *           and buffers, which is told not to look below (read/reader.h,
 *           'alone').  So it needs no memory to speak of, and sees what is
 *           written to the image.
 * Locks     none: a view is constant, or its parts guard themselves.  A
 *           request of layer 0 is in flight (base/flight.h), since tables of
 *           the active disk change; all layers below are only read.
 */
#include "config.h"

#include "view/layer_view.h"
#include "view/view.h"

#include "base/assume.h"
#include "base/error.h"

#include <limits.h>
#include <stdlib.h>

struct layer_view {
  struct qcow2_image image;     /* first: callers have a pointer to it */
  const struct qcow2_io *host;  /* of its file; NULL: the caller's */
  uint64_t file_size;
  struct q2_io_shared *shared;
};

/* ---- Requests ------------------------------------------------------- */

/* What a request of a layer begins and ends with. */
struct use {
  struct qcow2_image *active;   /* whose disk it is, or NULL */
  struct q2_io io;
  unsigned token;
};

static struct use
enter (struct qcow2_image *view, const struct qcow2_io *host)
{
  const struct layer_view *const v = (struct layer_view *) view;
  struct use use = { .active = NULL };

  if (v->host != NULL) {
    use.io = (struct q2_io) {
      .host = v->host, .file_size = v->file_size, .shared = v->shared,
    };
    return use;
  }
  (void) q2_check (view->parent->view == NULL);
  use.active = view->parent;
  use.io = q2_image_io (use.active, host);
  use.token = q2_flight_enter (&use.active->writer.flight);
  return use;
}

static int
leave (const struct use *use, int result)
{
  if (use->active)
    q2_flight_leave (&use->active->writer.flight, use->token);
  return result;
}

static int
layer_pread (struct qcow2_image *view, const struct qcow2_io *host, void *buf,
             uint32_t count, uint64_t guest_off, struct qcow2_error *err)
{
  const struct use use = enter (view, host);

  if (count == 0)
    return leave (&use, 0);
  return leave (&use, q2_reader_pread (&view->reader, &use.io, buf, count,
                                       guest_off, err));
}

static int
layer_extents (struct qcow2_image *view, const struct qcow2_io *host,
               uint64_t count, uint64_t guest_off, qcow2_extent_fn fn,
               void *fn_opaque, struct qcow2_error *err)
{
  const struct use use = enter (view, host);
  bool ignored;

  return leave (&use, q2_reader_extents (&view->reader, &use.io, count,
                                         guest_off, fn, fn_opaque, &ignored,
                                         err));
}

static int
layer_cache (struct qcow2_image *view, const struct qcow2_io *host,
             uint32_t count, uint64_t guest_off, struct qcow2_error *err)
{
  const struct use use = enter (view, host);

  if (use.io.host->ops->cache == NULL)
    return leave (&use, 0);
  return leave (&use, q2_reader_cache (&view->reader, &use.io, count,
                                       guest_off, err));
}

/* Waits for jobs that use the reader; the threads belong to the image. */
static void
layer_close (struct qcow2_image *view)
{
  q2_workers_wait (view->reader.workers, &view->reader.jobs);
  q2_streams_destroy (&view->reader.streams);
  q2_superblock_destroy (&view->superblock);
  free (view);
}

static const struct q2_view_ops layer_ops = {
  .pread = layer_pread,
  .extents = layer_extents,
  .cache = layer_cache,
  .close = layer_close,
};

/* ---- Opening -------------------------------------------------------- */

/* Numbers as people write them; UINT_MAX: it is none, or too large. */
static unsigned
parse_number (const struct qcow2_name *name)
{
  unsigned n = 0;

  if (name->len == 0 || name->len > 6 ||
      (name->len > 1 && name->bytes[0] == '0'))
    return UINT_MAX;
  for (size_t i = 0; i < name->len; ++i) {
    if (name->bytes[i] < '0' || name->bytes[i] > '9')
      return UINT_MAX;
    n = n * 10 + (unsigned) (name->bytes[i] - '0');
  }
  return n;
}

unsigned
qcow2_count_layers (const struct qcow2_image *image)
{
  unsigned n = 1;

  for (const struct q2_store *s = &image->store; s->below; s = s->below_store)
    ++n;
  return n;
}

static int
fail_not_found (const struct qcow2_image *image,
                const struct qcow2_name *name, unsigned n,
                struct qcow2_error *err)
{
  const unsigned last = qcow2_count_layers (image) - 1;
  char text[200];

  q2_printable (text, sizeof text, name->bytes, name->len);
  if (n == UINT_MAX)
    return q2_fail (err, QCOW2_ERR_NOT_FOUND, QCOW2_NO_OFFSET,
                    "'%s' is no number of a layer, which are 0 to %u", text,
                    last);
  if (image->store.below_missing)
    return q2_fail (err, QCOW2_ERR_REFUSED, QCOW2_NO_OFFSET,
                    "the backing file of the image is missing");
  return q2_fail (err, QCOW2_ERR_NOT_FOUND, QCOW2_NO_OFFSET,
                  "there is no layer %s: the last one is %u", text, last);
}

/* Find it: its reader, and how its file is reached. */
static const struct q2_reader *
find (const struct qcow2_image *image, const struct qcow2_name *name,
      struct layer_view *v, struct qcow2_error *err)
{
  const struct q2_store *store = &image->store;
  const struct q2_reader *reader = &image->reader;
  const unsigned n = parse_number (name);

  for (unsigned i = 0; i < n; ++i) {
    if (store->below == NULL) {
      fail_not_found (image, name, n, err);
      return NULL;
    }
    reader = store->below;
    v->host = store->below_host;
    v->file_size = store->below_file_size;
    v->shared = store->below_shared;
    store = store->below_store;
  }
  return reader;
}

/* All but its streams is the layer's. */
static void
make_reader (struct q2_reader *r, const struct q2_reader *of)
{
  q2_reader_share (r, of);
  r->alone = true;
  (void) q2_check (of->tables != NULL);
  r->tables = of->tables;
  r->ahead = of->ahead;
}

struct qcow2_image *
q2_layer_open (struct qcow2_image *image, const struct qcow2_name *name,
               struct qcow2_error *err)
{
  struct layer_view *const v = calloc (1, sizeof *v);
  const struct q2_reader *of;

  if (v == NULL) {
    q2_fail_nomem (err, "a view of a layer");
    return NULL;
  }
  of = find (image, name, v, err);
  if (of == NULL) {
    free (v);
    return NULL;
  }
  v->image.view = &layer_ops;
  v->image.parent = v->image.base = image;
  make_reader (&v->image.reader, of);
  q2_view_describe (&v->image, q2_tables_geometry (of->tables)->virtual_size,
                    "it is one layer of a chain, which is only looked at");
  return (struct qcow2_image *) v;      /* its first member */
}
