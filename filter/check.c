/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - a look at the image when the server starts.
 *
 * Owns      what makes nbdkit refuse to start, and what is only logged.
 * Method    a client is told nothing but that there is no such export, so
 *           whoever starts the server should hear of a bad image.
 *
 *           Where it is certain that the image is a local file, that is,
 *           nothing lies between us and the file plugin, the header is read
 *           before the server goes into the background.  What is wrong with
 *           it for good is an error.  At that point nbdkit may still have
 *           privileges that it is going to drop, so nothing that the image
 *           names is opened, and no lock is taken.
 *
 *           Everything else is tried once there are no privileges any more,
 *           with any plugin that has one image: whether it can be opened,
 *           with its other files and its passphrase, as the first client
 *           would open it to read.  Then it is too late for an exit status,
 *           and what is missing may come, so that is only logged.  Clients
 *           wait for this look, and an image can ask for minutes of work to
 *           try a passphrase, so that ends after MAX_SECONDS.
 *           With qcow2-create there need not be an image yet, so neither look
 *           is taken.
 * Locks     none: only the main thread is here, and there are no clients yet.
 */
#include "config.h"

#include "check.h"

#include "qcow2.h"
#include "host/localfile.h"
#include "host/locks.h"
#include "host/other.h"
#include "create.h"
#include "embed.h"
#include "exports.h"
#include "lines.h"
#include "options.h"
#include "report.h"
#include "settings.h"
#include "stack.h"
#include "share/peek.h"
#include "share/state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SECONDS 5

/* The header in the file itself has nothing that needs the second look. */
static bool
stands_alone (struct qcow2_info info)
{
  return !info.has_backing_file && !info.has_data_file &&
    info.encryption == QCOW2_ENCRYPTION_NONE;
}

/* The user that has found all well with an image that stands alone. */
static bool looked;
static uid_t looked_as;

/* ---- Before the server drops its privileges ---------------------------- */

static bool
is_for_good (const struct qcow2_error *error)
{
  return error->kind == QCOW2_ERR_FORMAT || error->kind == QCOW2_ERR_CORRUPT ||
    error->kind == QCOW2_ERR_UNSUPPORTED;
}

/* Takes the descriptor. */
static int
inspect (int fd)
{
  struct qcow2_options options = image_options (config.label);
  struct qcow2_error error;
  struct qcow2_image *image = NULL;
  struct other *const file =
    localfile_new (&filter_env, fd, config.label, false, &error);

  options.inspect = true;
  if (file != NULL)
    image = qcow2_open (&file->io, &options, &error);
  if (image == NULL) {
    report (config.label, &error);
    if (file)
      file->close (file);
    return is_for_good (&error) ? -1 : 0;
  }
  looked = stands_alone (qcow2_get_info (image));
  looked_as = geteuid ();
  qcow2_close (image);
  file->close (file);
  return 0;
}

int
check_file (void)
{
  struct stat st;
  int fd;

  if (!config.check_at_start || create_wanted () || config.file == NULL ||
      config.descriptor ||
      !stack_is_plugin_alone ("file"))
    return 0;
  fd = open (config.file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd == -1) {
    /* Those who serve it may have other rights. */
    warning (config.label, "warning: cannot be looked at: %m");
    return 0;
  }
  if (fstat (fd, &st) == -1 || (!S_ISREG (st.st_mode) &&
                                !S_ISBLK (st.st_mode))) {
    close (fd);
    return 0;                   /* the plugin will say it */
  }
  if (config.lock && lock_is_taken (fd))
    warning (config.label, "warning: another process has the image open for "
             "writing; clients are refused as long as it has");
  return inspect (fd);
}

/* ---- When it has dropped them ------------------------------------------ */

/* These end the server when a connection ends, or count them. */
static bool
counts_connections (void)
{
  return stack_has_filter ("exitlast") || stack_has_filter ("exitwhen") ||
    stack_has_filter ("limit");
}

/* Whether there is more to try than the header tells. */
static bool
needs_more (void)
{
  struct peek peek;
  bool more;

  if (peek_header (&peek, "") == -1)
    return false;               /* that has been logged */
  more = !stands_alone (qcow2_get_info (peek.image));
  peek_close (&peek);
  return more;
}

void
check_image (void)
{
  struct peek peek;
  int r;

  if (!config.check_at_start || create_wanted () ||
      config.names != NAMES_IGNORED ||
      (looked && looked_as == geteuid ()) || counts_connections () ||
      !needs_more ())
    return;
  wait_at_most (MAX_SECONDS);
  r = peek_open (&peek, "", true);
  if (waited_in_vain ())
    warning (config.label ? config.label : "", "warning: trying the "
             "passphrase takes more than %d seconds; each client waits as "
             "long as it takes", MAX_SECONDS);
  wait_at_most (0);
  if (r == -1)
    return;                     /* that has been logged */
  peek_close (&peek);
  /* Nobody looks after it until a client comes. */
  state_cleanup ();
}
