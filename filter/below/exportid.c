/* SPDX-License-Identifier: BSD-3-Clause */
/* exportid.c - which local file an export of the plugin is.
 *
 * Owns      the path behind an export name.
 * Method    what the plugin was given is looked at again (fileid.c).  A
 *           filter cannot know what the plugin really has open, so callers
 *           look before the plugin opens the file and once more afterwards:
 *           if nothing changed in between, it is that file.
 * Locks     none.
 */
#include "config.h"

#include "below/exportid.h"

#include "host/claims.h"
#include "host/fileid.h"
#include "exports.h"
#include "settings.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* 0, or -1 if there is no local file. */
static int
path_of (char path[PATH_MAX], const char *exportname)
{
  int len;

  if (config.file)
    len = snprintf (path, PATH_MAX, "%s", config.file);
  else if (config.dir && strchr (exportname, '/') == NULL)
    len = snprintf (path, PATH_MAX, "%s/%s", config.dir, exportname);
  else
    return -1;
  return len < PATH_MAX ? 0 : -1;
}

void
export_id_get (struct file_id *id, const char *exportname)
{
  char path[PATH_MAX];

  if (path_of (path, exportname) == 0)
    file_id_get (id, path);
  else
    *id = (struct file_id) { .known = false };
  /* Devices and files behind descriptors have no name to look at. */
  if (!id->known && config.descriptor)
    id->perishable = true;
}

int
export_id_open (const struct file_id *id, const char *exportname, int flags)
{
  char path[PATH_MAX];

  if (path_of (path, exportname) == 0)
    return file_id_open (id, path, flags);
  errno = ENOENT;
  return -1;
}

struct identity
identity_of_export (const struct file_id *id, const char *exportname)
{
  if (id->known)
    return (struct identity) {
      .kind = ID_FILE, .dev = id->dev, .ino = id->ino,
    };
  if (id->device)
    return (struct identity) { .kind = ID_DEVICE, .dev = id->dev };
  if (config.names == NAMES_IGNORED)
    return (struct identity) { .kind = ID_UNKNOWN };
  return (struct identity) { .kind = ID_EXPORT, .text = exportname };
}
