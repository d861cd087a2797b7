/* SPDX-License-Identifier: BSD-3-Clause */
/* talk.c - a conversation with the control socket of a server.
 *
 * Owns      the connection, and the last reply; talk_values.c has what is in
 *           one.
 * Method    QMP: the server greets, we negotiate, and each command has one
 *           reply; events are passed over.  What an error is about the server
 *           says in members of its own: "x-q2-kind", and what came of a
 *           change that has failed.
 * Locks     none: only the main thread talks.
 */
#include "config.h"

#include "talk.h"

#include "output.h"

#ifdef HAVE_JANSSON

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* Of a reply. */
#define MAX_BYTES ((size_t) 64 << 20)
#define GREETING_SECONDS 10

struct talk {
  const char *path;
  FILE *in;
  int fd;
  json_t *reply;                /* or NULL */
};

static int
fail_talk (const struct talk *t, const char *what)
{
  return fail_code (CODE_FAILED, "%s: %s", t->path, what);
}

/* One message, or NULL having said what is wrong. */
static json_t *
receive (struct talk *t)
{
  char *line = NULL;
  size_t room = 0;
  const ssize_t len = getline (&line, &room, t->in);
  json_t *message = NULL;

  if (len <= 0)
    fail_talk (t, "the server has closed the connection");
  else if ((size_t) len > MAX_BYTES ||
           (message = json_loadb (line, (size_t) len, 0, NULL)) == NULL ||
           !json_is_object (message))
    fail_talk (t, "that is no control socket of the qcow2 filter");
  else {
    free (line);
    return message;
  }
  json_decref (message);
  free (line);
  return NULL;
}

/* Some servers on a socket say nothing at first, or something else.  A command
 * may take any time.
 */
static bool
greets (struct talk *t)
{
  const struct timeval patience = { GREETING_SECONDS, 0 }, none = { 0, 0 };
  int c;

  setsockopt (t->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  c = getc (t->in);
  if (c == '{') {
    ungetc (c, t->in);
    t->reply = receive (t);
  }
  else if (c == EOF && feof (t->in))
    fail_talk (t, "the server has closed the connection");
  setsockopt (t->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
  if (t->reply != NULL && json_object_get (t->reply, "QMP") != NULL)
    return true;
  if (t->reply != NULL || (c != '{' && c != EOF) || ferror (t->in))
    fail_talk (t, "that is no control socket of the qcow2 filter");
  return false;
}

/* What is no event. */
static json_t *
receive_reply (struct talk *t)
{
  json_t *message;

  while ((message = receive (t)) != NULL &&
         json_object_get (message, "event") != NULL)
    json_decref (message);
  return message;
}

static int
send_all (struct talk *t, const char *text)
{
  size_t len = strlen (text);

  while (len > 0) {
    const ssize_t n = send (t->fd, text, len, MSG_NOSIGNAL);

    if (n == -1 && errno != EINTR)
      return fail_talk (t, strerror (errno));
    if (n > 0) {
      text += n;
      len -= (size_t) n;
    }
  }
  return CODE_OK;
}

static int
code_of (const json_t *error)
{
  const char *const kind =
    json_string_value (json_object_get (error, "x-q2-kind"));

  if (json_object_get (error, "x-q2-outcome") != NULL ||
      json_object_get (error, "x-q2-done") != NULL ||
      json_object_get (error, "x-q2-unknown") != NULL)
    return CODE_CHANGED;
  if (kind == NULL)
    return CODE_FAILED;
  return strcmp (kind, "busy") == 0 ? CODE_BUSY
    : strcmp (kind, "unchecked") == 0 ? CODE_UNCHECKED
    : strcmp (kind, "name") == 0 ? CODE_NAME : CODE_FAILED;
}

/* Of several images, if some have changed; as "checkpoint" of files does. */
static void
say_outcomes (const json_t *error)
{
  static const struct { const char *key, *words; } lists[] = {
    { "x-q2-done", "has been changed" },
    { "x-q2-unknown", "may have been changed" },
    { "x-q2-not-done", "has not been changed" },
  };

  for (size_t l = 0; l < sizeof lists / sizeof lists[0]; ++l) {
    const json_t *const list = json_object_get (error, lists[l].key);

    for (size_t i = 0; i < json_array_size (list); ++i) {
      const char *const name = json_string_value (json_array_get (list, i));

      (void) fail_code (CODE_CHANGED, "%s: %s", name ? name : "?",
                        lists[l].words);
    }
  }
}

/* Whether it does more than ask, and look after jobs and checks. */
static bool
is_change (const char *command)
{
  static const char *const others[] = {
    "qmp_", "query-", "job-", "x-q2-query-", "x-q2-check", "x-q2-flush",
  };

  for (size_t i = 0; i < sizeof others / sizeof others[0]; ++i)
    if (strncmp (command, others[i], strlen (others[i])) == 0)
      return false;
  return true;
}

int
talk_fail_lost (void)
{
  return fail_code (CODE_CHANGED, "no answer has come, so it is not known "
                    "whether the image has been changed");
}

/* Takes the message. */
static int
converse (struct talk *t, const char *command, json_t *message)
{
  char *const text = message ? json_dumps (message, JSON_COMPACT) : NULL;
  const json_t *error;
  const char *desc;
  int code;

  json_decref (message);
  if (text == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  code = send_all (t, text);
  free (text);
  json_decref (t->reply);
  t->reply = code == CODE_OK ? receive_reply (t) : NULL;
  if (t->reply == NULL)
    return code == CODE_OK && is_change (command) ? talk_fail_lost ()
      : CODE_FAILED;
  error = json_object_get (t->reply, "error");
  if (error == NULL)
    return CODE_OK;
  desc = json_string_value (json_object_get (error, "desc"));
  code = fail_code (code_of (error), "%s", desc ? desc : "an error");
  say_outcomes (error);
  return code;
}

static int
connect_to (struct talk *t)
{
  struct sockaddr_un a = { .sun_family = AF_UNIX };

  if (strlen (t->path) >= sizeof a.sun_path)
    return fail_talk (t, "the path is too long for a socket");
  strcpy (a.sun_path, t->path);
  t->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (t->fd == -1 ||
      connect (t->fd, (const struct sockaddr *) &a, sizeof a) == -1)
    return fail_talk (t, strerror (errno));
  t->in = fdopen (t->fd, "r");
  if (t->in == NULL)
    return fail_talk (t, strerror (errno));
  return CODE_OK;
}

static int
begin (struct talk *t)
{
  int code = connect_to (t);

  if (code != CODE_OK)
    return code;
  if (!greets (t))
    return CODE_FAILED;
  return converse (t, "qmp_capabilities",
                   json_pack ("{s:s}", "execute", "qmp_capabilities"));
}

struct talk *
talk_open (const struct ctl *ctl, int *ret_code)
{
  struct talk *const t = calloc (1, sizeof *t);

  if (t == NULL) {
    *ret_code = fail_code (CODE_FAILED, "out of memory");
    return NULL;
  }
  t->fd = -1;
  t->path = ctl->socket;
  *ret_code = begin (t);
  if (*ret_code == CODE_OK)
    return t;
  talk_close (t);
  return NULL;
}

void
talk_close (struct talk *t)
{
  if (t->in)
    fclose (t->in);
  else if (t->fd != -1)
    close (t->fd);
  json_decref (t->reply);
  free (t);
}

static json_t *
argument_json (const struct talk_argument *a)
{
  json_t *list;

  switch (a->type) {
  case TALK_TEXT:
    return json_string (a->text);
  case TALK_NUMBER:
    return json_integer ((json_int_t) a->number);
  case TALK_TRUE:
    return json_true ();
  case TALK_TEXTS:
    break;
  }
  list = json_array ();
  for (size_t i = 0; i < a->nr_texts; ++i)
    if (json_array_append_new (list, json_string (a->texts[i])) == -1) {
      json_decref (list);
      return NULL;
    }
  return list;
}

static bool
is_given (const struct talk_argument *a)
{
  switch (a->type) {
  case TALK_TEXT: return a->text != NULL;
  case TALK_NUMBER: return a->number > 0;
  case TALK_TRUE: return a->is_true;
  case TALK_TEXTS: break;
  }
  return true;
}

int
talk_send (struct talk *t, const char *command, const struct talk_argument *a)
{
  json_t *const arguments = json_object ();

  for (; a->name != NULL; ++a)
    if (is_given (a) &&
        json_object_set_new (arguments, a->name, argument_json (a)) == -1) {
      json_decref (arguments);
      return fail_code (CODE_FAILED, "the argument '%s' is no UTF-8", a->name);
    }
  return converse (t, command, json_pack ("{s:s,s:o}", "execute", command,
                                          "arguments", arguments));
}

bool
talk_is_lost (const struct talk *t)
{
  return t->reply == NULL;
}

struct value *
talk_result (struct talk *t)
{
  return (struct value *) json_incref (json_object_get (t->reply, "return"));
}

struct value *
talk_item (struct talk *t, size_t i)
{
  return (struct value *)
    json_array_get (json_object_get (t->reply, "return"), i);
}

#else /* !HAVE_JANSSON */

struct talk *
talk_open (const struct ctl *ctl, int *ret_code)
{
  (void) ctl;
  *ret_code = fail_code (CODE_FAILED, "--socket: this program was built "
                         "without the library jansson, which it needs for "
                         "that");
  return NULL;
}

void
talk_close (struct talk *t)
{
  (void) t;
}

int
talk_send (struct talk *t, const char *command,
           const struct talk_argument *arguments)
{
  (void) t;
  (void) command;
  (void) arguments;
  return CODE_FAILED;
}

bool
talk_is_lost (const struct talk *t)
{
  (void) t;
  return true;
}

int
talk_fail_lost (void)
{
  return CODE_CHANGED;
}

struct value *
talk_result (struct talk *t)
{
  (void) t;
  return NULL;
}

struct value *
talk_item (struct talk *t, size_t i)
{
  (void) t;
  (void) i;
  return NULL;
}

#endif /* HAVE_JANSSON */

/* ---- Both --------------------------------------------------------------- */

int
talk_once (const struct ctl *ctl, const char *command,
           const struct talk_argument *arguments,
           void (*print) (struct talk *t))
{
  struct talk *t;
  int code;

  t = talk_open (ctl, &code);
  if (t == NULL)
    return code;
  code = talk_send (t, command, arguments);
  if (code == CODE_OK && print != NULL && ctl->json)
    value_print (talk_result (t));
  else if (code == CODE_OK && print != NULL && !ctl->quiet)
    print (t);
  talk_close (t);
  return code;
}
