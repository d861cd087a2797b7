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

#include "host/names.h"

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

char *
source_path (const char *image, const char *name)
{
  const char *const slash = is_uri (image) ? NULL : strrchr (image, '/');
  char *path;

  if (slash == NULL || name[0] == '/' || is_uri (name))
    return strdup (name);
  return asprintf (&path, "%.*s/%s", (int) (slash - image), image, name) == -1
    ? NULL : path;
}

int
source_check_name (const char *name, bool elsewhere)
{
  const char *const why = name == NULL || name[0] == '\0' ? NULL
    : name_to_refuse (name, elsewhere);

  return why == NULL ? CODE_OK
    : fail_code (CODE_FAILED, "the name '%s' %s; if it is a file give ./%s",
                 name, why, name);
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
  struct stat st;

  if (fd == -1)
    return errno == EEXIST ? CODE_OK
      : fail_code (errno == ENOENT ? CODE_NAME : CODE_FAILED,
                   "%s cannot be made: %s", name, strerror (errno));
  if (fstat (fd, &st) == 0) {
    t->created = strdup (name);
    t->dev = st.st_dev;
    t->ino = st.st_ino;
  }
  close (fd);
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
  if (code == CODE_OK)
    return CODE_OK;
  /* Somebody was faster, and it is theirs. */
  free (t->created);
  t->created = NULL;
  return code;
}

int
target_open_beside (struct target *t, struct ctl *ctl, const char *image,
                    const char *name, bool force)
{
  char *const path = source_path (image, name);
  int code;

  *t = (struct target) { .open = false };
  if (path == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  code = target_open (t, ctl, path, force);
  t->path = path;
  return code;
}

/* While it is locked. */
static void
remove_made (const struct target *t)
{
  struct stat st;

  if (stat (t->created, &st) == 0 && st.st_dev == t->dev &&
      st.st_ino == t->ino)
    unlink (t->created);
}

int
target_close (struct target *t, int code)
{
  if (t->created && code != CODE_OK)
    remove_made (t);
  if (t->open)
    code = image_close (&t->i, code);
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
  char *const path = source_path (image, name);
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
      *ret_size = raw ? i.io->size : qcow2_get_info (i.image).virtual_size;
    if (i.io)
      code = image_close (&i, code);
  }
  free (path);
  return code;
}

static bool
same_file (const char *one, const char *two)
{
  struct stat a, b;

  if (stat (one, &a) == -1 || stat (two, &b) == -1)
    return strcmp (one, two) == 0;
  return S_ISBLK (a.st_mode) ? S_ISBLK (b.st_mode) && a.st_rdev == b.st_rdev
    : a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static bool
source_is_path (const char *image, const char *name, const char *other)
{
  char *const path = source_path (image, name);
  bool same;

  if (path == NULL)             /* without memory they are not the same */
    return false;
  same = same_file (path, other);
  free (path);
  return same;
}

bool
source_is_image (const char *image, const char *name)
{
  return source_is_path (image, name, image);
}

bool
source_is_other (const char *image, const char *name, const char *other)
{
  char *const path = source_path (image, name);
  bool same;

  if (path == NULL)
    return false;
  same = source_is_path (image, other, path);
  free (path);
  return same;
}
