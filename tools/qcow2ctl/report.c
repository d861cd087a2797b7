/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - errors, and the exit codes they lead to.
 *
 * Owns      what users are advised to do: the engine knows no programs.
 * Method    all goes to stderr, one line each, with the program's name.
 * Locks     none; a line is one call of stdio, which locks itself.
 */
#include "config.h"

#include "ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CONVERT(driver)                                                       \
  "convert it with 'qemu-img convert -f " driver " -O qcow2 FILE NEW.qcow2'"

static const char *const remedies[QCOW2_NR_ADVICES] = {
  [QCOW2_ADVICE_NONE] = "",
  [QCOW2_ADVICE_CHECK] = "check the image with 'qcow2ctl check'",
  [QCOW2_ADVICE_REPAIR] = "repair the image with 'qcow2ctl check --repair "
    "all'",
  [QCOW2_ADVICE_REBUILD] = "see to the disk or server that holds the file; if "
    "that does not help, write all refcounts anew with 'qcow2ctl check "
    "--repair rebuild'",
  [QCOW2_ADVICE_COMPLETE] = "get the rest of the file, or repair the image "
    "with 'qcow2ctl check --repair all'",
  [QCOW2_ADVICE_COPY] = "get the rest of the file, or copy what there is with "
    "'qemu-img convert'",
  [QCOW2_ADVICE_CREATE] = "'qcow2ctl create FILE SIZE' makes an image",
  [QCOW2_ADVICE_DOWNLOAD] = "download the image again",
  [QCOW2_ADVICE_REOPEN] = "run the command again",
  [QCOW2_ADVICE_NEW_HANDLE] = "run the command again",
  [QCOW2_ADVICE_ROUND_UP] = "extend the file to a multiple of it",
  [QCOW2_ADVICE_CACHE] = "",
  [QCOW2_ADVICE_PROTECT_LESS] = "",
  [QCOW2_ADVICE_PROTECT_MORE] = "",
  [QCOW2_ADVICE_FEWER_SNAPSHOTS] = "delete snapshots",
  [QCOW2_ADVICE_PASSPHRASE] = "give its passphrase with --passphrase, for "
    "example --passphrase +FILE",
  [QCOW2_ADVICE_OTHER_PASSPHRASE] = "check --passphrase",
  [QCOW2_ADVICE_KEY_SLOTS] = "check --passphrase, or make slots with a "
    "smaller iter-time",
  [QCOW2_ADVICE_NEW_BITMAP] = "make a full copy of the disk, and a new bitmap",
  [QCOW2_ADVICE_END_BITMAP] = "disable the bitmap first",
  [QCOW2_ADVICE_REMOVE_BITMAP] = "make a full copy of the disk and remove the "
    "bitmap",
  [QCOW2_ADVICE_REMOVE_BROKEN] = "'qcow2ctl bitmap remove --broken' removes "
    "the bitmaps that are broken, and nothing else",
  [QCOW2_ADVICE_BITMAP_READ_ONLY] = "make a full copy of the disk",
  [QCOW2_ADVICE_NO_COMPRESSION] = "",
  [QCOW2_ADVICE_NO_LAZINESS] = "",
  [QCOW2_ADVICE_LIST_BITMAPS] = "'qcow2ctl bitmap list' lists those it has",
  [QCOW2_ADVICE_LIST_SNAPSHOTS] = "'qcow2ctl snapshot list' lists those it "
    "has",
  [QCOW2_ADVICE_CLOSE_VIEWS] = "",
  [QCOW2_ADVICE_RAW] = "a raw disk has nothing that qcow2ctl could look at or "
    "change",
  [QCOW2_ADVICE_VMDK] = CONVERT ("vmdk"),
  [QCOW2_ADVICE_VPC] = CONVERT ("vpc"),
  [QCOW2_ADVICE_VHDX] = CONVERT ("vhdx"),
  [QCOW2_ADVICE_VDI] = CONVERT ("vdi"),
  [QCOW2_ADVICE_QED] = CONVERT ("qed"),
  [QCOW2_ADVICE_PARALLELS] = CONVERT ("parallels"),
  [QCOW2_ADVICE_GZIP] = "unpack it with 'gzip -d'",
  [QCOW2_ADVICE_XZ] = "unpack it with 'xz -d'",
  [QCOW2_ADVICE_BZIP2] = "unpack it with 'bzip2 -d'",
  [QCOW2_ADVICE_LZIP] = "unpack it with 'lzip -d'",
  [QCOW2_ADVICE_ZSTD] = "unpack it with 'zstd -d'",
  [QCOW2_ADVICE_ZIP] = "unpack it with 'unzip'",
  [QCOW2_ADVICE_TAR] = "unpack it with 'tar -x'",
  [QCOW2_ADVICE_LUKS] = "the image is inside; decrypt it with cryptsetup, or "
    "with nbdkit's luks filter",
};

const char *
advice_words (enum qcow2_advice advice)
{
  return (size_t) advice < QCOW2_NR_ADVICES && remedies[advice] != NULL
    ? remedies[advice] : "";
}

static void __attribute__ ((__format__ (__printf__, 1, 0)))
print_line (const char *format, va_list args)
{
  char text[1500];

  vsnprintf (text, sizeof text, format, args);
  /* What users gave, such as names of files, says nothing to a terminal. */
  for (char *p = text; *p; ++p)
    if ((unsigned char) *p < ' ' || *p == '\177')
      *p = '?';
  fprintf (stderr, "qcow2ctl: %s\n", text);
}

void
warn_line (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  print_line (format, args);
  va_end (args);
}

int
fail_code (int code, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  print_line (format, args);
  va_end (args);
  return code;
}

int
fail_usage (const struct command *command, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  print_line (format, args);
  va_end (args);
  fprintf (stderr, "Try 'qcow2ctl %s%s--help'.\n",
           command ? command->name : "", command ? " " : "");
  return CODE_FAILED;
}

/* Errors have their kind; where that says only that the host failed, its errno
 * tells.
 */
static int
code_of (const struct qcow2_error *err)
{
  if (err->outcome != QCOW2_OUTCOME_NOT_DONE)
    return CODE_CHANGED;
  if (err->errnum == EBUSY)
    return CODE_BUSY;
  if (err->kind == QCOW2_ERR_NOT_FOUND || err->errnum == ENOENT ||
      err->errnum == EEXIST)
    return CODE_NAME;
  return CODE_FAILED;
}

int
fail_error (const char *name, const struct qcow2_error *err)
{
  const char *const words = advice_words (err->advice);

  return fail_code (code_of (err), "%s%s%s%s%s", name ? name : "",
                    name ? ": " : "", err->text, words[0] ? "; " : "", words);
}
