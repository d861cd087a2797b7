/* SPDX-License-Identifier: BSD-3-Clause */
/* sources.c - the files of an image that does not exist yet.
 *
 * Owns      what counts as empty: no bytes, or only zeros, or what an
 *           interrupted creation has left (qcow2_look_at).
 * Method    image.c opens and locks them.  Names of other files mean what
 *           they will mean in the new image: they are relative to its folder.
 *           The user has given them, so they may be opened.
 * Locks     QEMU's locks: for writing, or for reading a backing file.
 */
#include "config.h"

#include "sources.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
is_uri (const char *name)
{
  return strstr (name, "://") != NULL;
}

/* To be freed; NULL: no memory. */
static char *
beside (const char *image, const char *name)
{
  const char *const slash = is_uri (image) ? NULL : strrchr (image, '/');
  char *path;

  if (slash == NULL || name[0] == '/' || is_uri (name))
    return strdup (name);
  return asprintf (&path, "%.*s/%s", (int) (slash - image), image, name) == -1
    ? NULL : path;
}

/* ---- Targets ------------------------------------------------------------ */

static int
fail_not_empty (const struct target *t)
{
  return fail_code (CODE_NAME, "%s is not empty; give --force to write over "
                    "what is in it", t->i.name);
}

static int
check_empty (const struct target *t)
{
  enum qcow2_content content;
  struct qcow2_error err;

  if (qcow2_look_at (t->i.io, &content, &err) == -1)
    return fail_error (t->i.name, &err);
  return content == QCOW2_CONTENT_NOTHING ||
    content == QCOW2_CONTENT_UNFINISHED ? CODE_OK : fail_not_empty (t);
}

/* If there is nothing of that name. */
static int
make_file (struct target *t, const char *name)
{
  const int fd =
    open (name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);

  if (fd == -1)
    return errno == EEXIST ? CODE_OK
      : fail_code (errno == ENOENT ? CODE_NAME : CODE_FAILED,
                   "%s cannot be made: %s", name, strerror (errno));
  close (fd);
  t->created = strdup (name);
  return CODE_OK;
}

int
target_open (struct target *t, struct ctl *ctl, const char *name, bool force)
{
  int code = CODE_OK;

  *t = (struct target) { .open = false };
  if (!is_uri (name))
    code = make_file (t, name);
  if (code == CODE_OK)
    code = image_open_bytes (ctl, &t->i, name, true);
  t->open = code == CODE_OK;
  if (code == CODE_OK && !force)
    code = check_empty (t);
  return code;
}

int
target_open_beside (struct target *t, struct ctl *ctl, const char *image,
                    const char *name, bool force)
{
  char *const path = beside (image, name);
  int code;

  *t = (struct target) { .open = false };
  if (path == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  code = target_open (t, ctl, path, force);
  t->path = path;
  return code;
}

int
target_close (struct target *t, int code)
{
  if (t->open)
    code = image_close (&t->i, code);
  if (t->created && code != CODE_OK)
    unlink (t->created);
  free (t->created);
  free (t->path);
  *t = (struct target) { .open = false };
  return code;
}

/* ---- Backing files ------------------------------------------------------ */

int
source_size (struct ctl *ctl, const char *image, const char *name,
             const char *format, uint64_t *ret_size)
{
  const bool raw = strcmp (format, "raw") == 0;
  char *const path = beside (image, name);
  struct image i;
  int code;

  if (path == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  if (!raw && strcmp (format, "qcow2") != 0)
    code = fail_code (CODE_FAILED, "%s: a backing file of the format %s "
                      "cannot be looked at; give -u and the size of the disk",
                      name, format);
  else {
    code = image_open_bytes (ctl, &i, path, false);
    if (code == CODE_OK && !raw)
      code = image_open_inside (&i, OPEN_TO_INSPECT);
    if (code == CODE_OK)
      *ret_size = raw ? i.io->size : qcow2_get_info (i.image)->virtual_size;
    if (i.io)
      code = image_close (&i, code);
  }
  free (path);
  return code;
}

bool
source_is_image (const char *image, const char *name)
{
  char *const path = beside (image, name);
  struct stat a, b;
  bool same = false;

  if (path != NULL && stat (image, &a) == 0 && stat (path, &b) == 0)
    same = S_ISBLK (a.st_mode) ? S_ISBLK (b.st_mode) && a.st_rdev == b.st_rdev
      : a.st_dev == b.st_dev && a.st_ino == b.st_ino;
  else if (path != NULL)
    same = strcmp (path, image) == 0;
  free (path);
  return same;
}
