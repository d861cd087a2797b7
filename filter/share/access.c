/* SPDX-License-Identifier: BSD-3-Clause */
/* access.c - how a connection gets at an image, and gives it back.
 *
 * Owns      struct access: an image's state, and the way to its file.
 * Method    an image that can be written to has one way to the file for
 *           all who use it, and needs no context of the layer below from
 *           them: access_open takes the image's state, and that is all.
 *           Otherwise the caller opens such a context, and access_prepare
 *           asks what it can do and takes the state; requests then use this
 *           context as their way to the file.
 *
 *           Contexts are opened by the caller because a connection's is
 *           nbdkit's to close, and that of who only looks is his own.
 * Locks     none: an access is constant between access_prepare and
 *           access_end, but for what below.lock guards.
 */
#include "config.h"

#include "share/access.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/fileid.h"
#include "report.h"
#include "below/exportid.h"
#include "below/lanes.h"
#include "below/nbdkit_io.h"
#include "below/writer.h"
#include "share/disk.h"
#include "share/ending.h"
#include "share/state.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int
access_init (struct access *a, const char *exportname, size_t len,
             bool readonly)
{
  *a = (struct access) { .readonly = readonly };
  a->exportname = strndup (exportname, len);
  if (a->exportname == NULL) {
    nbdkit_error ("qcow2: out of memory for a connection");
    return -1;
  }
  pthread_mutex_init (&a->below.lock, NULL);
  pthread_cond_init (&a->below.returned, NULL);
  pthread_mutex_init (&a->below.serial, NULL);
  return 0;
}

void
access_destroy (struct access *a)
{
  access_end (a, NULL);
  (void) holds (a->below.borrowed == 0);        /* nobody else has it now */
  pthread_mutex_destroy (&a->below.serial);
  pthread_cond_destroy (&a->below.returned);
  pthread_mutex_destroy (&a->below.lock);
  free (a->exportname);
}

static struct state *
acquire (struct access *a, const struct below *own)
{
  const unsigned flags =
    (a->readonly ? STATE_READONLY : 0) | (a->alone ? STATE_ALONE : 0);

  return state_acquire (a->exportname, &a->id, own, flags,
                        a->impatient ? &a->claimed : NULL);
}

enum access_needs
access_open (struct access *a)
{
  const bool shared = !a->readonly && writer_possible ();

  /* Taken before the plugin opens the file and compared afterwards: if
   * nothing changed in between, it is the file the plugin has open.
   */
  (void) holds (a->state == NULL);
  export_id_get (&a->id, a->exportname);
  if (shared) {
    a->state = acquire (a, NULL);
    if (a->state == NULL)
      return ACCESS_FAILED;
    if (state_disk (a->state)->writable)
      return ACCESS_NEEDS_NOTHING;
  }
  return a->readonly || shared ? ACCESS_NEEDS_READER : ACCESS_NEEDS_WRITER;
}

/* What the file was before the plugin opened it, and what it is now. */
static void
look_again (struct file_id *id, const char *exportname)
{
  struct file_id now;

  export_id_get (&now, exportname);
  now.changing = !file_id_equal (id, &now);
  now.replaced = (id->known || id->device || now.known || now.device) &&
    !file_id_same_file (id, &now);
  *id = now;
}

static int
prepare_own (struct access *a, nbdkit_next *next)
{
  const bool writing = !a->readonly && !writer_possible ();

  if (below_prepare (&a->below, next, writing) == -1)
    return -1;
  look_again (&a->id, a->exportname);
  if (a->state && !state_fits (a->state, &a->id, &a->below)) {
    state_release (a->state, NULL);
    a->state = NULL;
  }
  if (a->state == NULL)
    a->state = acquire (a, &a->below);
  return a->state ? 0 : -1;
}

int
access_prepare (struct access *a, nbdkit_next *next)
{
  if (next != NULL && prepare_own (a, next) == -1)
    return -1;
  /* Without a context, access_open has taken what can be written to. */
  if (!holds (a->state != NULL))
    return -1;
  a->disk = state_disk (a->state);
  (void) holds (next != NULL || a->disk->writer != NULL);
  a->io = disk_io (a->disk, &a->below);
  if (a->disk->lanes)
    lanes_serve (a->disk->lanes, &a->below);
  disk_join (a->disk, &a->below);
  if (!a->readonly)
    disk_say_read_only (a->disk);
  return 0;
}

void
access_drain (struct access *a, const struct qcow2_io *own)
{
  if (a->state)
    disk_leave (state_disk (a->state), &a->below, own);
  below_drain (&a->below);
}

/* Background work must not outlive the context it uses. */
void
access_end (struct access *a, const struct qcow2_io *own)
{
  access_drain (a, own);
  if (a->state)
    state_release (a->state, own);
  a->state = NULL;
  below_drain (&a->below);
}
