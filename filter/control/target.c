/* SPDX-License-Identifier: BSD-3-Clause */
/* target.c - the image that a command is about.
 *
 * Owns      which images commands may use, and how they get at them.
 * Method    as a client: through the state that all share, which is opened if
 *           nobody has it open (peek.c), and stays open for as long as this
 *           command, or a client, uses it.  Where the server has many images,
 *           and gives nobody but connections a way to them (nbdkit before
 *           1.44), a client's way is borrowed; without one only the header
 *           can be looked at, in the file itself.
 *
 *           If the plugin allows only one request in the whole server nothing
 *           is done: only requests of clients take turns there (LOCK-7).
 *
 *           nbdkit does not tell filters of its option -r, but its command
 *           line can be read.  Where it cannot, or says what could be -r,
 *           nothing is changed.
 * Locks     none here.
 */
#include "config.h"

#include "control/target.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "cmdline.h"
#include "exports.h"
#include "rawnames.h"
#include "report.h"
#include "settings.h"
#include "below/writer.h"
#include "share/disk.h"
#include "share/state.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* ---- nbdkit -r --------------------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool read_only = true;

static void
find_read_only (void)
{
  read_only = cmdline_has_option ('r', "--re");
}

bool
target_server_is_read_only (void)
{
  pthread_once (&once, find_read_only);
  return read_only;
}

/* ---- Opening ----------------------------------------------------------- */

static bool
fail_open (struct call *call, const char *device)
{
  const int errnum = errno;

  call_fail (call, "the image of the export '%.200s' cannot be opened%s%s; "
             "the log of the server says why", device,
             errnum > 0 ? ": " : "", errnum > 0 ? strerror (errnum) : "");
  return false;
}

static bool
fail_claimed (struct call *call, const char *device)
{
  call->kind = "busy";
  call_fail (call, "the image of the export '%.200s' is being changed by a "
             "command that needs it for itself; try again when that has "
             "ended", device);
  return false;
}

static bool
fail_nobody (struct call *call, const char *device)
{
  call_fail (call, "no client has the export '%.200s' open for writing; with "
             "several images, and this version of nbdkit, only one that a "
             "client writes to can be changed from here", device);
  return false;
}

static bool
use_peek (struct target *t)
{
  (void) holds (t->peek.image != NULL && t->peek.io != NULL);
  t->image = t->peek.image;
  t->io = t->peek.io;
  t->disk = t->peek.access.disk;
  t->name = t->peek.name;
  return true;
}

static bool
use_lent (struct target *t)
{
  (void) holds (!t->is_lent && t->lent.ops != NULL &&
                t->lent.ops->give_back != NULL);
  t->is_lent = true;
  t->image = t->disk->image;
  t->io = &t->lent;
  t->name = t->disk->name;
  return true;
}

/* Of many, without a way of our own. */
static bool
open_of_many (struct target *t, struct call *call, const char *device,
              bool change)
{
  t->disk = state_borrow (device, &t->lent);
  if (t->disk != NULL)
    return use_lent (t);
  if (change)
    return fail_nobody (call, device);
  if (peek_open (&t->peek, device, true) == -1)
    return fail_open (call, device);
  return use_peek (t);
}

static bool
open_shared (struct target *t, struct call *call, const char *device)
{
  if (peek_open_as_client (&t->peek, device, target_server_is_read_only ())
      == -1)
    return t->peek.access.claimed ? fail_claimed (call, device)
      : fail_open (call, device);
  return use_peek (t);
}

static bool
check_change (struct target *t, struct call *call)
{
  if (holds (t->disk != NULL && t->disk->image == t->image) &&
      t->disk->writable)
    return true;
  (void) holds (!t->is_lent);           /* state_borrow lends no other */
  call_fail (call, "the image is served read-only%s%s",
             t->disk->why_read_only ? ": " : "",
             t->disk->why_read_only ? t->disk->why_read_only : "");
  target_close (t);
  return false;
}

static bool
check_possible (struct call *call, const char *device, bool change)
{
  struct export_name parsed;

  export_name_parse (&parsed, device, config.names);
  if (parsed.view != NULL)
    call_fail (call, "'%.200s' is a part of an image; commands are about "
               "whole images", device);
  else if (raw_names_have (device))
    call_fail (call, "'%.200s' is a raw disk (qcow2-raw), whatever is in it",
               device);
  else if (config.thread_model < NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS)
    call_fail (call, "the plugin, or a filter, allows one request at a time "
               "in the whole server, so only requests of clients can use the "
               "image");
  else if (change && target_server_is_read_only ())
    call_fail (call, "the server was started read-only (nbdkit -r)");
  else
    return true;
  return false;
}

bool
target_open (struct target *t, struct call *call, const char *device,
             bool change)
{
  *t = (struct target) { .image = NULL };
  errno = 0;
  if (!check_possible (call, device, change))
    return false;
  if (writer_possible () ? !open_shared (t, call, device)
      : !open_of_many (t, call, device, change))
    return false;
  if (call->job != NULL && t->is_lent) {
    call_fail (call, "with several images, and this version of nbdkit, no job "
               "can use an image: a client could not leave meanwhile");
    target_close (t);
    return false;
  }
  return !change || check_change (t, call);
}

void
target_close (struct target *t)
{
  if (t->is_lent)
    t->lent.ops->give_back (&t->lent);
  else
    peek_close (&t->peek);
}
