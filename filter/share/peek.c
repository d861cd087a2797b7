/* SPDX-License-Identifier: BSD-3-Clause */
/* peek.c - an image that is opened only to see what it has inside.
 *
 * Owns      struct peek.
 * Method    a client that asks for the list of exports has no connection to
 *           one yet, and then nbdkit gives us only shared contexts.  Where the
 *           server has one image it is opened as a connection would open it,
 *           and given back, so that who connects to it next finds it open.
 *
 *           Where there are many, who asks for the list has no use for most of
 *           them.  Then nothing but an image's header is looked at, in the
 *           file itself in a directory, else through a shared context, which
 *           has an export name from nbdkit 1.44 on; without, nothing can be
 *           done.  No locks are taken, and no other file is opened: nothing is
 *           done with what is found but to list it, so it does no harm if the
 *           file changes meanwhile, or if there is a filter below that makes
 *           something else of it; and a list must not be in the way of
 *           anybody.
 * Locks     none: a peek belongs to one thread.
 */
#include "config.h"

#include "share/peek.h"

#include "qcow2.h"
#include "host/localfile.h"
#include "host/other.h"
#include "embed.h"
#include "exports.h"
#include "options.h"
#include "report.h"
#include "settings.h"
#include "below/exportid.h"
#include "below/nbdkit_io.h"
#include "below/shared.h"
#include "below/writer.h"
#include "share/access.h"
#include "share/disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- As a connection would --------------------------------------------- */

static int
open_access (struct peek *p)
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
  if (!holds (p->access.disk != NULL && p->access.disk->image != NULL))
    return -1;
  p->name = p->access.disk->name;
  p->image = p->access.disk->image;
  p->io = p->access.io;
  return 0;
}

/* ---- The header alone -------------------------------------------------- */

static int
inspect (struct peek *p)
{
  struct qcow2_options options = image_options (p->name);
  struct qcow2_error error;

  (void) holds (p->access.state == NULL && p->inspected == NULL);
  options.inspect = true;
  p->inspected = qcow2_open (p->io, &options, &error);
  if (p->inspected == NULL) {
    p->no_image = error.kind == QCOW2_ERR_FORMAT;
    report (p->name, &error);
    return -1;
  }
  p->image = p->inspected;
  return 0;
}

static int
open_context (struct peek *p)
{
  p->next = shared_open (p->access.exportname, true);
  if (p->next == NULL ||
      below_prepare (&p->access.below, p->next, false) == -1)
    return -1;
  p->name = config.label ? config.label : p->access.exportname;
  p->io = &p->access.below.io;
  return inspect (p);
}

static int
open_local (struct peek *p)
{
  struct qcow2_error error;
  int fd;

  export_id_get (&p->access.id, p->access.exportname);
  fd = export_id_open (&p->access.id, p->access.exportname, O_RDONLY);
  if (fd == -1)
    return -1;
  if (asprintf (&p->path, "%s/%s", config.dir, p->access.exportname) == -1) {
    p->path = NULL;
    close (fd);
    return -1;
  }
  p->name = p->path;
  p->file = localfile_new (&filter_env, fd, p->path, false, &error);
  if (p->file == NULL) {
    report (p->path, &error);
    return -1;
  }
  p->io = &p->file->io;
  return inspect (p);
}

/* ---- Any of these ------------------------------------------------------ */

static int
open_somehow (struct peek *p)
{
  switch (config.names) {
  case NAMES_IGNORED:
    return open_access (p);
  case NAMES_ARE_FILES:
    return open_local (p);
  case NAMES_UNKNOWN:
    return writer_possible () ? open_context (p) : -1;
  }
  return -1;
}

int
peek_header (struct peek *p, const char *exportname)
{
  *p = (struct peek) { .image = NULL };
  if (access_init (&p->access, exportname, strlen (exportname), true) == -1)
    return -1;
  if (open_context (p) == 0)
    return 0;
  peek_close (p);
  return -1;
}

static int
open_peek (struct peek *p, const char *exportname, bool readonly, bool alone)
{
  *p = (struct peek) { .image = NULL };
  if (access_init (&p->access, exportname, strlen (exportname), readonly)
      == -1)
    return -1;
  p->access.alone = alone;
  if (open_somehow (p) == 0)
    return 0;
  peek_close (p);
  return -1;
}

int
peek_open (struct peek *p, const char *exportname, bool readonly)
{
  return open_peek (p, exportname, readonly, false);
}

int
peek_open_alone (struct peek *p, const char *exportname, bool readonly)
{
  return open_peek (p, exportname, readonly, true);
}

int
peek_open_as_client (struct peek *p, const char *exportname, bool readonly)
{
  *p = (struct peek) { .image = NULL };
  if (access_init (&p->access, exportname, strlen (exportname), readonly)
      == -1)
    return -1;
  p->access.impatient = true;
  if (open_access (p) == 0)
    return 0;
  peek_close (p);
  return -1;
}

void
peek_close (struct peek *p)
{
  qcow2_close (p->inspected);
  access_end (&p->access, p->access.disk ? &p->access.below.io : NULL);
  if (p->next)
    shared_close (p->next);
  if (p->file)
    p->file->close (p->file);
  free (p->path);
  access_destroy (&p->access);
}
