/* SPDX-License-Identifier: BSD-3-Clause */
/* lines.c - every line that this filter writes to nbdkit's log.
 *
 * Owns      what such a line may look like, and how many of them there may
 *           be.
 * Method    names of exports, files and formats come from clients, images
 *           and file systems.  Whatever is in them, a line stays one line:
 *           control characters, and bytes that are no UTF-8, are escaped
 *           here, in the text as a whole.  nbdkit_api.h redirects nbdkit's own
 *           functions to the ones below, so that no line is forgotten.
 *
 *           A client can cause an error with each request.  So lines of one
 *           kind (the same image, the same message) are counted, and after
 *           MAX_LINES of them in a period only that they were.  How many
 *           that were, and the last of them, is said once the period is
 *           over, as soon as there is an occasion, and when the server ends.
 *           Kinds do not take each other's place: what is said once in a
 *           while is seen in any flood.  There are MAX_KINDS at a time, in
 *           case somebody makes up names; what comes then shares one more
 *           counter.
 * Locks     lock guards the counters, for a few instructions; nothing is
 *           logged under it.
 */
#include "config.h"

#include "lines.h"

#include "nbdkit_api.h"
#include "exports.h"

/* This is the one file that uses the real ones. */
#undef nbdkit_error
#undef nbdkit_debug

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MAX_LINES 20
#define PERIOD 60               /* seconds */
#define MAX_KINDS 512

#define NAME_LENGTH 300         /* of what a line begins with */
#define LINE_LENGTH 1500

/* Lines of one kind. */
struct kind {
  char name[NAME_LENGTH];
  const char *format;           /* NULL: not in use */
  unsigned number;
  time_t since;
  unsigned said;
  uint64_t left_out;
  char last[300];               /* of those */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kind kinds[MAX_KINDS + 1];
static struct kind *const all_others = &kinds[MAX_KINDS];

/* A thread that only looks whether something is there (list.c) has its
 * warnings go where only -v shows them.  Others that wait for what it opens
 * try it themselves if it fails, and warn as usual.
 */
static _Thread_local bool quiet;

void
report_quietly (bool quietly)
{
  quiet = quietly;
}

bool
report_is_quiet (void)
{
  return quiet;
}

/* ---- The text ---------------------------------------------------------- */

/* What does not fit is replaced by "...". */
static void
escape (char *ret, size_t size, const char *text)
{
  static const char dots[] = "...";
  size_t left = strlen (text), out = 0;

  while (left > 0) {
    size_t n = export_char_len (text, left);
    char escaped[5];
    const char *from = text;
    size_t len = n;

    if (n == 0) {
      n = 1;
      len = snprintf (escaped, sizeof escaped, "\\x%02x",
                      (unsigned char) text[0]);
      from = escaped;
    }
    if (out + len + (left > n ? sizeof dots : 1) > size) {
      memcpy (ret + out, dots, sizeof dots);
      return;
    }
    memcpy (ret + out, from, len);
    out += len;
    text += n;
    left -= n;
  }
  ret[out] = '\0';
}

/* ---- How many of them -------------------------------------------------- */

static time_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC_COARSE, &ts);
  return ts.tv_sec;
}

static bool
is_over (const struct kind *k)
{
  return now () - k->since >= PERIOD;
}

static struct kind *
find_kind_locked (const char *name, const char *format, unsigned number)
{
  struct kind *unused = NULL;

  for (struct kind *k = kinds; k < all_others; ++k) {
    if (k->format == format && k->number == number &&
        strcmp (k->name, name) == 0)
      return k;
    if (k->format == NULL || (is_over (k) && k->left_out == 0))
      unused = k;
  }
  if (unused == NULL) {
    unused = all_others;
    name = "other lines";
    format = "";
  }
  if (unused->format == NULL || unused != all_others) {
    *unused = (struct kind) {
      .format = format, .number = number, .since = now (),
    };
    strcpy (unused->name, name);
  }
  return unused;
}

/* Returns how many lines of its kind there have been in this period. */
static unsigned
count_locked (struct kind *k, const char *line)
{
  if (is_over (k) && k->left_out == 0) {
    k->since = now ();
    k->said = 0;
  }
  if (k->said <= MAX_LINES)
    k->said++;
  if (k->said > MAX_LINES) {
    k->left_out++;
    escape (k->last, sizeof k->last, line);
  }
  return k->said + (k->left_out > 1);
}

/* Take a summary that is due. */
static bool
take_summary (bool all, struct kind *ret)
{
  bool found = false;

  pthread_mutex_lock (&lock);
  for (struct kind *k = kinds; k <= all_others && !found; ++k) {
    found = k->left_out > 0 && (all || is_over (k));
    if (found) {
      *ret = *k;
      k->left_out = 0;
      k->said = 0;
      k->since = now ();
    }
  }
  pthread_mutex_unlock (&lock);
  return found;
}

static void
say_summaries (bool all)
{
  struct kind k;

  while (take_summary (all, &k))
    nbdkit_error ("qcow2: %s%s%llu more messages like these were left out; "
                  "the last one: %s", k.name, k.name[0] ? ": " : "",
                  (unsigned long long) k.left_out, k.last);
}

void
log_summaries (bool all)
{
  const int saved_errno = errno;

  say_summaries (all);
  errno = saved_errno;
}

/* ---- Lines ------------------------------------------------------------- */

static void __attribute__ ((__format__ (__printf__, 3, 0)))
make_line (char *ret, size_t size, const char *format, va_list args)
{
  char text[LINE_LENGTH] = "";

  vsnprintf (text, sizeof text, format, args);
  escape (ret, size, text);
}

/* 'prefix' is in front of all that comes from elsewhere. */
static void
say_limited (const char *prefix, const char *name, const char *format,
             unsigned number, const char *line)
{
  const char *const colon = name[0] ? ": " : "";
  unsigned n;

  say_summaries (false);
  pthread_mutex_lock (&lock);
  n = count_locked (find_kind_locked (name, format, number), line);
  pthread_mutex_unlock (&lock);
  if (n <= MAX_LINES)
    nbdkit_error ("%s%s%s%s", prefix, name, colon, line);
  else if (n == MAX_LINES + 1)
    nbdkit_error ("%s%s%smore messages like these are only counted for a "
                  "minute", prefix, name, colon);
}

void
log_error (const char *format, ...)
{
  const int saved_errno = errno;
  char line[LINE_LENGTH];
  va_list args;

  va_start (args, format);
  make_line (line, sizeof line, format, args);
  va_end (args);
  say_limited ("", "", format, 0, line);
  errno = saved_errno;
}

void
log_debug (const char *format, ...)
{
  const int saved_errno = errno;
  char line[LINE_LENGTH];
  va_list args;

  va_start (args, format);
  make_line (line, sizeof line, format, args);
  va_end (args);
  nbdkit_debug ("%s", line);
  errno = saved_errno;
}

void
log_warning_args (unsigned number, const char *name, const char *format,
                  va_list args)
{
  const int saved_errno = errno;
  char line[LINE_LENGTH] = "", clean[NAME_LENGTH];

  make_line (line, sizeof line, format, args);
  escape (clean, sizeof clean, name);
  if (quiet)
    nbdkit_debug ("qcow2: %s%s%s", clean, clean[0] ? ": " : "", line);
  else
    say_limited ("qcow2: ", clean, format, number, line);
  errno = saved_errno;
}

void
log_warning (unsigned number, const char *name, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  log_warning_args (number, name, format, args);
  va_end (args);
}
