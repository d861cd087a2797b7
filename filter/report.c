/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - errors of the engine to nbdkit's log.
 *
 * Owns      which errno value a client gets, and what users are advised to
 *           do: the engine knows no programs, parameters or connections.
 * Method    lines.c says the text.
 * Locks     none.
 */
#include "config.h"

#include "report.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "lines.h"
#include "settings.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* For this thread: CLOCK_MONOTONIC, 0 is never; and whether it came to
 * that.
 */
static _Thread_local time_t give_up_at;
static _Thread_local bool gave_up;

static int
errnum_of (const struct qcow2_error *error)
{
  switch (error->kind) {
  case QCOW2_ERR_NO_SPACE:
    return ENOSPC;
  case QCOW2_ERR_READ_ONLY:
    return EROFS;
  case QCOW2_ERR_NOT_FAST:
    return EOPNOTSUPP;
  default:
    return error->errnum > 0 ? error->errnum : EIO;
  }
}

#define CONVERT(driver)                                                       \
  "the qcow2 filter does not read that; convert it with 'qemu-img convert "   \
  "-f " driver " -O qcow2 FILE NEW.qcow2'"
#define UNPACK(filter)                                                        \
  "put nbdkit's " filter " filter below, --filter=qcow2 --filter=" filter     \
  ", or unpack it"

static const char *const remedies[QCOW2_NR_ADVICES] = {
  [QCOW2_ADVICE_NONE] = "",
  [QCOW2_ADVICE_CHECK] = "check the image with 'qemu-img check'",
  [QCOW2_ADVICE_REPAIR] = "repair the image with 'qemu-img check -r all'",
  [QCOW2_ADVICE_REBUILD] = "see to the disk or server that holds the file; if "
    "that does not help, end the server and write all refcounts anew with "
    "'qcow2ctl check --repair rebuild'",
  [QCOW2_ADVICE_COMPLETE] = "get the rest of the file, or repair the image "
    "with 'qemu-img check -r all'",
  [QCOW2_ADVICE_COPY] = "get the rest of the file, or copy what there is with "
    "'qemu-img convert'",
  [QCOW2_ADVICE_CREATE] = "'qemu-img create -f qcow2 FILE SIZE' makes an "
    "image",
  [QCOW2_ADVICE_DOWNLOAD] = "download the image again",
  [QCOW2_ADVICE_REOPEN] = "the image can be written to again when all clients "
    "have disconnected and connected again",
  [QCOW2_ADVICE_NEW_HANDLE] = "connect again",
  [QCOW2_ADVICE_ROUND_UP] = "put '--filter=truncate' with 'round-up' and that "
    "size below this filter, or extend the file to a multiple of it",
  [QCOW2_ADVICE_CACHE] = "give the filter a larger qcow2-cache-size",
  [QCOW2_ADVICE_PROTECT_LESS] = "do without 'qcow2-overlap-check=all', give "
    "the image more memory (qcow2-cache-size), or serve it with 'nbdkit -r'",
  [QCOW2_ADVICE_PROTECT_MORE] = "'qcow2-overlap-check=all' protects more",
  [QCOW2_ADVICE_FEWER_SNAPSHOTS] = "serve it with 'nbdkit -r', or delete "
    "snapshots",
  [QCOW2_ADVICE_PASSPHRASE] = "give its passphrase with qcow2-passphrase, for "
    "example qcow2-passphrase=+FILE",
  [QCOW2_ADVICE_OTHER_PASSPHRASE] = "check qcow2-passphrase",
  [QCOW2_ADVICE_KEY_SLOTS] = "check qcow2-passphrase, or make slots with a "
    "smaller iter-time",
  [QCOW2_ADVICE_NEW_BITMAP] = "make a full copy of the disk, and a new bitmap "
    "with 'qemu-img bitmap --add'",
  [QCOW2_ADVICE_END_BITMAP] = "it can be read once a checkpoint ('qcow2ctl -S "
    "SOCKET checkpoint --disable'), or 'qcow2ctl -S SOCKET bitmap disable', "
    "has ended it (see qcow2-control)",
  [QCOW2_ADVICE_REMOVE_BITMAP] = "make a full copy of the disk and remove the "
    "bitmap with 'qemu-img bitmap --remove'",
  [QCOW2_ADVICE_REMOVE_BROKEN] = "'qcow2ctl bitmap remove --broken' removes "
    "the bitmaps that are broken, and nothing else",
  [QCOW2_ADVICE_BITMAP_READ_ONLY] = "make a full copy of the disk, and serve "
    "the image read-only ('nbdkit -r') while you copy what a bitmap tells",
  [QCOW2_ADVICE_NO_COMPRESSION] = "leave out qcow2-compress",
  [QCOW2_ADVICE_NO_LAZINESS] = "leave out qcow2-lazy-refcounts",
  [QCOW2_ADVICE_LIST_BITMAPS] = "'qemu-img info' lists those it has",
  [QCOW2_ADVICE_LIST_SNAPSHOTS] = "'qemu-img snapshot -l' lists those it has",
  [QCOW2_ADVICE_CLOSE_VIEWS] = "try again when the clients that read it have "
    "disconnected",
  [QCOW2_ADVICE_RAW] = "to serve a raw disk, leave out the qcow2 filter",
  [QCOW2_ADVICE_VMDK] = CONVERT ("vmdk"),
  [QCOW2_ADVICE_VPC] = CONVERT ("vpc"),
  [QCOW2_ADVICE_VHDX] = CONVERT ("vhdx"),
  [QCOW2_ADVICE_VDI] = CONVERT ("vdi"),
  [QCOW2_ADVICE_QED] = CONVERT ("qed"),
  [QCOW2_ADVICE_PARALLELS] = CONVERT ("parallels"),
  [QCOW2_ADVICE_GZIP] = UNPACK ("gzip"),
  [QCOW2_ADVICE_XZ] = UNPACK ("xz"),
  [QCOW2_ADVICE_BZIP2] = UNPACK ("bzip2"),
  [QCOW2_ADVICE_LZIP] = UNPACK ("lzip"),
  [QCOW2_ADVICE_ZSTD] = "unpack it with 'zstd -d'",
  [QCOW2_ADVICE_ZIP] = "unpack it with 'unzip'",
  [QCOW2_ADVICE_TAR] = "put nbdkit's tar filter below, --filter=qcow2 "
    "--filter=tar, with tar-entry=NAME",
  [QCOW2_ADVICE_LUKS] = "put nbdkit's luks filter below, --filter=qcow2 "
    "--filter=luks, or, if it is a raw disk, in the place of the qcow2 filter",
};

const char *
advice_words (enum qcow2_advice advice)
{
  if (advice == QCOW2_ADVICE_RAW && config.names == NAMES_ARE_FILES)
    return "to serve a raw disk beside images, give qcow2-raw=NAME";
  return (size_t) advice < QCOW2_NR_ADVICES && remedies[advice] != NULL
    ? remedies[advice] : "";
}

bool
bug_found (const char *what, const char *file, int line)
{
  nbdkit_error ("qcow2: this is a bug, please report it: '%s' is not true at "
                "%s:%d", what, file, line);
  if (qcow2_aborts_on_bugs ())
    abort ();
  return false;
}

int
report (const char *name, const struct qcow2_error *error)
{
  const bool quietly = report_is_quiet ();
  const char *const words = advice_words (error->advice);

  /* A bug is of interest whoever looks. */
  report_quietly (quietly && error->kind != QCOW2_ERR_BUG);
  log_warning (error->kind, name, "%s%s%s", error->text,
               words[0] ? "; " : "", words);
  report_quietly (quietly);
  return errnum_of (error);
}

static time_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec;
}

void
wait_at_most (unsigned seconds)
{
  give_up_at = seconds > 0 ? now () + seconds : 0;
  gave_up = false;
}

bool
waited_in_vain (void)
{
  return gave_up;
}

/* A sleep of no time: nbdkit ends it early, with an error, when nobody would
 * be there afterwards.  It logs a line then.
 */
bool
nobody_waits (void *ignored)
{
  (void) ignored;
  if (give_up_at != 0 && now () >= give_up_at) {
    gave_up = true;
    return true;
  }
  return nbdkit_nanosleep (0, 0) == -1;
}
