/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bugs.c - the effects of broken assumptions.
 *
 * A host that breaks its rules breaks them, and the test itself, which uses
 * internals of the engine.  If bugs do not abort, the request fails, its image
 * is not changed any more, and all else goes on.
 */
#include "config.h"

#include "hooked_disk.h"

#include "base/assume.h"
#include "base/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLUSTER_BITS 16
#define NR 64

/* ---- Disks ------------------------------------------------------------- */

static void
serve (struct hooked_disk *d)
{
  hooked_disk_build (d, CLUSTER_BITS, 4, (uint64_t) NR << CLUSTER_BITS, 4);
  hooked_disk_serve (d, &(struct host_spec) {
      .capacity = UINT64_C (32) << 20, .grows = true });
  hooked_disk_open (d);
}

/* "Done", but it is not. */
static int
lying_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  (void) opaque;
  *ret_size = min_size - 1;
  return 0;
}

static bool
is_marked_corrupt (struct hooked_disk *d)
{
  return hooked_disk_get (d, 72) & 2;
}

static void
check_is_bug (const struct hooked_disk *d)
{
  CHECK_EQ (d->err.kind, QCOW2_ERR_BUG);
  CHECK_EQ (d->err.errnum, EIO);
  CHECK (strstr (d->err.text, "bug") != NULL);
}

/* New and old clusters, whatever the way. */
static void
check_takes_no_changes (struct hooked_disk *d)
{
  CHECK (!hooked_disk_write (d, 0, 'x'));
  CHECK_EQ (d->err.errnum, EIO);
  CHECK (strstr (d->err.text, "nothing is written any more") != NULL);
  CHECK (!hooked_disk_write (d, 40, 'x'));
  CHECK (!hooked_disk_trim (d, 1));
  CHECK_EQ (d->err.errnum, EIO);
  hooked_disk_check (d, 0, 'a');
  hooked_disk_check (d, 3, 'd');
}

/* Nobody uses it any more, and then somebody does. */
static void
reopen (struct hooked_disk *d)
{
  qcow2_close (d->image);
  hooked_disk_open (d);
}

/* ---- While something is changed ----------------------------------------- */

static void
test_changing (void)
{
  struct hooked_disk d, other;
  uint64_t i;

  unit_context ("%s", "changing");
  serve (&d);
  serve (&other);
  CHECK (hooked_disk_write (&d, 10, 'k'));
  CHECK (hooked_disk_flush (&d));
  CHECK (hooked_disk_write (&d, 11, 'l'));
  d.host.ops.grow = lying_grow;
  for (i = 12; i < NR && hooked_disk_write (&d, i, 'm'); ++i)
    ;
  REQUIRE (i < NR);
  check_is_bug (&d);
  CHECK (strstr (d.err.text, "size >= min_size") != NULL);
  check_takes_no_changes (&d);
  hooked_disk_check (&d, 11, 'l');
  /* What is in memory is not to be trusted. */
  CHECK (!hooked_disk_flush (&d));
  CHECK_EQ (d.err.errnum, EIO);
  CHECK_EQ (qcow2_idle_commit (d.image, &d.host.io, &d.err), 0);
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), -1);
  CHECK (!is_marked_corrupt (&d));

  unit_context ("%s", "another image");
  CHECK (hooked_disk_write (&other, 20, 'u'));
  CHECK (hooked_disk_flush (&other));
  hooked_disk_check (&other, 20, 'u');

  unit_context ("%s", "opened again");
  d.host.ops.grow = d.inner.grow;
  reopen (&d);
  hooked_disk_check (&d, 10, 'k');      /* it was flushed */
  CHECK (hooked_disk_write (&d, 11, 'n'));
  CHECK (hooked_disk_flush (&d));
  hooked_disk_check (&d, 11, 'n');
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  hooked_disk_free (&d);
  hooked_disk_free (&other);
}

/* ---- While something is read -------------------------------------------- */

static void
test_reading (void)
{
  struct hooked_disk d;
  char buf[512];

  unit_context ("%s", "reading");
  serve (&d);
  CHECK (hooked_disk_write (&d, 10, 'k'));
  /* As if somewhere below a function that cannot fail. */
  CHECK (!q2_check (1 + 1 == 3));
  CHECK (!q2_check (1 + 1 == 4));
  CHECK_EQ (qcow2_pread (d.image, &d.host.io, buf, sizeof buf, 0, &d.err),
            -1);
  check_is_bug (&d);
  CHECK (strstr (d.err.text, "1 + 1 == 3") != NULL);
  /* It is over with that request, */
  CHECK_EQ (qcow2_pread (d.image, &d.host.io, buf, sizeof buf, 0, &d.err), 0);
  CHECK_EQ (buf[0], 'a');
  /* the image is not changed any more, but what was done is kept. */
  check_takes_no_changes (&d);
  CHECK (hooked_disk_flush (&d));
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  CHECK (!is_marked_corrupt (&d));
  reopen (&d);
  hooked_disk_check (&d, 10, 'k');
  CHECK (hooked_disk_write (&d, 0, 'z'));
  hooked_disk_free (&d);
}

/* Code around the engine has found a bug of its own. */
static void
test_around (void)
{
  struct hooked_disk d;
  char buf[512];

  unit_context ("%s", "around the engine");
  serve (&d);
  CHECK (qcow2_holds (1 + 1 == 2));
  CHECK_EQ (qcow2_pread (d.image, &d.host.io, buf, sizeof buf, 0, &d.err), 0);
  CHECK (!qcow2_holds (2 + 2 == 5));
  CHECK_EQ (qcow2_pread (d.image, &d.host.io, buf, sizeof buf, 0, &d.err),
            -1);
  check_is_bug (&d);
  CHECK (strstr (d.err.text, "2 + 2 == 5") != NULL);
  CHECK (strstr (d.err.text, "test-bugs.c") != NULL);
  CHECK_EQ (qcow2_pread (d.image, &d.host.io, buf, sizeof buf, 0, &d.err), 0);
  check_takes_no_changes (&d);
  hooked_disk_free (&d);
}

/* An image that was opened only to look at its header. */
static void
test_misuse (void)
{
  const struct qcow2_options options = { .inspect = true };
  struct hooked_disk d;
  struct qcow2_image *image;
  char buf[512];

  unit_context ("%s", "inspecting");
  serve (&d);
  image = qcow2_open (&d.host.io, &options, &d.err);
  REQUIRE (image != NULL);
  CHECK_EQ (qcow2_pread (image, &d.host.io, buf, sizeof buf, 0, &d.err), -1);
  check_is_bug (&d);
  qcow2_close (image);
  hooked_disk_free (&d);
}

/* A bug before a commit has written anything: it writes nothing. */
static void
test_commit (void)
{
  struct hooked_disk d;
  unsigned char *before;

  unit_context ("%s", "commit");
  serve (&d);
  CHECK (hooked_disk_write (&d, 10, 'k'));
  before = malloc (d.host.size);
  REQUIRE (before != NULL);
  memcpy (before, d.host.bytes, d.host.size);
  CHECK (!q2_check (1 + 1 == 3));
  CHECK (!hooked_disk_flush (&d));
  check_is_bug (&d);
  CHECK_BYTES (before, d.host.bytes, d.host.size);
  CHECK (!hooked_disk_flush (&d));
  CHECK_BYTES (before, d.host.bytes, d.host.size);
  free (before);
  hooked_disk_free (&d);
}

/* ---- On other threads --------------------------------------------------- */

static void
part (void *arg, size_t i)
{
  (void) arg;
  if (!q2_check (i != 5))
    return;
  usleep (1000);
}

static void
test_threads (void)
{
  struct qcow2_error err;
  struct q2_workers *const pool = q2_workers_new (4, &err);

  unit_context ("%s", "threads");
  REQUIRE (pool != NULL);
  for (unsigned i = 0; i < 10; ++i) {
    q2_workers_batch (pool, part, NULL, 16, 4);
    CHECK_EQ (q2_check_end (&err), -1);
    CHECK_EQ (err.kind, QCOW2_ERR_BUG);
    CHECK_EQ (q2_check_end (&err), 0);
  }
  q2_workers_free (pool);
}

/* ---- Where bugs abort --------------------------------------------------- */

enum way { WITHOUT_ERROR, WITH_ERROR, AROUND, NR_WAYS };

static bool
is_true (enum way way)
{
  struct qcow2_error err;

  switch (way) {
  case WITHOUT_ERROR:
    return q2_check (1 + 1 == 3);
  case WITH_ERROR:
    return q2_assume (1 + 1 == 3, &err);
  default:
    return qcow2_holds (1 + 1 == 3);
  }
}

static void
break_assumption (enum way way)
{
  const int fd = open ("/dev/null", O_WRONLY);

  if (fd != -1)
    dup2 (fd, 2);
  if (!is_true (way))
    _exit (1);
  _exit (2);
}

static void
test_aborts (void)
{
  for (enum way way = 0; way < NR_WAYS; ++way) {
    const pid_t pid = fork ();
    int status;

    unit_context ("abort, way %u", (unsigned) way);
    if (pid == 0)
      break_assumption (way);
    REQUIRE (pid > 0 && waitpid (pid, &status, 0) == pid);
    CHECK (WIFSIGNALED (status) && WTERMSIG (status) == SIGABRT);
  }
}

int
main (void)
{
  CHECK (qcow2_aborts_on_bugs ());
  test_aborts ();
  unsetenv ("QCOW2_ABORT_ON_BUGS");
  if (qcow2_aborts_on_bugs ())
    unit_skip ("built with --enable-debug-assertions");
  test_changing ();
  test_reading ();
  test_around ();
  test_misuse ();
  test_commit ();
  test_threads ();
  return unit_finish ();
}
