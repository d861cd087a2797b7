/* SPDX-License-Identifier: BSD-3-Clause */
/* peek.c - an image that is opened only to see what it has inside.
 *
 * Owns      struct peek.
 * Method    a client that asks for the list of exports has no connection to
 *           one yet, and then nbdkit gives us only shared contexts.  Where
 *           these are good for anything the image is opened as a connection
 *           would open it, and given back, so that who connects to it next
 *           finds it open.
 *
 *           Before nbdkit 1.44 they have no export name.  In a directory we
 *           look at the file itself then, without locks: nothing is done with
 *           what is found but to list it, so it does no harm if the file
 *           changes meanwhile, or if there is a filter below that makes
 *           something else of it.  With plugins of which we do not know what
 *           names mean nothing can be done.
 * Locks     none: a peek belongs to one thread.
 */
#include "config.h"

#include "layers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- As a connection would -------------------------------------------------- */

static int
open_shared (struct peek *p)
{
  const enum access_needs needs = access_open (&p->access);

  if (needs == ACCESS_FAILED)
    return -1;
  if (needs != ACCESS_NEEDS_NOTHING) {
    p->next = shared_open (p->access.exportname,
                           needs == ACCESS_NEEDS_READER);
    if (p->next == NULL)
      return -1;
  }
  if (access_prepare (&p->access, p->next) == -1)
    return -1;
  p->name = p->access.disk->name;
  p->image = p->access.disk->image;
  p->io = p->access.io;
  return 0;
}

static void
close_shared (struct peek *p)
{
  access_end (&p->access, p->image ? &p->access.below.io : NULL);
  if (p->next)
    shared_close (p->next);
}

/* ---- The file itself ---------------------------------------------------------- */

static struct qcow2_image *
open_image (struct peek *p, const char *name, struct qcow2_error *err)
{
  const struct passphrase passphrase = places_passphrase (0);
  struct qcow2_options options = disk_options (name);
  struct gate gate = {
    .id = identity_of_export (&p->access.id, p->access.exportname),
    .folder = config.folder,
  };
  struct qcow2_image *image;

  options.readahead = 0;
  options.open_file = gate_open_file;
  options.open_file_opaque = &gate;
  options.passphrase = passphrase.bytes;
  options.passphrase_len = passphrase.len;
  image = qcow2_open (p->io, &options, err);
  p->layers = gate.layers;
  return image;
}

static int
open_local (struct peek *p)
{
  struct qcow2_error error;
  int fd;

  file_id_get (&p->access.id, p->access.exportname);
  fd = file_id_open (&p->access.id, p->access.exportname, O_RDONLY);
  if (fd == -1 || asprintf (&p->path, "%s/%s", config.dir,
                            p->access.exportname) == -1) {
    p->path = NULL;
    if (fd != -1)
      close (fd);
    return -1;
  }
  p->name = p->path;
  p->file = localfile_new (fd, p->path, false, &error);
  if (p->file != NULL) {
    p->io = &p->file->io;
    p->image = open_image (p, p->path, &error);
  }
  if (p->image != NULL)
    return 0;
  report (p->path, &error);
  return -1;
}

static void
close_local (struct peek *p)
{
  qcow2_close (p->image);
  layers_release (&p->layers);
  if (p->file)
    p->file->close (p->file);
  free (p->path);
}

/* ---- Either --------------------------------------------------------------------- */

int
peek_open (struct peek *p, const char *exportname, bool readonly)
{
  const bool shared = writer_possible ();

  *p = (struct peek) { .image = NULL };
  if (!shared && config.names != NAMES_ARE_FILES)
    return -1;
  if (access_init (&p->access, exportname, strlen (exportname), readonly)
      == -1)
    return -1;
  if ((shared ? open_shared (p) : open_local (p)) == 0)
    return 0;
  peek_close (p);
  return -1;
}

void
peek_close (struct peek *p)
{
  if (writer_possible ())
    close_shared (p);
  else
    close_local (p);
  access_destroy (&p->access);
}
