/* SPDX-License-Identifier: BSD-3-Clause */
/* filter.c - the nbdkit callbacks.
 *
 * Owns      struct handle, one per connection.
 * Method    an image that can be written to has one way to the file for
 *           all its connections, and .open does not open the layer below for
 *           them: it only takes the image's state, and 'next' is NULL.  That
 *           requires that every callback is defined here: nbdkit's defaults
 *           ask the layer below.  Otherwise .open opens that layer, .prepare
 *           asks what it can do and takes the state, and requests use this
 *           connection's 'next' as their way to the file.
 *           .finalize gives the state back, because after it nothing can be
 *           written, and a server that has been told to stop does not call
 *           .close.
 * Locks     none: a handle is constant between .prepare and .close, but for
 *           what below.lock guards.
 */
#include "config.h"

#include "layers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct handle {
  char *exportname;
  struct file_id id;            /* of the file, before it was opened */
  struct below below;
  bool readonly;                /* whatever the image allows */
  struct state *state;          /* NULL before .prepare, after .finalize */
  struct disk *disk;            /* the state's */
  const struct qcow2_io *io;    /* the way to the file */
  char description[128];
};

/* The server loads this file once, however often the filter is in the
 * chain, so the instances would share all that is global here.
 */
static void
qcow2_load (void)
{
  static unsigned loaded;

  if (++loaded > 1) {
    nbdkit_error ("the qcow2 filter can be used only once on a command "
                  "line; serve the outer image with one nbdkit, and what "
                  "is inside it with another over the nbd plugin");
    exit (EXIT_FAILURE);
  }
}

static int
qcow2_get_ready (int final_thread_model)
{
  config.thread_model = final_thread_model;
  return 0;
}

static int
qcow2_after_fork (nbdkit_backend *backend)
{
  shared_set_backend (backend);
  return 0;
}

/* The last moment at which the layer below can be used: what images keep
 * open there must be closed now.
 */
static void
qcow2_cleanup (nbdkit_backend *backend)
{
  state_cleanup ();
}

#if NBDKIT_AT_LEAST (1, 36)
static const char *
yes_no (bool b)
{
  return b ? "yes" : "no";
}

static void
qcow2_dump_plugin (void)
{
  printf ("qcow2_version=%s\n", qcow2_version ());
  printf ("qcow2_zlib=%s\n", yes_no (qcow2_has_zlib ()));
  printf ("qcow2_libdeflate=%s\n", yes_no (qcow2_has_libdeflate ()));
  printf ("qcow2_zstd=%s\n", yes_no (qcow2_has_zstd ()));
  printf ("qcow2_libnbd=%s\n", yes_no (nbdfile_supported ()));
  printf ("qcow2_luks=%s\n", yes_no (qcow2_has_nettle ()));
}
#endif

/* ---- Connections ------------------------------------------------------- */

/* 'own' is NULL if the connection's context cannot be used any more. */
static void
let_go (struct handle *h, const struct qcow2_io *own)
{
  /* Background work must not outlive the context it uses. */
  if (h->state)
    disk_leave (state_disk (h->state), &h->below);
  below_drain (&h->below);
  if (h->state)
    state_release (h->state, own);
  h->state = NULL;
  below_drain (&h->below);
}

static int
qcow2_finalize (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  let_go (h, &h->below.io);
  return 0;
}

static void
handle_free (struct handle *h)
{
  let_go (h, NULL);
  pthread_cond_destroy (&h->below.returned);
  pthread_mutex_destroy (&h->below.lock);
  free (h->exportname);
  free (h);
}

static struct handle *
handle_new (const char *exportname, bool readonly)
{
  struct handle *h = calloc (1, sizeof *h);

  if (h == NULL || (h->exportname = strdup (exportname)) == NULL) {
    nbdkit_error ("qcow2: out of memory for a connection");
    free (h);
    return NULL;
  }
  pthread_mutex_init (&h->below.lock, NULL);
  pthread_cond_init (&h->below.returned, NULL);
  h->readonly = readonly;
  return h;
}

static void *
qcow2_filter_open (nbdkit_next_open *next, nbdkit_context *nxdata,
                   int readonly, const char *exportname, int is_tls)
{
  const bool shared = !readonly && writer_possible ();
  struct handle *h = handle_new (exportname, readonly);

  if (h == NULL)
    return NULL;
  /* Taken before the plugin opens the file and compared afterwards: if
   * nothing changed in between, it is the file the plugin has open.
   */
  file_id_get (&h->id, exportname);
  if (shared) {
    h->state = state_acquire (exportname, &h->id, NULL, false);
    if (h->state == NULL)
      goto fail;
    if (state_disk (h->state)->writable)
      return h;
  }
  if (next (nxdata, readonly || shared, exportname) == 0)
    return h;

 fail:
  handle_free (h);
  return NULL;
}

/* Where the server did not get as far as .finalize, nothing can be written
 * through this connection any more.
 */
static void
qcow2_filter_close (void *handle)
{
  handle_free (handle);
}

static void
describe (char *out, size_t size, const struct qcow2_info *info)
{
  const bool zstd = info->compression == QCOW2_COMPRESSION_ZSTD;

  snprintf (out, size, "%s version %u, cluster size %llu%s%s",
            info->version == 1 ? "qcow" : "qcow2", info->version,
            (unsigned long long) info->cluster_size,
            info->extended_l2 ? ", extended L2" : "",
            zstd ? ", zstd" : "");
}

/* What the file was before the plugin opened it, and what it is now. */
static void
look_again (struct file_id *id, const char *exportname)
{
  struct file_id now;

  file_id_get (&now, exportname);
  now.changing = !file_id_equal (id, &now);
  now.replaced = (id->known || id->device || now.known || now.device) &&
    !file_id_same_file (id, &now);
  *id = now;
}

static int
prepare_own (struct handle *h, nbdkit_next *next)
{
  const bool writing = !h->readonly && !writer_possible ();

  if (below_prepare (&h->below, next, writing) == -1)
    return -1;
  look_again (&h->id, h->exportname);
  if (h->state && !state_fits (h->state, &h->id, &h->below)) {
    state_release (h->state, NULL);
    h->state = NULL;
  }
  if (h->state == NULL)
    h->state = state_acquire (h->exportname, &h->id, &h->below, h->readonly);
  return h->state ? 0 : -1;
}

static int
qcow2_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct handle *h = handle;

  if (next != NULL && prepare_own (h, next) == -1)
    return -1;
  h->disk = state_disk (h->state);
  h->io = disk_io (h->disk, &h->below);
  if (h->disk->lanes)
    below_use_lanes (&h->below, h->disk->lanes);
  disk_join (h->disk, &h->below);
  describe (h->description, sizeof h->description,
            qcow2_get_info (h->disk->image));
  return 0;
}

static const char *
qcow2_export_description (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  return h->description;
}

static int64_t
qcow2_get_size (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  return qcow2_get_info (h->disk->image)->virtual_size;
}

/* Any byte can be read.  A cluster is the unit that is decompressed, or
 * looked up, at once; below a page there is nothing to gain.
 */
static int
qcow2_block_size (nbdkit_next *next, void *handle, uint32_t *minimum,
                  uint32_t *preferred, uint32_t *maximum)
{
  struct handle *h = handle;
  const uint64_t cluster_size =
    qcow2_get_info (h->disk->image)->cluster_size;

  *minimum = 1;
  *preferred = cluster_size < 4096 ? 4096 : cluster_size;
  *maximum = 0xffffffff;
  return 0;
}

static bool
is_writable (const struct handle *h)
{
  return h->disk->writable && !h->readonly;
}

/* For what can be done by whoever can write. */
static int
qcow2_can_write (nbdkit_next *next, void *handle)
{
  return is_writable (handle);
}

static int
qcow2_can_zero (nbdkit_next *next, void *handle)
{
  return is_writable (handle) ? NBDKIT_ZERO_NATIVE : NBDKIT_ZERO_NONE;
}

static int
qcow2_can_fua (nbdkit_next *next, void *handle)
{
  return is_writable (handle) ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

static int
qcow2_yes (nbdkit_next *next, void *handle)
{
  return 1;
}

static int
qcow2_can_cache (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  return disk_abilities (h->disk, &h->below)->cache == NBDKIT_CACHE_NATIVE
    ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_EMULATE;
}

static int
qcow2_is_rotational (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  return disk_abilities (h->disk, &h->below)->rotational;
}

/* ---- Requests ---------------------------------------------------------- */

static int
fail (const struct handle *h, const struct qcow2_error *error, int *err)
{
  *err = disk_report (h->disk, error);
  return -1;
}

static int
qcow2_filter_pread (nbdkit_next *next, void *handle, void *buf,
                    uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (qcow2_pread (h->disk->image, h->io, buf, count, offset,
                   &error) == -1)
    return fail (h, &error, err);
  return 0;
}

struct add_extents {
  struct nbdkit_extents *extents;
  bool one;                     /* the client wants only the first */
};

static uint32_t
nbdkit_type (enum qcow2_extent_type type)
{
  switch (type) {
  case QCOW2_EXTENT_DATA:
    return 0;
  case QCOW2_EXTENT_ZERO:
    return NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
  case QCOW2_EXTENT_ZERO_ALLOCATED:
    return NBDKIT_EXTENT_ZERO;
  }
  return 0;
}

static int
add_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  const struct add_extents *a = opaque;

  if (nbdkit_add_extent (a->extents, guest_off, len, nbdkit_type (type))
      == -1)
    return -1;
  return a->one;
}

static int
qcow2_filter_extents (nbdkit_next *next, void *handle, uint32_t count,
                      uint64_t offset, uint32_t flags,
                      struct nbdkit_extents *extents, int *err)
{
  struct handle *h = handle;
  struct add_extents add = { extents, flags & NBDKIT_FLAG_REQ_ONE };
  struct qcow2_error error;

  if (qcow2_extents (h->disk->image, h->io, count, offset,
                     add_extent, &add, &error) == -1)
    return fail (h, &error, err);
  return 0;
}

static int
qcow2_filter_cache (nbdkit_next *next, void *handle, uint32_t count,
                    uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (qcow2_cache (h->disk->image, h->io, count, offset,
                   &error) == -1)
    return fail (h, &error, err);
  return 0;
}

static int
qcow2_filter_pwrite (nbdkit_next *next, void *handle, const void *buf,
                     uint32_t count, uint64_t offset, uint32_t flags,
                     int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (qcow2_pwrite (h->disk->image, h->io, buf, count, offset,
                    flags & NBDKIT_FLAG_FUA, &error) == -1)
    return fail (h, &error, err);
  return 0;
}

static int
qcow2_filter_zero (nbdkit_next *next, void *handle, uint32_t count,
                   uint64_t offset, uint32_t flags, int *err)
{
  const unsigned how =
    (flags & NBDKIT_FLAG_MAY_TRIM ? QCOW2_ZERO_MAY_TRIM : 0) |
    (flags & NBDKIT_FLAG_FAST_ZERO ? QCOW2_ZERO_FAST : 0) |
    (flags & NBDKIT_FLAG_FUA ? QCOW2_ZERO_FUA : 0);
  struct handle *h = handle;
  struct qcow2_error error;

  if (qcow2_zero (h->disk->image, h->io, count, offset, how, &error) == 0)
    return 0;
  /* That is an answer, and no error. */
  if ((flags & NBDKIT_FLAG_FAST_ZERO) && error.kind == QCOW2_ERR_NOT_FAST) {
    *err = EOPNOTSUPP;
    return -1;
  }
  return fail (h, &error, err);
}

static int
qcow2_filter_trim (nbdkit_next *next, void *handle, uint32_t count,
                   uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (qcow2_trim (h->disk->image, h->io, count, offset,
                  flags & NBDKIT_FLAG_FUA, &error) == -1)
    return fail (h, &error, err);
  return 0;
}

static int
qcow2_filter_flush (nbdkit_next *next, void *handle, uint32_t flags,
                    int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (qcow2_flush (h->disk->image, h->io, &error) == -1)
    return fail (h, &error, err);
  return 0;
}

static struct nbdkit_filter filter = {
  .name = "qcow2",
  .longname = "nbdkit qcow2 filter",
  .description = "Serve the virtual disk inside a qcow2 image.",
  .load = qcow2_load,
  .unload = config_unload,
  .config = config_parse,
  .config_complete = config_complete,
  .config_help = config_help,
#if NBDKIT_AT_LEAST (1, 36)
  .dump_plugin = qcow2_dump_plugin,
#endif
  .get_ready = qcow2_get_ready,
  .after_fork = qcow2_after_fork,
  .cleanup = qcow2_cleanup,
  .open = qcow2_filter_open,
  .close = qcow2_filter_close,
  .prepare = qcow2_prepare,
  .finalize = qcow2_finalize,
  .export_description = qcow2_export_description,
  .get_size = qcow2_get_size,
  .block_size = qcow2_block_size,
  .can_write = qcow2_can_write,
  .can_flush = qcow2_can_write,
  .can_trim = qcow2_can_write,
  .can_zero = qcow2_can_zero,
  .can_fast_zero = qcow2_can_write,
  .can_fua = qcow2_can_fua,
  .is_rotational = qcow2_is_rotational,
  .can_extents = qcow2_yes,
  .can_multi_conn = qcow2_yes,
  .can_cache = qcow2_can_cache,
  .pread = qcow2_filter_pread,
  .extents = qcow2_filter_extents,
  .cache = qcow2_filter_cache,
  .pwrite = qcow2_filter_pwrite,
  .zero = qcow2_filter_zero,
  .trim = qcow2_filter_trim,
  .flush = qcow2_filter_flush,
};

NBDKIT_REGISTER_FILTER (filter)
