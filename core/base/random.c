/* SPDX-License-Identifier: BSD-3-Clause */
/* random.c - random bytes for keys and salts, from the kernel.
 *
 * Owns      nothing.
 * Locks     none.
 */
#include "config.h"

#include "base/random.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

int
q2_random (void *buf, size_t len, struct qcow2_error *err)
{
  unsigned char *p = buf;

  while (len > 0) {
    const ssize_t n = getrandom (p, len, 0);

    if (n == -1 && errno == EINTR)
      continue;
    if (n <= 0)
      return q2_fail_io (err, errno, QCOW2_NO_OFFSET,
                         "getting random bytes from the kernel failed: %s",
                         strerror (errno));
    p += n;
    len -= (size_t) n;
  }
  return 0;
}
