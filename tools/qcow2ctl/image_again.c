/* SPDX-License-Identifier: BSD-3-Clause */
/* image_again.c - opening an image once more, for something else.
 *
 * Owns      what becomes of the image that was open: it is closed, and opened
 *           by its name; but one that is rehearsed (rehearsal.c) is opened as
 *           its file would be now, which stays open and locked.
 * Locks     as image.c.
 */
#include "config.h"

#include "image.h"

#include "rehearsal.h"

#include "host/layers.h"

/* What the file would be now.  Closes it all unless it returns CODE_OK. */
static int
reopen_rehearsal (struct image *i, enum opening opening)
{
  int code;

  qcow2_close (i->image);
  qcow2_close (i->nothing);
  layers_release (&i->layers);
  i->image = i->nothing = NULL;
  i->io = rehearsal_io (i->rehearsal);
  code = image_open_inside (i, opening);
  return code == CODE_OK ? code : image_close (i, code);
}

int
image_rehearse (struct image *i, uint64_t memory)
{
  const bool grows = i->id.kind == ID_FILE;

  i->rehearsal = rehearsal_new (i->io, grows, memory);
  if (i->rehearsal != NULL)
    return reopen_rehearsal (i, OPEN_TO_REPAIR);
  return image_close (i, fail_code (CODE_FAILED, "out of memory"));
}

/* 'code' is what came of it until now.  Closes it unless it returns CODE_OK.
 */
static int
reopen (struct image *i, const char *name, enum opening opening, int code)
{
  struct ctl *const ctl = i->ctl;

  if (i->rehearsal == NULL) {
    code = image_close (i, code);
    return code != CODE_OK ? code : image_open (ctl, i, name, opening);
  }
  if (code == CODE_OK)
    code = image_end (i, code);
  i->changing = false;          /* it was ended, or is forgotten */
  return code == CODE_OK ? reopen_rehearsal (i, opening)
    : image_close (i, code);
}

int
image_complete_snapshots (struct image *i, const char *name)
{
  struct qcow2_error err;
  int code = reopen (i, name, OPEN_TO_CHANGE_HEADER, CODE_OK);

  if (code != CODE_OK)
    return code;
  if (qcow2_snapshots_complete (i->image, i->io, &err) == -1)
    code = fail_error (i->name, &err);
  return reopen (i, name, OPEN_TO_CHECK, code);
}
