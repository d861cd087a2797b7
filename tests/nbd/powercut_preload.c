/* SPDX-License-Identifier: BSD-3-Clause */
/* powercut_preload.c - logs a server's operations on a file.
 *
 * Preloaded into a server, it logs each write, zeroing, change of size and
 * flush of one file, with its bytes, the descriptor and the times of its start
 * and end; tests/nbd/powercut.py makes the files that a power cut could leave
 * from it.
 *
 * Environment
 *   POWERCUT_FILE=PATH        the file; it must exist
 *   POWERCUT_LOG=PATH         the log, as struct entry and bytes
 *   POWERCUT_FAIL_FLUSH=N     the Nth flush fails with EIO, and those after
 *                             it succeed, as on Linux
 */
#define _GNU_SOURCE 1

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_DESCRIPTORS 4096

enum { WRITE, ZERO, SIZE, FLUSH, FAILED_FLUSH };

/* Little endian, without holes. */
struct entry {
  uint32_t kind, descriptor;    /* no two openings have the same one */
  uint64_t begin, end;          /* CLOCK_MONOTONIC, in nanoseconds */
  uint64_t offset, length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static struct stat file;
static unsigned long fail_flush, nr_flushes;
static uint32_t closed[MAX_DESCRIPTORS];        /* how often */

static ssize_t (*real_pwrite) (int, const void *, size_t, off64_t);
static int (*real_fdatasync) (int);
static int (*real_fsync) (int);
static int (*real_ftruncate) (int, off64_t);
static int (*real_fallocate) (int, int, off64_t, off64_t);
static int (*real_close) (int);

static void
look_up (void *slot, const char *name)
{
  *(void **) slot = dlsym (RTLD_NEXT, name);
  if (*(void **) slot == NULL)
    abort ();
}

__attribute__ ((constructor)) static void
start (void)
{
  const char *const path = getenv ("POWERCUT_FILE");
  const char *const log = getenv ("POWERCUT_LOG");
  const char *const fail = getenv ("POWERCUT_FAIL_FLUSH");

  look_up (&real_pwrite, "pwrite64");
  look_up (&real_fdatasync, "fdatasync");
  look_up (&real_fsync, "fsync");
  look_up (&real_ftruncate, "ftruncate64");
  look_up (&real_fallocate, "fallocate64");
  look_up (&real_close, "close");
  if (path == NULL || log == NULL || stat (path, &file) == -1)
    return;
  fail_flush = fail ? strtoul (fail, NULL, 10) : 0;
  log_fd = open (log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (log_fd == -1)
    abort ();
  /* Programs that it starts have nothing to do with it. */
  unsetenv ("LD_PRELOAD");
}

static uint64_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * UINT64_C (1000000000) + ts.tv_nsec;
}

static int
is_it (int fd)
{
  struct stat st;

  return log_fd != -1 && fd >= 0 && fd < MAX_DESCRIPTORS &&
    fstat (fd, &st) == 0 && st.st_dev == file.st_dev &&
    st.st_ino == file.st_ino;
}

static void
note (int fd, uint32_t kind, uint64_t begin, uint64_t offset, uint64_t length,
      const void *bytes)
{
  struct entry e = {
    .kind = kind, .begin = begin, .end = now (), .offset = offset,
    .length = length,
  };
  const struct iovec iov[2] = {
    { &e, sizeof e }, { (void *) bytes, bytes ? length : 0 },
  };

  pthread_mutex_lock (&lock);
  e.descriptor = closed[fd] * MAX_DESCRIPTORS + fd;
  if (writev (log_fd, iov, 2) != (ssize_t) (sizeof e + iov[1].iov_len))
    abort ();
  pthread_mutex_unlock (&lock);
}

ssize_t
pwrite64 (int fd, const void *buf, size_t count, off64_t offset)
{
  const int saved_errno = errno, ours = is_it (fd);
  const uint64_t begin = ours ? now () : 0;
  ssize_t r;

  errno = saved_errno;
  r = real_pwrite (fd, buf, count, offset);
  if (r > 0 && ours)
    note (fd, WRITE, begin, offset, r, buf);
  return r;
}

ssize_t
pwrite (int fd, const void *buf, size_t count, off_t offset)
{
  return pwrite64 (fd, buf, count, offset);
}

static int
flush (int fd, int (*real) (int))
{
  const int ours = is_it (fd);
  const uint64_t begin = now ();
  unsigned long number = 0;
  int r;

  if (!ours)
    return real (fd);
  pthread_mutex_lock (&lock);
  number = ++nr_flushes;
  pthread_mutex_unlock (&lock);
  if (number == fail_flush) {
    note (fd, FAILED_FLUSH, begin, 0, 0, NULL);
    errno = EIO;
    return -1;
  }
  r = real (fd);
  note (fd, r == 0 ? FLUSH : FAILED_FLUSH, begin, 0, 0, NULL);
  return r;
}

int
fdatasync (int fd)
{
  return flush (fd, real_fdatasync);
}

int
fsync (int fd)
{
  return flush (fd, real_fsync);
}

int
ftruncate64 (int fd, off64_t size)
{
  const int ours = is_it (fd);
  const uint64_t begin = now ();
  const int r = real_ftruncate (fd, size);

  if (r == 0 && ours)
    note (fd, SIZE, begin, size, 0, NULL);
  return r;
}

int
ftruncate (int fd, off_t size)
{
  return ftruncate64 (fd, size);
}

int
fallocate64 (int fd, int mode, off64_t offset, off64_t length)
{
  const int ours = is_it (fd);
  const uint64_t begin = now ();
  const int r = real_fallocate (fd, mode, offset, length);

  if (r == 0 && ours && (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
    note (fd, ZERO, begin, offset, length, NULL);
  return r;
}

int
fallocate (int fd, int mode, off_t offset, off_t length)
{
  return fallocate64 (fd, mode, offset, length);
}

int
close (int fd)
{
  if (is_it (fd)) {
    pthread_mutex_lock (&lock);
    closed[fd]++;
    pthread_mutex_unlock (&lock);
  }
  return real_close (fd);
}
