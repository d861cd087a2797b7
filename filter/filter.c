/* SPDX-License-Identifier: BSD-3-Clause */
/* filter.c - the nbdkit callbacks.
 *
 * Owns      struct handle, one per connection.
 * Method    .open opens the layer below, read-only; .prepare asks what that
 *           layer can do and takes the image's shared state; requests go to
 *           the engine, with this connection's 'next' as its way to the
 *           file.
 * Locks     none: a handle is constant between .prepare and .close, but for
 *           what below.lock guards.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct handle {
  char *exportname;
  struct file_id id;            /* of the file, before it was opened */
  struct below below;
  struct state *state;          /* NULL before .prepare */
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
  lanes_set_backend (backend);
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
}
#endif

/* ---- Connections ------------------------------------------------------- */

static void *
qcow2_filter_open (nbdkit_next_open *next, nbdkit_context *nxdata,
                   int readonly, const char *exportname, int is_tls)
{
  struct handle *h = calloc (1, sizeof *h);

  if (h == NULL || (h->exportname = strdup (exportname)) == NULL) {
    nbdkit_error ("qcow2: out of memory for a connection");
    free (h);
    return NULL;
  }
  pthread_mutex_init (&h->below.lock, NULL);
  pthread_cond_init (&h->below.returned, NULL);
  /* Taken before the plugin opens the file and compared afterwards: if
   * nothing changed in between, it is the file the plugin has open.
   */
  file_id_get (&h->id, exportname);
  /* Nothing is ever written, so nothing below needs to be writable. */
  if (next (nxdata, 1, exportname) == -1) {
    free (h->exportname);
    free (h);
    return NULL;
  }
  return h;
}

/* Background work must not outlive the connection whose context it uses. */
static int
qcow2_finalize (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  below_drain (&h->below);
  return 0;
}

static void
qcow2_filter_close (void *handle)
{
  struct handle *h = handle;

  /* Where the server did not get as far as .finalize. */
  below_drain (&h->below);
  pthread_cond_destroy (&h->below.returned);
  pthread_mutex_destroy (&h->below.lock);
  if (h->state)
    state_release (h->state);
  free (h->exportname);
  free (h);
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

static int
qcow2_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct handle *h = handle;
  struct file_id now;

  if (below_prepare (&h->below, next) == -1)
    return -1;
  file_id_get (&now, h->exportname);
  if (!file_id_equal (&h->id, &now))
    h->id = (struct file_id) { .changing = true };
  h->state = state_acquire (h->exportname, &h->id, &h->below.io);
  if (h->state == NULL)
    return -1;
  if (state_lanes (h->state))
    below_use_lanes (&h->below, state_lanes (h->state));
  describe (h->description, sizeof h->description,
            qcow2_get_info (state_image (h->state)));
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

  return qcow2_get_info (state_image (h->state))->virtual_size;
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
    qcow2_get_info (state_image (h->state))->cluster_size;

  *minimum = 1;
  *preferred = cluster_size < 4096 ? 4096 : cluster_size;
  *maximum = 0xffffffff;
  return 0;
}

static int
qcow2_no (nbdkit_next *next, void *handle)
{
  return 0;
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

  return h->below.can_cache == NBDKIT_CACHE_NATIVE
    ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_EMULATE;
}

/* ---- Requests ---------------------------------------------------------- */

static int
fail (const struct handle *h, const struct qcow2_error *error, int *err)
{
  *err = report (state_name (h->state), error);
  return -1;
}

static int
qcow2_filter_pread (nbdkit_next *next, void *handle, void *buf,
                    uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (qcow2_pread (state_image (h->state), &h->below.io, buf, count, offset,
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

  if (qcow2_extents (state_image (h->state), &h->below.io, count, offset,
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

  if (qcow2_cache (state_image (h->state), &h->below.io, count, offset,
                   &error) == -1)
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
  .can_write = qcow2_no,
  .can_flush = qcow2_no,
  .can_trim = qcow2_no,
  .can_zero = qcow2_no,
  .can_fast_zero = qcow2_no,
  .can_fua = qcow2_no,
  .can_extents = qcow2_yes,
  .can_multi_conn = qcow2_yes,
  .can_cache = qcow2_can_cache,
  .pread = qcow2_filter_pread,
  .extents = qcow2_filter_extents,
  .cache = qcow2_filter_cache,
};

NBDKIT_REGISTER_FILTER (filter)
