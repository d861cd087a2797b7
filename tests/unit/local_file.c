/* SPDX-License-Identifier: BSD-3-Clause */
/* local_file.c - a file of the machine as a host of images. */
#include "config.h"

#include "local_file.h"

#include "base/bits.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int
file_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  const int fd = *(const int *) opaque;

  (void) class;
  while (count > 0) {
    const ssize_t n = pread (fd, buf, count, (off_t) host_off);

    if (n <= 0)
      return n == 0 ? EIO : errno;
    buf = (char *) buf + n;
    count -= (uint32_t) n;
    host_off += (uint64_t) n;
  }
  return 0;
}

static int
file_pwrite (void *opaque, const void *buf, uint32_t count,
             uint64_t host_off, enum qcow2_io_class class)
{
  const int fd = *(const int *) opaque;

  (void) class;
  while (count > 0) {
    const ssize_t n = pwrite (fd, buf, count, (off_t) host_off);

    if (n < 0)
      return errno;
    buf = (const char *) buf + n;
    count -= (uint32_t) n;
    host_off += (uint64_t) n;
  }
  return 0;
}

static int
file_flush (void *opaque)
{
  (void) opaque;
  return 0;                     /* nobody pulls the plug */
}

static int
file_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  if (ftruncate (*(const int *) opaque, (off_t) min_size) == -1)
    return errno;
  *ret_size = min_size;
  return 0;
}

static int
file_cut (void *opaque, uint64_t size)
{
  return ftruncate (*(const int *) opaque, (off_t) size) == -1 ? errno : 0;
}

static int
file_extents (void *opaque, uint32_t count, uint64_t host_off,
              qcow2_host_extent_fn fn, void *fn_opaque)
{
  const int fd = *(const int *) opaque;
  const uint64_t end = host_off + count;

  while (host_off < end) {
    const off_t data = lseek (fd, (off_t) host_off, SEEK_DATA);
    const off_t hole = data == -1 ? -1 : lseek (fd, data, SEEK_HOLE);
    const uint64_t from = data == -1 ? end : q2_min ((uint64_t) data, end);
    const uint64_t to = hole == -1 ? end : q2_min ((uint64_t) hole, end);

    if ((from > host_off && fn (fn_opaque, host_off, from - host_off, true))
        || (to > from && fn (fn_opaque, from, to - from, false)))
      return 0;
    host_off = to;
  }
  return 0;
}

const struct qcow2_io_ops local_file_ops = {
  .pread = file_pread,
  .extents = file_extents,
  .pwrite = file_pwrite,
  .flush = file_flush,
  .grow = file_grow,
  .cut = file_cut,
};

const struct qcow2_io_ops local_file_blind_ops = {
  .pread = file_pread,
  .pwrite = file_pwrite,
  .flush = file_flush,
  .grow = file_grow,
  .cut = file_cut,
};

bool
local_file_open (struct local_file *f, const char *name, int flags)
{
  struct stat st;

  f->fd = open (name, flags | O_CLOEXEC);
  if (f->fd == -1)
    return false;
  if (fstat (f->fd, &st) == -1) {
    close (f->fd);
    return false;
  }
  f->io = (struct qcow2_io) {
    .ops = &local_file_ops, .opaque = &f->fd, .size = (uint64_t) st.st_size,
    .min_block = 1,
  };
  return true;
}

void
local_file_close (struct local_file *f)
{
  close (f->fd);
}
