/* SPDX-License-Identifier: BSD-3-Clause */
/* content.c - what a file has in which an image may be created.
 *
 * Owns      the mark of a creation that has not ended, and telling an empty
 *           file from one that has something.
 * Method    a file is empty only if all of it is known to read as zeros: where
 *           the host says that it is a hole, or else by reading it.  The first
 *           byte that is not zero ends the search.
 * Locks     none.
 */
#include "config.h"

#include "edit/create.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "format/foreign.h"

#include <string.h>

void
q2_creation_mark (unsigned char sector[Q2_HEADER_SECTOR])
{
  memset (sector, 0, Q2_HEADER_SECTOR);
  memcpy (sector, Q2_CREATION_MARK, sizeof Q2_CREATION_MARK - 1);
}

/* ---- All of it -------------------------------------------------------- */

#define PIECE (UINT64_C (1) << 20)

/* *ret_zero: all of [start, end), which is no hole, reads as zeros. */
static int
read_range (const struct q2_io *io, unsigned char *buf, uint64_t start,
            uint64_t end, bool *ret_zero, struct qcow2_error *err)
{
  *ret_zero = true;
  for (uint64_t off = start; *ret_zero && off < end; off += PIECE) {
    const uint64_t n = q2_min (end - off, PIECE);

    if (q2_io_read (io, buf, n, off, QCOW2_IO_DATA, err) == -1)
      return -1;
    *ret_zero = q2_all_are (buf, 0, n);
  }
  return 0;
}

static int
read_all (const struct q2_io *io, bool *ret_zero, struct qcow2_error *err)
{
  const uint64_t size = q2_io_size (io);
  unsigned char *const buf = q2_buffer_alloc (PIECE);
  uint64_t start = 0, end = 0;
  int r = 0;

  if (buf == NULL)
    return q2_fail_nomem (err, "looking at the file");
  *ret_zero = true;
  while (r == 0 && *ret_zero && end < size) {
    const uint64_t from = end;

    q2_io_next_data (io, end, size, &start, &end);
    if (!q2_assume (start >= from && end > from && start <= end, err))
      r = -1;
    else
      r = read_range (io, buf, start, end, ret_zero, err);
  }
  q2_buffer_free (buf, PIECE);
  return r;
}

/* ---- The question ----------------------------------------------------- */

static int
look (const struct q2_io *io, enum qcow2_content *ret,
      struct qcow2_error *err)
{
  unsigned char first[Q2_HEADER_SECTOR] = { 0 }, marked[Q2_HEADER_SECTOR];
  bool zero = false;

  if (q2_io_read (io, first, q2_min (sizeof first, q2_io_size (io)), 0,
                  QCOW2_IO_HEADER, err) == -1)
    return -1;
  q2_creation_mark (marked);
  *ret = QCOW2_CONTENT_OTHER;
  if (memcmp (first, marked, sizeof marked) == 0)
    *ret = QCOW2_CONTENT_UNFINISHED;
  else if (q2_header_has_magic (first))
    *ret = QCOW2_CONTENT_IMAGE;
  else if (q2_all_are (first, 0, sizeof first)) {
    if (read_all (io, &zero, err) == -1)
      return -1;
    if (zero)
      *ret = QCOW2_CONTENT_NOTHING;
  }
  return 0;
}

int
qcow2_look_at (const struct qcow2_io *host, enum qcow2_content *ret,
               struct qcow2_error *err)
{
  struct q2_io_shared shared = { .file = NULL };
  struct q2_io io = {
    .host = host, .file_size = host->size, .shared = &shared,
  };
  int r;

  q2_io_shared_init (&shared);
  r = look (&io, ret, err);
  q2_io_shared_destroy (&shared);
  return q2_check_end (err) == -1 ? -1 : r;
}
