/* SPDX-License-Identifier: BSD-3-Clause */
/* rawnames.c - which exports are raw disks (qcow2-raw).
 *
 * Owns      the patterns.
 * Method    only a name says that something is raw, never its content: a
 *           guest can write the header of an image to its raw disk, and one
 *           whose image could be had raw would be given its tables to change.
 *           So this needs names that the server's owner gives and no client
 *           can make up: those of files in a folder.
 * Locks     none: only the main thread writes, before there are others.
 */
#include "config.h"

#include "rawnames.h"

#include "nbdkit_api.h"
#include "exports.h"
#include "settings.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static struct {
  char **patterns;
  size_t nr;
} raw;

int
raw_names_parse (const char *value)
{
  char **more;

  if (value[0] == '\0' || strchr (value, '/') != NULL) {
    nbdkit_error ("qcow2-raw must be the name of a file in the folder of "
                  "dir=, or a pattern such as '*.raw', not '%s'", value);
    return -1;
  }
  more = reallocarray (raw.patterns, raw.nr + 1, sizeof *more);
  if (more != NULL)
    raw.patterns = more;
  if (more == NULL || (more[raw.nr] = strdup (value)) == NULL) {
    nbdkit_error ("qcow2: out of memory");
    return -1;
  }
  raw.nr++;
  return 0;
}

int
raw_names_complete (void)
{
  if (raw.nr == 0 || config.names == NAMES_ARE_FILES)
    return 0;
  nbdkit_error ("qcow2-raw needs a folder of images (dir=), whose names no "
                "client can make up");
  return -1;
}

void
raw_names_unload (void)
{
  for (size_t i = 0; i < raw.nr; ++i)
    free (raw.patterns[i]);
  free (raw.patterns);
  raw.patterns = NULL;
  raw.nr = 0;
}

bool
raw_names_have (const char *exportname)
{
  for (size_t i = 0; i < raw.nr; ++i)
    if (fnmatch (raw.patterns[i], exportname, FNM_PERIOD) == 0)
      return true;
  return false;
}
