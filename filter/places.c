/* SPDX-License-Identifier: BSD-3-Clause */
/* places.c - the parameters that say which other files may be opened.
 *
 * Owns      the global 'places', constant once after_fork has run.  The
 *           passphrases in it (secrets.c) are wiped in the end, as are the
 *           keys of images that were opened with them.
 * Method    a value that looks like a URI is one, "export:" begins the name
 *           of an export, and everything else is a local path, made
 *           absolute because a daemon changes its directory.  Nothing is
 *           opened here but the folder of qcow2-follow, which so stays the
 *           same one whatever becomes of its name.
 *
 *           A file that is given by name belongs to one image.  So these
 *           parameters are refused where the server has many, or may have:
 *           two images with one data file destroy each other.  An export
 *           has a name only where names mean something, the other way
 *           round.
 * Locks     none: only the main thread writes, before there are others.
 */
#include "config.h"

#include "places.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/nbdfile.h"
#include "host/rules.h"
#include "exports.h"
#include "secrets.h"
#include "settings.h"
#include "below/exportfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rules places = { .follow_fd = -1 };

/* ---- Paths ------------------------------------------------------------ */

static void *
no_memory (void)
{
  nbdkit_error ("qcow2: out of memory for the parameters");
  return NULL;
}

/* As it is, but for the current directory in front. */
static char *
absolute (const char *path)
{
  char *cwd = path[0] == '/' ? strdup ("") : getcwd (NULL, 0);
  char *ret = NULL;

  if (cwd == NULL ||
      asprintf (&ret, "%s%s%s", cwd, path[0] == '/' ? "" : "/", path) == -1)
    ret = no_memory ();
  free (cwd);
  return ret;
}

/* ---- Places ----------------------------------------------------------- */

static bool
is_uri (const char *value)
{
  const size_t n = strspn (value, "abcdefghijklmnopqrstuvwxyz"
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");

  return n > 0 && strncmp (value + n, "://", 3) == 0;
}

static bool
is_nbd_uri (const char *value)
{
  static const char *const schemes[] = {
    "nbd://", "nbds://", "nbd+unix://", "nbds+unix://", "nbd+vsock://",
    "nbds+vsock://", NULL
  };

  for (size_t i = 0; schemes[i]; ++i)
    if (strncmp (value, schemes[i], strlen (schemes[i])) == 0)
      return true;
  return false;
}

/* Without the user, and of the parameters only the socket. */
static char *
name_of_uri (const char *uri)
{
  const char *const rest = strstr (uri, "://") + 3;
  const size_t end = strcspn (rest, "?#");
  const char *const at = memrchr (rest, '@', strcspn (rest, "/?#"));
  const char *const host = at ? at + 1 : rest;
  const char *socket = strstr (rest + end, "socket=");
  char *name = NULL;

  if (socket == NULL)
    socket = "";
  if (asprintf (&name, "%.*s%.*s%s%.*s", (int) (rest - uri), uri,
                (int) (rest + end - host), host, socket[0] ? "?" : "",
                (int) strcspn (socket, "&;#"), socket) == -1)
    return no_memory ();
  return name;
}

static int
check_place (const char *key, const char *value, bool exports)
{
  if (value[0] == '\0')
    nbdkit_error ("%s: the value is empty", key);
  else if (is_uri (value) && !is_nbd_uri (value))
    nbdkit_error ("%s: '%.40s' is neither a file nor an NBD URI (nbd://, "
                  "nbds://, nbd+unix://, nbds+unix://, nbd+vsock://)", key,
                  value);
  else if (is_uri (value) && !nbdfile_supported ())
    nbdkit_error ("%s: this filter was built without libnbd, so it cannot "
                  "open NBD URIs", key);
  else if (exports && strncmp (value, "export:", 7) == 0 &&
           !exportfile_supported ())
    nbdkit_error ("%s: export: needs nbdkit 1.44 or later", key);
  else
    return 0;
  return -1;
}

static int
parse_place (struct place *place, const char *key, const char *value,
             bool exports)
{
  if (check_place (key, value, exports) == -1)
    return -1;
  if (is_uri (value)) {
    place->kind = PLACE_URI;
    place->text = strdup (value);
    place->name = name_of_uri (value);
  }
  else if (exports && strncmp (value, "export:", 7) == 0) {
    place->kind = PLACE_EXPORT;
    place->text = strdup (value + 7);
    place->name = strdup (value);
  }
  else {
    place->kind = PLACE_FILE;
    place->text = absolute (value);
    place->name = place->text ? strdup (place->text) : NULL;
  }
  if (place->text == NULL || place->name == NULL) {
    no_memory ();
    return -1;
  }
  return 0;
}

static void
place_free (struct place *place)
{
  free (place->text);
  free (place->name);
}

/* ---- Parameters --------------------------------------------------------- */

/* One more, zeroed, at the end of an array; NULL and logs on error. */
static void *
append (void *array, size_t *nr, size_t size)
{
  char *const more = reallocarray (*(void **) array, *nr + 1, size);

  if (more == NULL)
    return no_memory ();
  *(void **) array = more;
  memset (more + *nr * size, 0, size);
  return more + (*nr)++ * size;
}

static int
parse_backing (const char *key, const char *value)
{
  struct place *const place =
    append (&places.backing, &places.nr_backing, sizeof *place);

  return place ? parse_place (place, key, value, true) : -1;
}

static int
parse_format (const char *key, const char *value)
{
  enum layer_format *const format =
    append (&places.formats, &places.nr_formats, sizeof *format);

  if (format == NULL)
    return -1;
  if (strcmp (value, "raw") == 0)
    *format = FORMAT_RAW;
  else if (strcmp (value, "qcow2") == 0)
    *format = FORMAT_QCOW2;
  else {
    nbdkit_error ("%s must be raw or qcow2, not '%s'", key, value);
    return -1;
  }
  return 0;
}

static int
parse_data_file (const char *key, const char *value)
{
  places.data_file = calloc (1, sizeof *places.data_file);
  if (places.data_file == NULL) {
    no_memory ();
    return -1;
  }
  return parse_place (places.data_file, key, value, false);
}

static int
parse_follow (const char *key, const char *value)
{
  if (value[0] == '\0') {
    nbdkit_error ("%s: the value is empty; give the folder whose files may "
                  "be opened, '.' for the current one", key);
    return -1;
  }
  places.follow = realpath (value, NULL);
  if (places.follow != NULL)
    places.follow_fd = open (places.follow, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (places.follow_fd == -1) {
    nbdkit_error ("%s: %s: %m", key, value);
    return -1;
  }
  places.follow_given = absolute (value);
  return places.follow_given ? 0 : -1;
}

static int
parse_passphrase (const char *value)
{
  struct passphrase *const p = append (&places.passphrases,
                                       &places.nr_passphrases, sizeof *p);

  return p ? passphrase_read (p, value) : -1;
}

int
places_parse (const char *key, const char *value)
{
  int r;

  if (strcmp (key, "qcow2-backing") == 0)
    r = parse_backing (key, value);
  else if (strcmp (key, "qcow2-backing-format") == 0)
    r = parse_format (key, value);
  else if (strcmp (key, "qcow2-data-file") == 0)
    r = parse_data_file (key, value);
  else if (strcmp (key, "qcow2-follow") == 0)
    r = parse_follow (key, value);
  else if (strcmp (key, "qcow2-passphrase") == 0)
    r = parse_passphrase (value);
  else
    return 0;
  return r == 0 ? 1 : -1;
}

static int
refuse_many (const char *key)
{
  nbdkit_error ("%s is for a single image, but %s; use qcow2-follow", key,
                config.dir ? "with dir= there are many"
                : "it is not known whether this plugin has only one");
  return -1;
}

int
places_complete (void)
{
  const bool one = config.names == NAMES_IGNORED;

  for (size_t i = 0; i < places.nr_backing; ++i) {
    const bool is_export = places.backing[i].kind == PLACE_EXPORT;

    if (one && is_export) {
      nbdkit_error ("qcow2-backing=%s: this plugin has the same content "
                    "under every export name", places.backing[i].name);
      return -1;
    }
    if (!one && !is_export)
      return refuse_many ("qcow2-backing");
  }
  if (!one && places.data_file)
    return refuse_many ("qcow2-data-file");
  return 0;
}

/* Not before, since a child does not inherit the locks on memory. */
void
places_after_fork (void)
{
  for (size_t i = 0; i < places.nr_passphrases; ++i)
    passphrase_lock (&places.passphrases[i]);
  if (places.nr_passphrases > 0)
    places.keyring = qcow2_keyring_new ();
}

void
places_unload (void)
{
  for (size_t i = 0; i < places.nr_backing; ++i)
    place_free (&places.backing[i]);
  free (places.backing);
  free (places.formats);
  if (places.data_file)
    place_free (places.data_file);
  free (places.data_file);
  free (places.follow);
  free (places.follow_given);
  if (places.follow_fd != -1)
    close (places.follow_fd);
  for (size_t i = 0; i < places.nr_passphrases; ++i)
    passphrase_wipe (&places.passphrases[i]);
  free (places.passphrases);
  qcow2_keyring_free (places.keyring);
  places = (struct rules) { .follow_fd = -1 };
}
