/* SPDX-License-Identifier: BSD-3-Clause */
/* find.c - from a name in a header to the file that it may open.
 *
 * Owns      the rules for that.
 * Method    what a parameter names goes first; else the header's name is
 *           followed, if qcow2-follow allows that; else it is refused, with a
 *           message that says what to do.  Names are taken relative to the
 *           folder of the image that they are in, as far as that is beneath
 *           the folder to follow in, else to the latter.
 *
 *           The format of a backing file is never guessed from its content:
 *           whoever writes to a disk could make its raw content look like an
 *           image that names any file.  For a file that a parameter names,
 *           the format that a parameter gives counts whatever the header
 *           says; for one that the header names, they must not disagree.
 * Locks     none.
 */
#include "config.h"

#include "host/find.h"

#include "qcow2.h"
#include "host/chain.h"
#include "host/claims.h"
#include "host/env.h"
#include "host/error.h"
#include "host/follow.h"
#include "host/names.h"
#include "host/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void
found_free (struct found *found)
{
  if (found->fd != -1)
    close (found->fd);
  free (found->name);
  free (found->folder);
}

static int
fail_nomem (struct qcow2_error *err)
{
  return fail_with (err, QCOW2_ERR_NOMEM, ENOMEM,
                    "out of memory for opening another file");
}

/* ---- What a parameter names -------------------------------------------- */

static int
identify (struct found *found, struct qcow2_error *err)
{
  struct stat st;

  if (fstat (found->fd, &st) == -1)
    return fail_with (err, QCOW2_ERR_IO, errno, "%s: %s", found->name,
                      strerror (errno));
  if (!identity_of_file (&st, &found->id))
    return fail_with (err, QCOW2_ERR_REFUSED, EINVAL,
                      "%s is neither a regular file nor a block device",
                      found->name);
  return 0;
}

static int
find_local (struct found *found, struct qcow2_error *err)
{
  const char *const path = found->place->text;

  found->fd = open (path, O_PATH | O_CLOEXEC);
  if (found->fd == -1)
    return fail_with (err, QCOW2_ERR_IO, errno, "%s cannot be opened: %s",
                      path, strerror (errno));
  found->folder = folder_of (path);
  return identify (found, err);
}

static int
find_place (const struct host_env *env, struct found *found,
            struct qcow2_error *err)
{
  const struct place *const place = found->place;

  found->name = strdup (place->name);
  if (found->name == NULL)
    return fail_nomem (err);
  switch (place->kind) {
  case PLACE_FILE:
    return find_local (found, err);
  case PLACE_URI:
    found->id = (struct identity) { .kind = ID_URI, .text = place->text };
    return 0;
  case PLACE_EXPORT:
    if (env->find_export != NULL)
      return env->find_export (env, place, found, err);
    return fail_with (err, QCOW2_ERR_UNSUPPORTED, ENOTSUP,
                      "%s: there are no other exports", place->name);
  }
  return -1;
}

/* ---- What the header names --------------------------------------------- */

#define LEADS_OUT "leads out of the folder of "

/* Names such as "./below" would make paths longer with each image of a chain,
 * and the same folder look like another one.
 */
static void
drop_dots (char *path)
{
  char *to = path;

  for (const char *from = path; *from != '\0';) {
    const size_t len = strcspn (from, "/");
    const size_t n = len + (from[len] == '/');
    const bool dot = n == 2 && from[0] == '.' && from[2] != '\0' &&
      from[2] != '/';

    if (!dot) {
      memmove (to, from, n);
      to += n;
    }
    from += n;
  }
  (void) qcow2_holds ((size_t) (to - path) <= strlen (path));
  *to = '\0';
}

/* The path to follow, relative to the folder to follow in; NULL, or why
 * not.
 */
static const char *
path_to_follow (const struct gate *gate,
                const struct qcow2_reference *reference, char path[PATH_MAX])
{
  char name[NAME_SIZE];
  const char *const why = name_to_path (reference, name);
  const char *folder = "", *rest = name;
  int n;

  if (why != NULL)
    return why;
  if (name[0] == '/')
    rest = follow_beneath (gate->env->rules, name);
  else if (gate->folder != NULL)
    folder = follow_beneath (gate->env->rules, gate->folder);
  if (rest == NULL)
    return LEADS_OUT;
  if (folder == NULL)
    folder = "";
  n = snprintf (path, PATH_MAX, "%s%s%s", folder, folder[0] ? "/" : "",
                rest);
  if (n < PATH_MAX)
    drop_dots (path);
  return n < PATH_MAX ? NULL : "is too long with its folder";
}

/* The name, for messages, and the folder, to look in further. */
static int
name_followed (const struct rules *rules, struct found *found,
               const char *path)
{
  const char *const slash = strrchr (path, '/');
  size_t prefix = strlen (rules->follow) + 1;

  if (asprintf (&found->name, "%s/%s", rules->follow, path) == -1)
    found->name = NULL;
  if (asprintf (&found->folder, "%s/%.*s", rules->follow,
                slash ? (int) (slash - path) : 0, path) == -1)
    found->folder = NULL;
  if (found->name == NULL || found->folder == NULL)
    return -1;
  for (char *p = found->name + prefix; *p; ++p)
    if (*p < 0x20 || *p >= 0x7f)
      *p = '?';
  return 0;
}

static const char *
why_not_found (int errnum)
{
  switch (errnum) {
  case EXDEV:
    return LEADS_OUT;
  case ELOOP:
    return "leads through a link that is not followed";
  case EINVAL:
    return "does not lead to a regular file";
  default:
    return NULL;
  }
}

static int
fail_followed (const struct gate *gate,
               const struct qcow2_reference *reference, const char *why,
               const char *detail, struct qcow2_error *err)
{
  char text[PRINTABLE_SIZE];

  if (strcmp (why, LEADS_OUT) == 0)
    detail = gate->env->words->follow;
  return fail_with (err, QCOW2_ERR_REFUSED, EPERM,
                    "the image's %s is named %s, which %s%s",
                    reference_kind (reference),
                    printable (text, reference->name, reference->name_len),
                    why, detail);
}

/* Names are relative to the image, or absolute: so say where that led. */
static int
fail_missing (const struct host_env *env,
              const struct qcow2_reference *reference, const char *path,
              struct qcow2_error *err)
{
  char text[PRINTABLE_SIZE];

  return fail_with (err, QCOW2_ERR_REFUSED, EPERM,
                    "the image's %s is named %s, which does not lead to a "
                    "file beneath the folder of %s: %s%s/%s",
                    reference_kind (reference),
                    printable (text, reference->name, reference->name_len),
                    env->words->follow,
                    path[0] ? "there is no " : "it is that folder, ",
                    env->rules->follow, path);
}

static int
find_followed (const struct gate *gate,
               const struct qcow2_reference *reference, struct found *found,
               struct qcow2_error *err)
{
  const struct rules *const rules = gate->env->rules;
  char path[PATH_MAX];
  const char *why = path_to_follow (gate, reference, path);

  if (why != NULL)
    return fail_followed (gate, reference, why, "", err);
  (void) host_holds (gate->env, rules->follow_fd != -1 && path[0] != '/');
  found->fd = follow_find (rules, path);
  if (found->fd == -1 && errno == ENOENT)
    return fail_missing (gate->env, reference, path, err);
  if (found->fd == -1) {
    why = why_not_found (errno);
    return why ? fail_followed (gate, reference, why, "", err)
      : fail_followed (gate, reference, "cannot be opened: ",
                       strerror (errno), err);
  }
  if (name_followed (rules, found, path) == -1)
    return fail_nomem (err);
  return identify (found, err);
}

static int
refuse (const struct gate *gate, const struct qcow2_reference *reference,
        struct qcow2_error *err)
{
  const bool data = reference->kind == QCOW2_DATA_FILE;
  const struct host_words *const words = gate->env->words;
  const bool can_be_given = gate->env->one_image &&
    !(data && gate->depth > 0);
  const char *const option =
    !can_be_given ? "" : data ? words->data_file : words->backing;
  char text[PRINTABLE_SIZE];

  return fail_with (err, QCOW2_ERR_REFUSED, EPERM,
                    "the image's %s is named %s, and no file is opened "
                    "because an image names it; give %s%s%s%s%sDIR, if it is "
                    "beneath a folder DIR all of whose files may be opened",
                    reference_kind (reference),
                    printable (text, reference->name, reference->name_len),
                    option, can_be_given ? words->sep : "",
                    can_be_given ? "FILE, or " : "", words->follow,
                    words->sep);
}

/* ---- The format -------------------------------------------------------- */

static int
find_format (const struct gate *gate, const struct qcow2_reference *reference,
             struct found *found, struct qcow2_error *err)
{
  const struct rules *const rules = gate->env->rules;
  const struct host_words *const words = gate->env->words;
  const size_t n = gate->depth;
  const enum layer_format given =
    n < rules->nr_formats ? rules->formats[n] : FORMAT_UNKNOWN;
  const enum layer_format said =
    name_to_format (reference->format, reference->format_len);
  char text[PRINTABLE_SIZE];

  found->format = given ? given : said;
  if (given != FORMAT_UNKNOWN &&
      (found->place != NULL || reference->format_len == 0 || given == said))
    return 0;
  if (reference->format_len == 0)
    return fail_with (err, QCOW2_ERR_REFUSED, EPERM,
                      "the image does not say which format its backing file "
                      "%s has, and that is never guessed; give "
                      "%s%sraw or %sqcow2%s", found->name,
                      words->backing_format, words->sep, words->sep,
                      n == 0 ? "" : " for each backing file of the chain");
  (void) host_holds (gate->env, given == FORMAT_UNKNOWN ||
                     found->place == NULL);
  printable (text, reference->format, reference->format_len);
  if (given != FORMAT_UNKNOWN)
    return fail_with (err, QCOW2_ERR_REFUSED, EPERM,
                      "the image says that its backing file %s is of format "
                      "%s, but %s says otherwise; give %s if you know better",
                      found->name, text, words->backing_format,
                      words->backing);
  if (said == FORMAT_UNKNOWN)
    return fail_with (err, QCOW2_ERR_UNSUPPORTED, ENOTSUP,
                      "the image's backing file %s is of format %s, and only "
                      "raw and qcow2 can be used", found->name, text);
  return 0;
}

/* ---- Both -------------------------------------------------------------- */

static const struct place *
place_of (const struct gate *gate, const struct qcow2_reference *reference)
{
  const struct rules *const rules = gate->env->rules;

  if (reference->kind == QCOW2_DATA_FILE)
    return gate->depth == 0 ? rules->data_file : NULL;
  return gate->depth < rules->nr_backing ? &rules->backing[gate->depth]
    : NULL;
}

int
find_file (const struct gate *gate, const struct qcow2_reference *reference,
           struct found *found, struct qcow2_error *err)
{
  int r;

  *found = (struct found) {
    .fd = -1, .place = place_of (gate, reference),
  };
  if (found->place != NULL)
    r = find_place (gate->env, found, err);
  else if (gate->env->rules->follow != NULL)
    r = find_followed (gate, reference, found, err);
  else
    r = refuse (gate, reference, err);
  /* It is a file that was looked at, or a place that is opened later. */
  (void) host_holds (gate->env, r == -1 ||
                     (found->name != NULL && found->id.kind != ID_UNKNOWN &&
                      (found->fd != -1 || found->place != NULL)));
  if (r == 0 && reference->kind == QCOW2_BACKING_FILE)
    r = find_format (gate, reference, found, err);
  if (r == -1)
    found_free (found);
  return r;
}
