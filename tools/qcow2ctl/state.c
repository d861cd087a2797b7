/* SPDX-License-Identifier: BSD-3-Clause */
/* state.c - the file with a VM state that is saved with a snapshot.
 *
 * Owns      its file descriptor.
 * Method    its size is asked for once; the engine reads that much of it, and
 *           a file that has become shorter meanwhile is an error.
 * Locks     none.
 */
#include "config.h"

#include "state.h"

#include "host/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
state_read (void *opaque, void *buf, uint32_t count, uint64_t off,
            struct qcow2_error *err)
{
  const struct state *const s = opaque;
  unsigned char *p = buf;

  while (count > 0) {
    const ssize_t n = pread (s->fd, p, count, (off_t) off);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1)
      return fail_with (err, QCOW2_ERR_IO, errno, "%s: cannot be read: %s",
                        s->path, strerror (errno));
    if (n == 0)
      return fail_with (err, QCOW2_ERR_IO, EIO, "%s: has become shorter while "
                        "it was read", s->path);
    p += n;
    off += (uint64_t) n;
    count -= (uint32_t) n;
  }
  return 0;
}

int
state_open (struct state *s, const char *path, struct qcow2_error *err)
{
  struct stat st;
  bool looked;
  int e;

  s->path = path;
  s->state = (struct qcow2_vm_state) { .read = state_read, .opaque = s };
  s->fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  looked = s->fd != -1 && fstat (s->fd, &st) == 0;
  if (looked && S_ISREG (st.st_mode)) {
    s->state.size = (uint64_t) st.st_size;
    return 0;
  }
  e = s->fd == -1 || !looked ? errno : 0;
  if (s->fd != -1)
    close (s->fd);
  return fail_with (err, QCOW2_ERR_INVALID, e ? e : EINVAL, "%s: the VM state "
                    "cannot be read: %s", path,
                    e ? strerror (e) : "it is no regular file");
}

void
state_close (struct state *s)
{
  close (s->fd);
}
