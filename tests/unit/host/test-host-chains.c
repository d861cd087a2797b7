/* SPDX-License-Identifier: BSD-3-Clause */
/* test-host-chains.c - chains of local files, opened through a gate. */
#include "config.h"

#include "host_files.h"
#include "unit.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define NR_THREADS 4
#define ROUNDS 25

static struct host_files h;

static void
open_image (struct host_image *i, const char *name, bool writable)
{
  struct qcow2_error err = { .text = "" };
  const int r = host_image_open (i, &h, name, writable, &err);

  unit_context ("%s: %s", name, err.text);
  REQUIRE (r == 0);
  unit_context ("%s", "");
}

/* It is refused, with that errno value, and a message with that text. */
static void
refused (const char *name, int errnum, const char *text)
{
  struct qcow2_error err = { .text = "" };
  struct host_image i;
  const int r = host_image_open (&i, &h, name, false, &err);

  unit_context ("%s: %s", name, err.text);
  CHECK_EQ (r, -1);
  CHECK_EQ (err.errnum, errnum);
  CHECK (strstr (err.text, text) != NULL);
  unit_context ("%s", "");
  if (r == 0)
    host_image_close (&i);
}

/* ---- What a parameter names, and what it does not ------------------------ */

static void
nothing_allowed (void)
{
  host_write_raw (&h, "base", 0x11);
  host_write_overlay (&h, "top", "base", "raw");
  refused ("top", EPERM, "give qcow2-backing=FILE, or qcow2-follow=DIR");
  h.env.one_image = false;
  refused ("top", EPERM, "names it; give qcow2-follow=DIR");
  h.env.one_image = true;
}

static void
given (void)
{
  char text[300];
  struct place place = { .kind = PLACE_FILE, .text = text, .name = text };
  struct host_image i;

  snprintf (text, sizeof text, "%s", host_path (&h, "base"));
  h.rules.backing = &place;
  h.rules.nr_backing = 1;
  open_image (&i, "top", false);
  CHECK_EQ (host_image_byte (&i, 0), 0x11);
  host_image_close (&i);

  /* A parameter that no image uses is a mistake, unless there are many. */
  host_write_overlay (&h, "alone", NULL, NULL);
  refused ("alone", EINVAL, "has no backing file, but qcow2-backing");
  h.env.one_image = false;
  open_image (&i, "alone", false);
  host_image_close (&i);
  h.env.one_image = true;

  snprintf (text, sizeof text, "%s", host_path (&h, "gone"));
  refused ("top", ENOENT, "gone cannot be opened: No such file");
  place.kind = PLACE_EXPORT;
  refused ("top", ENOTSUP, "there are no other exports");
  h.rules.nr_backing = 0;
}

/* ---- Following ---------------------------------------------------------- */

static void
followed (void)
{
  const unsigned before = h.closed;
  struct host_image i;

  host_files_follow (&h);
  REQUIRE (mkdir (host_path (&h, "sub"), 0700) == 0);
  host_write_overlay (&h, "sub/middle", "../base", "raw");
  host_write_overlay (&h, "deep", "sub/middle", "qcow2");
  open_image (&i, "deep", false);
  CHECK_EQ (host_image_byte (&i, 3), 0x11);
  CHECK_EQ (h.closed, before);
  host_image_close (&i);
  CHECK_EQ (h.closed, before + 2);      /* the raw one is an image, too */

  host_write_overlay (&h, "bad", "gone", "raw");
  refused ("bad", EPERM, "there is no ");
  host_write_overlay (&h, "bad", "../../etc/passwd", "raw");
  refused ("bad", EPERM, "leads out of the folder");
  host_write_overlay (&h, "bad", "/etc/passwd", "raw");
  refused ("bad", EPERM, "leads out of the folder");
  host_write_overlay (&h, "bad", "json:{}", "raw");
  refused ("bad", EPERM, "JSON");
  host_write_overlay (&h, "bad", "sub", "raw");
  refused ("bad", EPERM, "does not lead to a regular file");
}

static void
formats (void)
{
  host_write_overlay (&h, "bad", "base", NULL);
  refused ("bad", EPERM, "does not say which format");
  host_write_overlay (&h, "bad", "base", "vmdk");
  refused ("bad", ENOTSUP, "only raw and qcow2");
  host_write_overlay (&h, "bad", "base", "qcow2");
  refused ("bad", EINVAL, "is no qcow2 image, although the image says so");
}

/* ---- The same file twice ------------------------------------------------ */

static void
loops (void)
{
  host_write_overlay (&h, "self", "self", "qcow2");
  refused ("self", ELOOP, "its own backing file");
  host_write_overlay (&h, "a", "b", "qcow2");
  host_write_overlay (&h, "b", "c", "qcow2");
  host_write_overlay (&h, "c", "a", "qcow2");
  refused ("a", ELOOP, "");
  /* One that does not come back to the image itself. */
  host_write_overlay (&h, "c", "b", "qcow2");
  refused ("a", ELOOP, "");
  host_write_with_data (&h, "own", "own", NULL);
  refused ("own", ELOOP, "its own data file");
}

static void
too_deep (void)
{
  struct host_image i;
  char name[20], below[20];

  host_write_overlay (&h, "n0", NULL, NULL);
  for (unsigned n = 1; n <= MAX_LAYERS + 1; ++n) {
    snprintf (name, sizeof name, "n%u", n);
    snprintf (below, sizeof below, "n%u", n - 1);
    host_write_overlay (&h, name, below, "qcow2");
  }
  snprintf (name, sizeof name, "n%u", MAX_LAYERS);
  open_image (&i, name, false);
  CHECK_EQ (host_image_byte (&i, 0), 0);
  host_image_close (&i);
  snprintf (name, sizeof name, "n%u", MAX_LAYERS + 1);
  refused (name, ENOTSUP, "more than 64 backing files");
}

/* ---- Shared layers ------------------------------------------------------ */

static void
shared (void)
{
  struct host_image a, b;
  const unsigned before = h.closed;

  host_write_overlay (&h, "one", "sub/middle", "qcow2");
  host_write_overlay (&h, "two", "sub/middle", "qcow2");
  open_image (&a, "one", false);
  open_image (&b, "two", false);
  CHECK (a.layers.backing != NULL);
  CHECK (a.layers.backing == b.layers.backing);
  host_image_close (&a);
  CHECK_EQ (h.closed, before);
  CHECK_EQ (host_image_byte (&b, 0), 0x11);
  host_image_close (&b);
  CHECK_EQ (h.closed, before + 2);
}

static void *
open_and_close (void *opaque)
{
  const char *const name = opaque;

  for (unsigned n = 0; n < ROUNDS; ++n) {
    struct host_image i;

    open_image (&i, name, false);
    CHECK_EQ (host_image_byte (&i, n % 4), 0x11);
    host_image_close (&i);
  }
  return NULL;
}

/* Opening, sharing and closing meet in all orders. */
static void
shared_by_threads (void)
{
  static char names[2][4] = { "one", "two" };
  pthread_t threads[NR_THREADS];

  for (unsigned i = 0; i < NR_THREADS; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, open_and_close,
                             names[i % 2]) == 0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
}

static void *
open_loop (void *opaque)
{
  for (unsigned n = 0; n < ROUNDS; ++n)
    refused (opaque, ELOOP, "");
  return NULL;
}

static void *
open_loop_once (void *opaque)
{
  host_files_meet_again ();
  refused (opaque, ELOOP, "");
  return NULL;
}

static void
loop_by_threads (void *(*fn) (void *opaque))
{
  static char names[3][2] = { "a", "b", "c" };
  pthread_t threads[3];

  for (unsigned i = 0; i < 3; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, fn, names[i]) == 0);
  for (unsigned i = 0; i < 3; ++i)
    pthread_join (threads[i], NULL);
}

/* Those that open the same loop from several sides must not wait for each
 * other: neither by chance, nor when each has begun with one layer of it.
 */
static void
loops_by_threads (void)
{
  pthread_barrier_t meet;

  host_write_overlay (&h, "c", "a", "qcow2");
  loop_by_threads (open_loop);
  pthread_barrier_init (&meet, NULL, 3);
  h.meet = &meet;
  loop_by_threads (open_loop_once);
  h.meet = NULL;
  pthread_barrier_destroy (&meet);
}

/* ---- Data files --------------------------------------------------------- */

static void
data_files (void)
{
  struct qcow2_error err;
  struct host_image i, j;
  char text[300];
  struct place place = { .kind = PLACE_FILE, .text = text, .name = text };

  host_write_raw (&h, "data", 0x22);
  host_write_with_data (&h, "with", "data", NULL);
  open_image (&i, "with", false);
  CHECK_EQ (host_image_byte (&i, 0), 0x22);
  CHECK_EQ (host_image_byte (&i, 1), 0);

  /* Who reads it is in the way of a writer, and the other way round. */
  CHECK_EQ (host_image_open (&j, &h, "with", true, &err), -1);
  CHECK_EQ (err.errnum, EBUSY);
  CHECK (strstr (err.text, "has it open for another image") != NULL);
  host_image_close (&i);
  open_image (&i, "with", true);
  CHECK_EQ (host_image_open (&j, &h, "with", false, &err), -1);
  CHECK (strstr (err.text, "is open for writing in this server") != NULL);
  host_image_close (&i);

  /* What is an image is not written to because another one says so. */
  host_write_with_data (&h, "thief", "alone", NULL);
  CHECK_EQ (host_image_open (&j, &h, "thief", true, &err), -1);
  CHECK_EQ (err.errnum, EPERM);
  CHECK (strstr (err.text, "is a qcow2 image itself") != NULL);
  snprintf (text, sizeof text, "%s", host_path (&h, "alone"));
  h.rules.data_file = &place;
  open_image (&j, "thief", true);
  host_image_close (&j);
  h.rules.data_file = NULL;
}

/* A data file is not shared, whether the layer that has it is open or not. */
static void
data_file_twice (void)
{
  struct host_image i;

  host_write_with_data (&h, "lower", "data", NULL);
  host_write_with_data (&h, "upper", "data", "lower");
  host_write_overlay (&h, "beside", "lower", "qcow2");
  refused ("upper", ELOOP, "already in use in the chain");
  open_image (&i, "beside", false);
  CHECK_EQ (host_image_byte (&i, 0), 0x22);
  refused ("upper", ELOOP, "already in use in the chain");
  host_image_close (&i);
}

int
main (void)
{
  host_files_init (&h);
  nothing_allowed ();
  given ();
  followed ();
  formats ();
  loops ();
  too_deep ();
  shared ();
  shared_by_threads ();
  loops_by_threads ();
  data_files ();
  data_file_twice ();
  host_files_destroy (&h);
  return unit_finish ();
}
