/* SPDX-License-Identifier: BSD-3-Clause */
/* test-host-files.c - locks, claims, identities, and what names lead to. */
#include "config.h"

#include "host_files.h"
#include "unit.h"

#include "host/claims.h"
#include "host/fileid.h"
#include "host/follow.h"
#include "host/localfile.h"
#include "host/locks.h"
#include "host/names.h"
#include "host/other.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static struct host_files h;

static int
open_it (const char *name, int flags)
{
  const int fd = open (host_path (&h, name), flags | O_CLOEXEC);

  REQUIRE (fd != -1);
  return fd;
}

/* ---- Locks -------------------------------------------------------------- */

/* Whether somebody but 'fd' has a lock on that byte. */
static bool
byte_is_locked (int fd, off_t byte)
{
  struct flock fl = {
    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1,
  };

  REQUIRE (fcntl (fd, F_OFD_GETLK, &fl) == 0);
  return fl.l_type != F_UNLCK;
}

/* QEMU's bytes: 100 + n says that access n is used, 200 + n that others must
 * not.  0 is consistent reading, 1 writing, 2 writing what is there, 3
 * resizing.
 */
static void
check_bytes (int fd, const char *used, const char *denied)
{
  for (int n = 0; n < 4; ++n) {
    unit_context ("access %d", n);
    CHECK_EQ (byte_is_locked (fd, 100 + n), used[n] == 'x');
    CHECK_EQ (byte_is_locked (fd, 200 + n), denied[n] == 'x');
  }
  unit_context ("%s", "");
}

static void
locks (void)
{
  int a, b, c;

  host_write_raw (&h, "file", 1);
  a = open_it ("file", O_RDWR);
  b = open_it ("file", O_RDWR);
  c = open_it ("file", O_RDWR);
  check_bytes (c, "....", "....");
  CHECK_EQ (lock_for_reading (&h.env, a, "a"), 0);
  check_bytes (c, "x...", ".x.x");
  CHECK (!lock_is_taken (c));
  CHECK_EQ (lock_for_reading (&h.env, b, "b"), 0);
  CHECK_EQ (h.log[0], '\0');

  /* Two readers: neither can become a writer. */
  CHECK_EQ (lock_for_writing_too (&h.env, a, "a"), -1);
  CHECK_EQ (errno, EBUSY);
  CHECK (host_files_logged (&h, "a: cannot be opened for writing, because "
                            "another process"));
  close (a);
  close (b);
  check_bytes (c, "....", "....");

  a = open_it ("file", O_RDWR);
  b = open_it ("file", O_RDWR);
  CHECK_EQ (lock_for_reading (&h.env, a, "a"), 0);
  CHECK_EQ (lock_for_writing_too (&h.env, a, "a"), 0);
  check_bytes (c, "xx.x", ".x.x");
  CHECK (lock_is_taken (c));
  host_files_forget_log (&h);
  CHECK_EQ (lock_for_reading (&h.env, b, "b"), -1);
  CHECK_EQ (errno, EBUSY);
  CHECK (host_files_logged (&h, "b: another process has the image open for "
                            "writing"));
  close (a);
  close (b);
  CHECK (!lock_is_taken (c));
  close (c);
  host_files_forget_log (&h);
}

#define AT_ONCE 3
#define ROUNDS 100

static pthread_barrier_t meet;
static int outcome[AT_ONCE];        /* what each has come to in this round */

static void *
lock_and_meet (void *opaque)
{
  const int n = *(const int *) opaque;

  for (int i = 0; i < ROUNDS; ++i) {
    const int fd = open_it ("file", O_RDWR);

    pthread_barrier_wait (&meet);
    outcome[n] = lock_for_writing (&h.env, fd, "file");
    pthread_barrier_wait (&meet);
    close (fd);
    if (n == 0) {
      int winners = 0;

      for (int k = 0; k < AT_ONCE; ++k)
        winners += outcome[k] == 0;
      CHECK_EQ (winners, 1);
    }
    pthread_barrier_wait (&meet);
  }
  return NULL;
}

/* Those who come at the same moment do not all refuse each other. */
static void
locks_at_once (void)
{
  pthread_t threads[AT_ONCE];
  int numbers[AT_ONCE];

  REQUIRE (pthread_barrier_init (&meet, NULL, AT_ONCE) == 0);
  for (int i = 0; i < AT_ONCE; ++i) {
    numbers[i] = i;
    REQUIRE (pthread_create (&threads[i], NULL, lock_and_meet, &numbers[i])
             == 0);
  }
  for (int i = 0; i < AT_ONCE; ++i)
    pthread_join (threads[i], NULL);
  pthread_barrier_destroy (&meet);
  host_files_forget_log (&h);
}

static void
lock_errors (void)
{
  struct qcow2_error err;
  int a, b;

  a = open_it ("file", O_RDWR);
  b = open_it ("file", O_RDWR);
  CHECK_EQ (lock_file (&h.env, a, "the file", true, &err), 0);
  CHECK_EQ (lock_file (&h.env, b, "the file", false, &err), -1);
  CHECK_EQ (err.errnum, EBUSY);
  CHECK (strcmp (err.text, "the file is in use by another process") == 0);
  h.env.lock = false;
  CHECK_EQ (lock_file (&h.env, b, "the file", true, &err), 0);
  h.env.lock = true;
  close (a);
  close (b);
  /* QEMU's locks are read locks, which a descriptor for writing cannot have:
   * the error is said, and not taken for a lock.
   */
  a = open_it ("file", O_WRONLY);
  CHECK_EQ (lock_file (&h.env, a, "the file", false, &err), -1);
  CHECK_EQ (err.errnum, EBADF);
  CHECK (host_files_logged (&h, "the file cannot be locked"));
  close (a);
  host_files_forget_log (&h);
}

/* ---- Claims and identities ---------------------------------------------- */

static void
claims (void)
{
  const struct identity one = { .kind = ID_FILE, .dev = 1, .ino = 2 };
  const struct identity two = { .kind = ID_FILE, .dev = 1, .ino = 3 };
  const struct identity device = { .kind = ID_DEVICE, .dev = 1 };
  const struct identity unknown = { .kind = ID_UNKNOWN };
  char text[] = "nbd://here";
  const struct identity uri = { .kind = ID_URI, .text = "nbd://here" };
  const struct identity same_uri = { .kind = ID_URI, .text = text };
  struct claim a = { .next = NULL }, b = a, c = a, d = a;

  CHECK (identity_equal (&one, &one) && !identity_equal (&one, &two));
  CHECK (!identity_equal (&one, &device));
  CHECK (identity_equal (&uri, &same_uri));
  CHECK (!identity_equal (&unknown, &unknown));

  CHECK (claim_take (&h.env, &a, &one, false));
  CHECK (claim_take (&h.env, &b, &one, false));
  CHECK (claim_take (&h.env, &c, &two, true));
  CHECK (!claim_take (&h.env, &d, &one, true));
  CHECK (!claim_take (&h.env, &d, &two, false));
  CHECK (!claim_upgrade (&a));
  claim_release (&b);
  CHECK (claim_upgrade (&a));
  CHECK (!claim_take (&h.env, &d, &one, false));
  claim_release (&a);
  CHECK (claim_take (&h.env, &d, &one, true));
  claim_release (&d);
  claim_release (&d);
  claim_release (&c);
}

static void
claims_again (void)
{
  const struct identity one = { .kind = ID_FILE, .dev = 1, .ino = 2 };
  const struct identity two = { .kind = ID_FILE, .dev = 1, .ino = 3 };
  const struct identity unknown = { .kind = ID_UNKNOWN };
  struct claim a = { .next = NULL }, b = a, *again;

  /* A claim that was released is forgotten, and can be taken again. */
  again = calloc (1, sizeof *again);
  REQUIRE (again != NULL);
  for (unsigned n = 0; n < 2; ++n) {
    CHECK (claim_take (&h.env, again, &one, true));
    CHECK (claim_take (&h.env, &b, &two, true));
    claim_release (&b);
    claim_release (again);
  }
  free (again);
  CHECK (claim_take (&h.env, &b, &one, true));
  claim_release (&b);

  /* What is not known is in nobody's way. */
  CHECK (claim_take (&h.env, &a, &unknown, true));
  CHECK (claim_take (&h.env, &b, &unknown, true));
  CHECK (claim_upgrade (&a));
  claim_release (&a);
  claim_release (&b);
}

static void
identities (void)
{
  struct file_id a, b;
  int fd;

  host_write_raw (&h, "one", 1);
  REQUIRE (link (host_path (&h, "one"), host_path (&h, "alias")) == 0);
  file_id_get (&a, host_path (&h, "one"));
  file_id_get (&b, host_path (&h, "alias"));
  CHECK (a.known && !a.device && a.size == HOST_DISK_SIZE);
  CHECK (file_id_equal (&a, &b) && file_id_same_file (&a, &b));
  fd = file_id_open (&a, host_path (&h, "alias"), O_RDONLY);
  CHECK (fd != -1);
  close (fd);

  /* Longer: the same file, but changed. */
  REQUIRE (truncate (host_path (&h, "one"), HOST_DISK_SIZE + 1) == 0);
  file_id_get (&b, host_path (&h, "one"));
  CHECK (!file_id_equal (&a, &b) && file_id_same_file (&a, &b));

  host_write_raw (&h, "new", 1);
  REQUIRE (rename (host_path (&h, "new"), host_path (&h, "one")) == 0);
  file_id_get (&b, host_path (&h, "one"));
  CHECK (!file_id_same_file (&a, &b));
  CHECK_EQ (file_id_open (&a, host_path (&h, "one"), O_RDONLY), -1);
  CHECK_EQ (errno, ESTALE);

  file_id_get (&b, host_path (&h, "gone"));
  CHECK (!b.known && !b.device && b.errnum == 0);
  CHECK_EQ (file_id_open (&b, host_path (&h, "gone"), O_RDONLY), -1);
  CHECK_EQ (errno, ENOENT);
  file_id_get (&b, h.folder);
  CHECK (!b.known && !b.device && b.perishable);
}

static void
images (void)
{
  int fd;

  host_write_overlay (&h, "image", NULL, NULL);
  fd = open_it ("image", O_RDONLY);
  CHECK_EQ (file_is_image (fd), 1);
  close (fd);
  fd = open_it ("one", O_RDONLY);
  CHECK_EQ (file_is_image (fd), 0);
  close (fd);
  fd = open_it ("", O_RDONLY | O_DIRECTORY);
  CHECK_EQ (file_is_image (fd), -1);
  close (fd);
}

/* ---- The bytes of a local file ------------------------------------------ */

struct extents {
  uint64_t data, holes;
};

static int
count_extent (void *opaque, uint64_t host_off, uint64_t len, bool zero)
{
  struct extents *const e = opaque;

  (void) host_off;
  *(zero ? &e->holes : &e->data) += len;
  return 0;
}

static void
local_files (void)
{
  struct qcow2_error err;
  struct extents found = { .data = 0 };
  unsigned char byte = 0x77;
  uint64_t size = 0;
  struct other *f;

  host_write_raw (&h, "local", 1);
  f = localfile_new (&h.env, open_it ("local", O_RDWR), "local", true, &err);
  REQUIRE (f != NULL);
  CHECK_EQ (f->io.size, HOST_DISK_SIZE);
  CHECK_EQ (f->ops.grow (f, HOST_DISK_SIZE + 10, &size), 0);
  CHECK_EQ (size, HOST_DISK_SIZE + 10);
  CHECK_EQ (f->ops.pwrite (f, &byte, 1, size - 1, QCOW2_IO_DATA), 0);
  byte = 0;
  CHECK_EQ (f->ops.pread (f, &byte, 1, size - 1, QCOW2_IO_DATA), 0);
  CHECK_EQ (byte, 0x77);
  CHECK_EQ (f->ops.zero (f, 65536, 65536, true, QCOW2_IO_DATA), 0);
  CHECK_EQ (f->ops.pread (f, &byte, 1, 65536, QCOW2_IO_DATA), 0);
  CHECK_EQ (byte, 0);
  CHECK_EQ (f->ops.pread (f, &byte, 1, 65535, QCOW2_IO_DATA), 0);
  CHECK_EQ (byte, 1);
  CHECK_EQ (f->ops.flush (f), 0);
  CHECK_EQ (f->ops.extents (f, HOST_DISK_SIZE, 0, count_extent, &found), 0);
  CHECK_EQ (found.data + found.holes, HOST_DISK_SIZE);

  /* Somebody has cut it. */
  REQUIRE (truncate (host_path (&h, "local"), 100) == 0);
  CHECK_EQ (f->ops.pread (f, &byte, 1, 99, QCOW2_IO_DATA), 0);
  CHECK_EQ (f->ops.pread (f, &byte, 1, 100, QCOW2_IO_DATA), EIO);
  f->close (f);

  f = localfile_new (&h.env, open_it ("local", O_RDONLY), "local", false,
                     &err);
  REQUIRE (f != NULL);
  CHECK (f->ops.pwrite == NULL && f->ops.grow == NULL);
  f->close (f);
}

/* ---- Names -------------------------------------------------------------- */

static void
check_name (const char *name, size_t len, const char *path, const char *why)
{
  const struct qcow2_reference r = {
    .kind = QCOW2_BACKING_FILE, .name = name, .name_len = len,
  };
  char got[NAME_SIZE];
  const char *const refused = name_to_path (&r, got);

  unit_context ("the name %s", name);
  if (path)
    CHECK (refused == NULL && strcmp (got, path) == 0);
  else
    CHECK (refused != NULL && strstr (refused, why) != NULL);
  unit_context ("%s", "");
}

#define NAME(text) (text), sizeof (text) - 1

static void
names (void)
{
  static char longest[NAME_SIZE + 1];
  char text[PRINTABLE_SIZE], *folder;

  memset (longest, 'a', NAME_SIZE);
  check_name (NAME ("base.img"), "base.img", NULL);
  check_name (NAME ("/a/b"), "/a/b", NULL);
  check_name (NAME ("file:base"), "base", NULL);
  check_name (NAME ("file:nbd:x"), "nbd:x", NULL);
  check_name (NAME ("dir/a:b"), "dir/a:b", NULL);
  check_name (NAME (""), NULL, "empty");
  check_name (NAME ("a\0b"), NULL, "zero byte");
  check_name (NAME ("json:{}"), NULL, "JSON");
  check_name (NAME ("nbd://host/"), NULL, "protocol");
  check_name (longest, NAME_SIZE - 1, longest + 1, NULL);
  check_name (longest, NAME_SIZE, NULL, "too long");

  CHECK_EQ (name_to_format (NAME ("raw")), FORMAT_RAW);
  CHECK_EQ (name_to_format (NAME ("qcow2")), FORMAT_QCOW2);
  CHECK_EQ (name_to_format (NAME ("qcow2x")), FORMAT_UNKNOWN);
  CHECK_EQ (name_to_format (NAME ("")), FORMAT_UNKNOWN);
  CHECK (strcmp (printable (text, NAME ("a\n'")), "'a\\x0a\\x27'") == 0);
  CHECK (strlen (printable (text, longest, NAME_SIZE)) < PRINTABLE_SIZE);
  CHECK (strcmp (text + strlen (text) - 4, "...'") == 0);

  folder = folder_of (host_path (&h, "one"));
  CHECK (folder != NULL && strcmp (folder, h.folder) == 0);
  free (folder);
  CHECK (folder_of ("/gone/for/good") == NULL);
}

/* ---- Following ---------------------------------------------------------- */

static void
check_follow (const char *path, int errnum)
{
  int fd, opened;

  unit_context ("the path %s", path);
  fd = follow_find (&h.rules, path);
  CHECK_EQ (fd == -1 ? errno : 0, errnum);
  if (fd != -1) {
    opened = follow_open (fd, O_RDONLY);
    CHECK (opened != -1);
    close (opened);
    close (fd);
  }
  unit_context ("%s", "");
}

static void
following (void)
{
  char other[300];
  const char *rest;

  REQUIRE (mkdir (host_path (&h, "sub"), 0700) == 0);
  REQUIRE (mkfifo (host_path (&h, "fifo"), 0600) == 0);
  REQUIRE (symlink ("/etc/passwd", host_path (&h, "out")) == 0);
  REQUIRE (symlink ("../../etc", host_path (&h, "sub/up")) == 0);
  host_write_raw (&h, "sub/file", 1);
  host_files_follow (&h);

  check_follow ("one", 0);
  check_follow ("sub/file", 0);
  check_follow ("sub/../one", 0);
  check_follow ("./sub//file", 0);
  check_follow ("gone", ENOENT);
  check_follow ("../x", EXDEV);
  check_follow ("sub/../../x", EXDEV);
  check_follow ("/etc/passwd", EXDEV);
  check_follow ("sub", EINVAL);
  check_follow ("fifo", EINVAL);        /* and nobody waits for a writer */
  CHECK_EQ (follow_find (&h.rules, "out"), -1);
  CHECK (errno == EXDEV || errno == ELOOP);
  CHECK_EQ (follow_find (&h.rules, "sub/up/passwd"), -1);
  CHECK (errno == EXDEV || errno == ELOOP);

  rest = follow_beneath (&h.rules, host_path (&h, "sub/file"));
  CHECK (rest != NULL && strcmp (rest, "sub/file") == 0);
  rest = follow_beneath (&h.rules, h.folder);
  CHECK (rest != NULL && rest[0] == '\0');
  CHECK (follow_beneath (&h.rules, "/etc/passwd") == NULL);
  /* Another folder whose name begins in the same way. */
  snprintf (other, sizeof other, "%sx/file", h.folder);
  CHECK (follow_beneath (&h.rules, other) == NULL);
}

int
main (void)
{
  host_files_init (&h);
  locks ();
  locks_at_once ();
  lock_errors ();
  claims ();
  claims_again ();
  identities ();
  images ();
  local_files ();
  names ();
  following ();
  host_files_destroy (&h);
  return unit_finish ();
}
