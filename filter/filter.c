/* SPDX-License-Identifier: BSD-3-Clause */
/* filter.c - the nbdkit callbacks: the server, and connections.
 *
 * Owns      struct handle, one per connection.
 * Method    access.c gets the image, views.c what is inside if that is what
 *           the export name means.  An image that can be written to has one
 *           way to the file for all its connections, and .open does not open
 *           the layer below for them: 'next' is NULL.  That requires that
 *           every callback is defined here: nbdkit's defaults ask the layer
 *           below.  Otherwise .open opens that layer, and requests use this
 *           connection's 'next' as their way to the file.
 *           A raw disk (raw.c) has a context of its own, and the plugin
 *           answers all that is asked of it.
 *           .finalize gives all back, because after it nothing can be
 *           written, and a server that has been told to stop does not call
 *           .close.  The ext2 filter writes all the same: when it is closed,
 *           which comes before we are.  Below it .close gives all back.
 * Locks     none: a handle is constant between .prepare and .close, but for
 *           what below.lock guards.
 */
#include "config.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/bounce.h"
#include "host/nbdfile.h"
#include "answers.h"
#include "check.h"
#include "exports.h"
#include "handle.h"
#include "keys.h"
#include "lines.h"
#include "list.h"
#include "parameters.h"
#include "places.h"
#include "raw.h"
#include "rawnames.h"
#include "report.h"
#include "requests.h"
#include "settings.h"
#include "stack.h"
#include "below/errand.h"
#include "below/shared.h"
#include "control/control.h"
#include "share/access.h"
#include "share/disk.h"
#include "share/state.h"
#include "share/sweeper.h"
#include "share/views.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void
qcow2_unload (void)
{
  stack_unload ();
  bounce_trim ();
  config_unload ();
}

static int
qcow2_get_ready (int final_thread_model)
{
  config.thread_model = final_thread_model;
  stack_scan ();
  config_note_stack ();
  return check_file () == -1 ? -1 : control_get_ready ();
}

static int
qcow2_after_fork (nbdkit_backend *backend)
{
  shared_set_backend (backend);
  places_after_fork ();
  errand_note_main_thread ();
  check_image ();
  sweeper_start (config.clean_interval);
  return control_start ();
}

/* The last moment at which the layer below can be used: what images keep
 * open there must be closed now.
 */
static void
qcow2_cleanup (nbdkit_backend *backend)
{
  control_stop ();
  sweeper_stop ();
  state_cleanup ();
  log_summaries (true);
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
  printf ("qcow2_control=%s\n", yes_no (control_supported ()));
}
#endif

/* ---- Connections ------------------------------------------------------- */

/* 'own' is NULL if the connection's context cannot be used any more. */
static void
let_go (struct handle *h, const struct qcow2_io *own)
{
  h->over = true;
  raw_close (h);
  access_drain (&h->access, own);
  if (h->view)
    view_release (h->access.disk, h->view);
  h->view = NULL;
  access_end (&h->access, own);
  (void) holds (h->rawfile == NULL && h->access.state == NULL);
}

static int
qcow2_finalize (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  if (stack_has_filter_above ("ext2"))
    h->late = true;
  else
    let_go (h, &h->access.below.io);
  return 0;
}

static void
handle_free (struct handle *h)
{
  let_go (h, h->late ? &h->access.below.io : NULL);
  access_destroy (&h->access);
  /* Others may need them again, but perhaps this was the last client. */
  bounce_trim ();
  free (h->name);
  free (h);
}

static struct handle *
handle_new (const char *exportname, bool readonly)
{
  struct handle *h = calloc (1, sizeof *h);

  log_summaries (false);
  if (h == NULL || (h->name = strdup (exportname)) == NULL) {
    nbdkit_error ("qcow2: out of memory for a connection");
    free (h);
    return NULL;
  }
  export_name_parse (&h->parsed, h->name, config.names);
  if (access_init (&h->access, h->name, h->parsed.base_len, readonly) == 0) {
    h->access.alone = export_is_top_layer (&h->parsed);
    h->raw = raw_names_have (h->access.exportname);
    return h;
  }
  free (h->name);
  free (h);
  return NULL;
}

static int
qcow2_preconnect (nbdkit_next_preconnect *next, nbdkit_backend *nxdata,
                  int readonly)
{
  return errand_was_connection () ? -1 : next (nxdata, readonly);
}

/* A view is opened as its disk is, so that others can still write to that. */
static void *
qcow2_filter_open (nbdkit_next_open *next, nbdkit_context *nxdata,
                   int readonly, const char *exportname, int is_tls)
{
  struct handle *h = handle_new (exportname, readonly);
  enum access_needs needs;

  if (h == NULL)
    return NULL;
  needs = h->raw ? raw_open (h) : access_open (&h->access);
  if (needs == ACCESS_NEEDS_NOTHING)
    return h;
  if (needs != ACCESS_FAILED &&
      next (nxdata, needs == ACCESS_NEEDS_READER,
            h->access.exportname) == 0)
    return h;
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

static int
qcow2_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct handle *h = handle;

  (void) holds (!h->over && h->image == NULL && h->view == NULL);
  if (h->raw)
    return raw_prepare (h, next);
  if (access_prepare (&h->access, next) == -1)
    return -1;
  h->image = h->access.disk->image;
  if (h->parsed.view == NULL)
    return 0;
  h->view = view_acquire (h->access.disk, h->access.io, &h->parsed);
  if (h->view == NULL) {
    /* There is not going to be a .finalize. */
    let_go (h, &h->access.below.io);
    return -1;
  }
  h->image = view_image (h->view);
  (void) holds (h->image != NULL && h->image != h->access.disk->image);
  return 0;
}

static const char *
qcow2_export_description (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  if (h->raw)
    return raw_description (next);
  if (h->view)
    view_describe (h->view, h->access.disk, h->access.io, h->description);
  else
    export_describe_disk (h->description, qcow2_get_info (h->image));
  return h->description;
}

static struct nbdkit_filter filter = {
  .name = "qcow2",
  /* With the version, because nbdkit 1.32 has no dump_plugin of filters. */
  .longname = "nbdkit qcow2 filter " PACKAGE_VERSION,
  .description = "Serve the virtual disk inside a qcow2 image.",
  .load = qcow2_load,
  .unload = qcow2_unload,
  .config = config_parse,
  .config_complete = config_complete,
  .config_help = config_help,
#if NBDKIT_AT_LEAST (1, 36)
  .dump_plugin = qcow2_dump_plugin,
#endif
  .get_ready = qcow2_get_ready,
  .after_fork = qcow2_after_fork,
  .cleanup = qcow2_cleanup,
  .preconnect = qcow2_preconnect,
  .list_exports = list_exports,
  .open = qcow2_filter_open,
  .close = qcow2_filter_close,
  .prepare = qcow2_prepare,
  .finalize = qcow2_finalize,
  .export_description = qcow2_export_description,
  .get_size = answer_get_size,
  .block_size = answer_block_size,
  .can_write = answer_can_write,
  .can_flush = answer_can_flush,
  .can_trim = answer_can_trim,
  .can_zero = answer_can_zero,
  .can_fast_zero = answer_can_fast_zero,
  .can_fua = answer_can_fua,
  .is_rotational = answer_is_rotational,
  .can_extents = answer_can_extents,
  .can_multi_conn = answer_can_multi_conn,
  .can_cache = answer_can_cache,
  .pread = request_pread,
  .extents = request_extents,
  .cache = request_cache,
  .pwrite = request_pwrite,
  .zero = request_zero,
  .trim = request_trim,
  .flush = request_flush,
};

NBDKIT_REGISTER_FILTER (filter)
