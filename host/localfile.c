/* SPDX-License-Identifier: BSD-3-Clause */
/* localfile.c - the way to the bytes of another file that is local.
 *
 * Owns      a file descriptor, and with it the locks on the file.
 * Method    pread and pwrite, which any number of threads may do at once;
 *           holes are what lseek says.  It lends itself to background work,
 *           since nothing else is needed for that.
 *
 *           Zeroing is done by the file system where that can be, and by
 *           writing otherwise.  A data file may be shorter than the disk, and
 *           is made longer as it is written to.
 * Locks     none.  The engine does not grow a file on two threads at once.
 */
#include "config.h"

#include "host/localfile.h"

#include "qcow2.h"
#include "host/bounce.h"
#include "host/durable.h"
#include "host/env.h"
#include "host/error.h"
#include "host/filelimit.h"
#include "host/other.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Pieces of the file that one question looks at; what is left then counts as
 * data.
 */
#define MAX_PIECES 4096

struct localfile {
  struct other other;           /* first: it is the same pointer */
  int fd;
  struct durable durable;
};

static int
read_all (const struct localfile *f, void *buf, uint32_t count,
          uint64_t host_off)
{
  char *p = buf;

  while (count > 0) {
    const ssize_t n = pread (f->fd, p, count, host_off);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1)
      return errno;
    if (n == 0)
      return EIO;               /* somebody has cut the file */
    p += n;
    host_off += n;
    count -= n;
  }
  return 0;
}

static int
local_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
             enum qcow2_io_class class)
{
  void *const to = bounce_get (buf, count, host_off, true);
  const int r = read_all (opaque, to, count, host_off);

  bounce_put (to, buf, count, r == 0);
  return r;
}

static int
local_pwrite (void *opaque, const void *buf, uint32_t count,
              uint64_t host_off, enum qcow2_io_class class)
{
  const struct localfile *const f = opaque;
  const char *p = buf;

  if (!qcow2_holds (f->other.ops.pwrite != NULL) ||
      durable_is_lost (&f->durable))
    return EIO;
  while (count > 0) {
    const ssize_t n = pwrite (f->fd, p, count, host_off);

    if (n == -1 && errno == EINTR)
      continue;
    if (n <= 0)
      return n == -1 ? errno : EIO;
    p += n;
    host_off += n;
    count -= n;
  }
  return 0;
}

static int
sync_file (void *opaque)
{
  const struct localfile *const f = opaque;

  return fdatasync (f->fd) == -1 ? errno : 0;
}

static int
local_flush (void *opaque)
{
  struct localfile *const f = opaque;

  return durable_flush (&f->durable, sync_file, f);
}

static int
local_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  const struct localfile *const f = opaque;

  /* A hint: what comes of it does not matter. */
  posix_fadvise (f->fd, host_off, count, POSIX_FADV_WILLNEED);
  return 0;
}

/* ---- Holes ------------------------------------------------------------- */

/* Where what is at 'pos' ends, and whether it is a hole. */
static uint64_t
piece_end (const struct localfile *f, uint64_t pos, uint64_t end, bool *hole)
{
  off_t next = lseek (f->fd, pos, SEEK_DATA);

  *hole = next == -1 ? errno == ENXIO : (uint64_t) next > pos;
  if (!*hole && next != -1)
    next = lseek (f->fd, pos, SEEK_HOLE);
  /* Errors: this file system cannot tell.  No progress: it has changed. */
  if (next == -1 || (uint64_t) next > end || (uint64_t) next <= pos)
    return end;
  return next;
}

static int
local_extents (void *opaque, uint32_t count, uint64_t host_off,
               qcow2_host_extent_fn fn, void *fn_opaque)
{
  const struct localfile *const f = opaque;
  const uint64_t end = host_off + count;

  for (unsigned i = 0; i < MAX_PIECES && host_off < end; ++i) {
    bool hole;
    const uint64_t next = piece_end (f, host_off, end, &hole);

    if (!qcow2_holds (next > host_off && next <= end))
      return EIO;
    if (fn (fn_opaque, host_off, next - host_off, hole) != 0)
      return 0;
    host_off = next;
  }
  if (host_off < end)
    fn (fn_opaque, host_off, end - host_off, false);
  return 0;
}

/* ---- Zeroing ----------------------------------------------------------- */

static int
allocate (const struct localfile *f, int mode, uint32_t count,
          uint64_t host_off)
{
  int r;

  do
    r = fallocate (f->fd, mode | FALLOC_FL_KEEP_SIZE, host_off, count);
  while (r == -1 && errno == EINTR);
  return r;
}

static int
write_zeros (struct localfile *f, uint32_t count, uint64_t host_off)
{
  static const char zeros[65536];

  while (count > 0) {
    const uint32_t n = count < sizeof zeros ? count : sizeof zeros;
    const int r = local_pwrite (f, zeros, n, host_off, QCOW2_IO_DATA);

    if (r != 0)
      return r;
    host_off += n;
    count -= n;
  }
  return 0;
}

static int
local_zero (void *opaque, uint32_t count, uint64_t host_off, bool may_punch,
            enum qcow2_io_class class)
{
  struct localfile *const f = opaque;
  bool done;

  if (durable_is_lost (&f->durable))
    return EIO;
  if (may_punch)
    done = allocate (f, FALLOC_FL_PUNCH_HOLE, count, host_off) == 0;
  else                          /* some file systems can punch, but not zero */
    done = allocate (f, FALLOC_FL_ZERO_RANGE, count, host_off) == 0 ||
      (allocate (f, FALLOC_FL_PUNCH_HOLE, count, host_off) == 0 &&
       allocate (f, 0, count, host_off) == 0);
  return done ? 0 : write_zeros (f, count, host_off);
}

static int
local_fast_zero (void *opaque, uint32_t count, uint64_t host_off,
                 bool may_punch, enum qcow2_io_class class)
{
  const int mode = may_punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

  return allocate (opaque, mode, count, host_off) == 0 ? 0 : errno;
}

static int
local_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  const struct localfile *const f = opaque;

  if (durable_is_lost (&f->durable))
    return EIO;
  if (allocate (f, FALLOC_FL_PUNCH_HOLE, count, host_off) == 0)
    return 0;
  return errno == EOPNOTSUPP || errno == ENODEV || errno == ENOSYS ? 0
    : errno;
}

/* ---- The size ---------------------------------------------------------- */

static int
local_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct localfile *const f = opaque;
  struct stat st;
  int err;

  if (fstat (f->fd, &st) == -1)
    return errno;
  if ((uint64_t) st.st_size < min_size) {
    err = set_file_size (f->fd, min_size);
    if (err != 0)
      return err;
    st.st_size = min_size;
  }
  *ret_size = st.st_size;
  return 0;
}

/* Only what changes an image itself does this. */
static int
local_shorten (void *opaque, uint64_t size)
{
  struct localfile *const f = opaque;
  struct stat st;

  if (fstat (f->fd, &st) == -1)
    return errno;
  return (uint64_t) st.st_size > size ? set_file_size (f->fd, size) : 0;
}

/* ---- Making one -------------------------------------------------------- */

static void
local_close (struct other *other)
{
  struct localfile *const f = (struct localfile *) other;

  (void) qcow2_holds (f->fd != -1 && f->other.io.opaque == f);
  durable_forget (&f->durable, f->fd);
  close (f->fd);
  durable_destroy (&f->durable);
  free (f);
}

/* Devices have a size of their own. */
static int
size_of (int fd, bool *regular, uint64_t *size)
{
  struct stat st;
  off_t end;

  if (fstat (fd, &st) == -1)
    return -1;
  *regular = S_ISREG (st.st_mode);
  end = *regular ? st.st_size : lseek (fd, 0, SEEK_END);
  *size = end;
  return end == -1 ? -1 : 0;
}

static void
set_ops (struct qcow2_io_ops *ops, bool writing, bool regular)
{
  *ops = (struct qcow2_io_ops) {
    .pread = local_pread, .extents = local_extents, .cache = local_cache,
    .borrow = other_borrow, .give_back = other_give_back,
  };
  if (writing) {
    ops->pwrite = local_pwrite;
    ops->flush = local_flush;
    ops->zero = local_zero;
    ops->fast_zero = local_fast_zero;
    ops->trim = local_trim;
  }
  if (writing && regular) {
    ops->grow = local_grow;
    ops->shorten = local_shorten;
  }
}

struct other *
localfile_new (const struct host_env *env, int fd, const char *name,
               bool writing, struct qcow2_error *err)
{
  struct localfile *const f = calloc (1, sizeof *f);
  uint64_t size;
  bool regular;

  if (f == NULL || size_of (fd, &regular, &size) == -1) {
    fail_with (err, QCOW2_ERR_IO, errno, "%s: %s", name, strerror (errno));
    close (fd);
    free (f);
    return NULL;
  }
  f->fd = fd;
  durable_init (&f->durable, env, name);
  f->other.close = local_close;
  set_ops (&f->other.ops, writing, regular);
  f->other.io = (struct qcow2_io) {
    .ops = &f->other.ops, .opaque = f, .size = size,
    .min_block = 1, .concurrent = true,
  };
  return &f->other;
}
