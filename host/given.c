/* SPDX-License-Identifier: BSD-3-Clause */
/* given.c - from the words of options to rules.
 *
 * Owns      nothing: rules are the program's.  The passphrases in them
 *           (secrets.c) are wiped in the end, as are the keys of images that
 *           were opened with them.
 * Method    a value that looks like a URI is one, "export:" begins the name
 *           of an export where there are such things, and everything else is a
 *           local path, made absolute because a daemon changes its directory.
 *           Nothing is opened here but the folder that may be followed into,
 *           which so stays the same one whatever becomes of its name.
 * Locks     none: one thread fills rules in, before others use them.
 */
#include "config.h"

#include "host/given.h"

#include "qcow2.h"
#include "host/error.h"
#include "host/nbdfile.h"
#include "host/rules.h"
#include "host/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Paths ------------------------------------------------------------ */

static void *
no_memory (struct qcow2_error *err)
{
  fail_with (err, QCOW2_ERR_NOMEM, ENOMEM, "out of memory for the options");
  return NULL;
}

/* As it is, but for the current directory in front. */
static char *
absolute (const char *path, struct qcow2_error *err)
{
  const bool is_absolute = path[0] == '/';
  char *cwd = is_absolute ? strdup ("") : realpath (".", NULL);
  char *ret = NULL;

  if (cwd == NULL && !is_absolute && errno != ENOMEM)
    fail_with (err, QCOW2_ERR_IO, errno, "%s: the current directory: %s", path,
               strerror (errno));
  else if (cwd == NULL ||
           asprintf (&ret, "%s%s%s", cwd, is_absolute ? "" : "/", path) == -1)
    ret = no_memory (err);
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
name_of_uri (const char *uri, struct qcow2_error *err)
{
  const char *const rest = strstr (uri, "://") + 3;
  const size_t end = strcspn (rest, "?#");
  const char *const at = memrchr (rest, '@', strcspn (rest, "/?#"));
  const char *const host = at ? at + 1 : rest;
  const char *socket = strstr (rest + end, "socket=");
  char *name = NULL;

  /* No character of a user's name ends the host. */
  (void) qcow2_holds (host <= rest + end);
  if (socket == NULL)
    socket = "";
  if (asprintf (&name, "%.*s%.*s%s%.*s", (int) (rest - uri), uri,
                (int) (rest + end - host), host, socket[0] ? "?" : "",
                (int) strcspn (socket, "&;#"), socket) == -1)
    return no_memory (err);
  return name;
}

static int
check_place (const struct rule_words *words, const char *key,
             const char *value, bool exports, struct qcow2_error *err)
{
  if (value[0] == '\0')
    return fail_with (err, QCOW2_ERR_INVALID, EINVAL, "%s: the value is empty",
                      key);
  if (is_uri (value) && !is_nbd_uri (value))
    return fail_with (err, QCOW2_ERR_INVALID, EINVAL,
                      "%s: '%.40s' is neither a file nor an NBD URI (nbd://, "
                      "nbds://, nbd+unix://, nbds+unix://, nbd+vsock://)",
                      key, value);
  if (is_uri (value) && !nbdfile_supported ())
    return fail_with (err, QCOW2_ERR_UNSUPPORTED, ENOTSUP,
                      "%s: this %s was built without libnbd, so it cannot "
                      "open NBD URIs", key, words->program);
  if (exports && strncmp (value, "export:", 7) == 0 &&
      words->no_exports != NULL)
    return fail_with (err, QCOW2_ERR_UNSUPPORTED, ENOTSUP, "%s: export: %s",
                      key, words->no_exports);
  return 0;
}

void
place_clear (struct place *place)
{
  free (place->text);
  free (place->name);
}

int
place_parse (struct place *place, const struct rule_words *words,
             const char *key, const char *value, bool exports,
             struct qcow2_error *err)
{
  struct place made = { .kind = PLACE_FILE };
  bool no_path = false;         /* and *err says why */

  if (check_place (words, key, value, exports, err) == -1)
    return -1;
  if (is_uri (value)) {
    made.kind = PLACE_URI;
    made.text = strdup (value);
    made.name = name_of_uri (value, err);
  }
  else if (exports && strncmp (value, "export:", 7) == 0) {
    made.kind = PLACE_EXPORT;
    made.text = strdup (value + 7);
    made.name = strdup (value);
  }
  else {
    made.text = absolute (value, err);
    made.name = made.text ? strdup (made.text) : NULL;
    no_path = made.text == NULL;
  }
  if (made.text != NULL && made.name != NULL) {
    *place = made;
    return 0;
  }
  place_clear (&made);
  if (!no_path)
    no_memory (err);
  return -1;
}

/* ---- Options ------------------------------------------------------------ */

/* What an option says, and where that goes. */
struct given {
  struct rules *rules;
  const struct rule_words *words;
  const char *key, *value;
  struct qcow2_error *err;
};

/* The array with room for one more at its end; NULL with the error filled in.
 */
static void *
grown (void *array, size_t nr, size_t size, struct qcow2_error *err)
{
  void *const more = reallocarray (array, nr + 1, size);

  if (more == NULL)
    return no_memory (err);
  return more;
}

static int
add_backing (const struct given *g)
{
  struct rules *const rules = g->rules;
  struct place *const all =
    grown (rules->backing, rules->nr_backing, sizeof *all, g->err);

  if (all == NULL)
    return -1;
  rules->backing = all;
  if (place_parse (&all[rules->nr_backing], g->words, g->key, g->value,
                   g->words->exports, g->err) == -1)
    return -1;
  rules->nr_backing++;
  return 0;
}

static int
add_format (const struct given *g)
{
  const bool raw = strcmp (g->value, "raw") == 0;
  struct rules *const rules = g->rules;
  enum layer_format *all;

  if (!raw && strcmp (g->value, "qcow2") != 0)
    return fail_with (g->err, QCOW2_ERR_INVALID, EINVAL,
                      "%s must be raw or qcow2, not '%s'", g->key, g->value);
  all = grown (rules->formats, rules->nr_formats, sizeof *all, g->err);
  if (all == NULL)
    return -1;
  rules->formats = all;
  all[rules->nr_formats++] = raw ? FORMAT_RAW : FORMAT_QCOW2;
  return 0;
}

static int
add_data_file (const struct given *g)
{
  if (g->rules->data_file != NULL)
    return fail_with (g->err, QCOW2_ERR_INVALID, EINVAL,
                      "%s: there can be only one", g->key);
  g->rules->data_file = calloc (1, sizeof *g->rules->data_file);
  if (g->rules->data_file == NULL) {
    no_memory (g->err);
    return -1;
  }
  return place_parse (g->rules->data_file, g->words, g->key, g->value, false,
                      g->err);
}

static int
add_follow (const struct given *g)
{
  struct rules *const rules = g->rules;
  int fd;

  if (g->value[0] == '\0')
    return fail_with (g->err, QCOW2_ERR_INVALID, EINVAL,
                      "%s: the value is empty; give the folder whose files "
                      "may be opened, '.' for the current one", g->key);
  if (rules->follow != NULL)
    return fail_with (g->err, QCOW2_ERR_INVALID, EINVAL,
                      "%s: there can be only one", g->key);
  rules->follow = realpath (g->value, NULL);
  fd = rules->follow ? open (rules->follow, O_PATH | O_DIRECTORY | O_CLOEXEC)
    : -1;
  if (fd == -1)
    return fail_with (g->err, QCOW2_ERR_IO, errno, "%s: %s: %s", g->key,
                      g->value, strerror (errno));
  rules->follow_fd = fd;
  rules->follow_given = absolute (g->value, g->err);
  return rules->follow_given ? 0 : -1;
}

static int
add_passphrase (const struct given *g)
{
  struct rules *const rules = g->rules;
  struct passphrase *const all =
    grown (rules->passphrases, rules->nr_passphrases, sizeof *all, g->err);

  if (all == NULL)
    return -1;
  rules->passphrases = all;
  if (passphrase_read (&all[rules->nr_passphrases], g->key, g->value,
                       g->words->ask, g->err) == -1)
    return -1;
  rules->nr_passphrases++;
  return 0;
}

int
rules_add (struct rules *rules, const struct rule_words *words,
           enum rule_option option, const char *key, const char *value,
           struct qcow2_error *err)
{
  const struct given g = { rules, words, key, value, err };

  switch (option) {
  case RULE_BACKING:
    return add_backing (&g);
  case RULE_BACKING_FORMAT:
    return add_format (&g);
  case RULE_DATA_FILE:
    return add_data_file (&g);
  case RULE_FOLLOW:
    return add_follow (&g);
  case RULE_PASSPHRASE:
    return add_passphrase (&g);
  }
  return -1;
}

/* Not before the program has forked, since a child does not inherit the locks
 * on memory.
 */
void
rules_lock (struct rules *rules)
{
  for (size_t i = 0; i < rules->nr_passphrases; ++i)
    passphrase_lock (&rules->passphrases[i]);
  if (!qcow2_holds (rules->keyring == NULL))
    return;
  if (rules->nr_passphrases > 0)
    rules->keyring = qcow2_keyring_new ();
}

void
rules_clear (struct rules *rules)
{
  for (size_t i = 0; i < rules->nr_backing; ++i)
    place_clear (&rules->backing[i]);
  free (rules->backing);
  free (rules->formats);
  if (rules->data_file)
    place_clear (rules->data_file);
  free (rules->data_file);
  free (rules->follow);
  free (rules->follow_given);
  if (rules->follow_fd != -1)
    close (rules->follow_fd);
  for (size_t i = 0; i < rules->nr_passphrases; ++i)
    passphrase_wipe (&rules->passphrases[i]);
  free (rules->passphrases);
  qcow2_keyring_free (rules->keyring);
  *rules = (struct rules) RULES_INIT;
}
