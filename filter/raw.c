/* SPDX-License-Identifier: BSD-3-Clause */
/* raw.c - exports that are raw disks: their way straight to the plugin.
 *
 * Owns      what differs from no filter at all: the file is locked
 *           (rawfile.c); reads use bounce buffers, as those of images do; and
 *           long zeroing is cut in pieces.
 * Method    the plugin answers all questions, and gets all requests as they
 *           come, so flags that it knows reach it.
 * Locks     none.
 */
#include "config.h"

#include "raw.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "handle.h"
#include "lines.h"
#include "report.h"
#include "below/exportid.h"
#include "below/next.h"
#include "share/access.h"
#include "share/rawfile.h"

#include <errno.h>

/* As in next.c. */
#define MAX_ZERO (32u << 20)

enum access_needs
raw_open (struct handle *h)
{
  struct access *const a = &h->access;

  if (h->parsed.view != NULL) {
    warning (a->exportname, "is a raw disk, as qcow2-raw says, and so has "
             "nothing inside such as '%s'", h->parsed.view);
    errno = ENOENT;
    return ACCESS_FAILED;
  }
  (void) holds (h->rawfile == NULL && a->state == NULL);
  export_id_get (&a->id, a->exportname);
  h->rawfile = rawfile_acquire (a->exportname, &a->id, a->readonly);
  if (h->rawfile == NULL)
    return ACCESS_FAILED;
  return rawfile_is_writable (h->rawfile) ? ACCESS_NEEDS_WRITER
    : ACCESS_NEEDS_READER;
}

/* Calls through 'next' require that all has been asked. */
int
raw_prepare (struct handle *h, nbdkit_next *next)
{
  struct abilities can;

  if (next_ask (next, true, &can) == -1)
    return -1;
  return rawfile_is_behind (h->rawfile, h->access.exportname) ? 0 : -1;
}

void
raw_close (struct handle *h)
{
  if (h->rawfile != NULL)
    rawfile_release (h->rawfile);
  h->rawfile = NULL;
}

const char *
raw_description (nbdkit_next *next)
{
  const char *const own = next->export_description (next);

  return own ? own : RAW_DESCRIPTION;
}

int
raw_can_write (const struct handle *h, nbdkit_next *next)
{
  return rawfile_is_writable (h->rawfile) ? next->can_write (next) : 0;
}

int
raw_pread (nbdkit_next *next, void *buf, uint32_t count, uint64_t offset,
           int *err)
{
  *err = next_pread (next, buf, count, offset, QCOW2_IO_DATA);
  return *err == 0 ? 0 : -1;
}

int
raw_zero (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags,
          int *err)
{
  while (count > 0) {
    const uint32_t n = count < MAX_ZERO ? count : MAX_ZERO;

    if (next->zero (next, n, offset, flags, err) == -1)
      return -1;
    offset += n;
    count -= n;
  }
  return 0;
}
