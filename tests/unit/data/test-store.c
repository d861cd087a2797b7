/* SPDX-License-Identifier: BSD-3-Clause */
/* test-store.c - what encrypted changes do to the file below: which bytes are
 * read and written, and how.
 *
 * Owns      a file of a few hundred KiB in memory, whose requests are kept.
 */
#include "config.h"

#include "data/store.h"
#include "unit.h"

#include <string.h>

#define SIZE 524288
#define MAX_REQUESTS 64

static unsigned char file[SIZE];
static struct request {
  bool write;
  uint64_t start, end;
} requests[MAX_REQUESTS];
static unsigned nr_requests;

static void
keep (bool write, uint32_t count, uint64_t host_off)
{
  REQUIRE (nr_requests < MAX_REQUESTS);
  REQUIRE (host_off <= SIZE && count <= SIZE - host_off);
  requests[nr_requests++] =
    (struct request) { write, host_off, host_off + count };
}

static int
read_file (void *opaque, void *buf, uint32_t count, uint64_t host_off,
           enum qcow2_io_class io_class)
{
  (void) opaque;
  (void) io_class;
  keep (false, count, host_off);
  memcpy (buf, file + host_off, count);
  return 0;
}

static int
write_file (void *opaque, const void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class io_class)
{
  (void) opaque;
  (void) io_class;
  keep (true, count, host_off);
  memcpy (file + host_off, buf, count);
  return 0;
}

static const struct qcow2_io_ops ops = {
  .pread = read_file, .pwrite = write_file,
};
static const struct qcow2_io host = {
  .ops = &ops, .size = SIZE, .min_block = 1,
};

static void
read_all (struct q2_store *s, const struct q2_io *io, unsigned char *buf)
{
  struct qcow2_error err;

  REQUIRE (q2_store_read (s, io, buf, SIZE, (struct q2_place) { 0, 0 },
                          &err) == 0);
}

/* Each sector is written by one request: between two of them another writer
 * would get in, and of one sector each would have a part.  Only sectors at the
 * two ends are read.
 */
static void
check_requests (uint64_t start, uint64_t end)
{
  const uint64_t first = start / 512 * 512, last = (end - 1) / 512 * 512;
  uint64_t next = first;

  for (unsigned i = 0; i < nr_requests; ++i) {
    const struct request *const r = &requests[i];

    if (r->write) {
      CHECK_EQ (r->start, next);
      CHECK_EQ (r->end % 512, 0);
      next = r->end;
    } else {
      CHECK_EQ (r->end - r->start, 512);
      CHECK (r->start == first || r->start == last);
    }
  }
  CHECK_EQ (next, last + 512);
}

static void
zero (struct q2_store *s, const struct q2_io *io, uint64_t start, uint64_t end)
{
  static unsigned char expected[SIZE], now[SIZE];
  const struct q2_place place = { start, start };
  struct qcow2_error err;

  unit_context ("%" PRIu64 " to %" PRIu64, start, end);
  memset (file, 0x5a, SIZE);
  read_all (s, io, expected);
  memset (expected + start, 0, end - start);
  nr_requests = 0;
  REQUIRE (q2_store_zero (s, io, end - start, place, false, &err) == 0);
  check_requests (start, end);
  nr_requests = 0;
  read_all (s, io, now);
  CHECK_BYTES (now, expected, SIZE);
}

int
main (void)
{
  struct q2_io_shared shared = { 0 };
  struct q2_store s = { .guest_iv = true };
  const struct q2_io io = {
    .host = &host, .file_size = SIZE, .shared = &shared,
  };
  struct qcow2_error err;

  s.cipher = q2_cipher_aes_legacy ("secret", 6, &err);
  if (s.cipher == NULL)
    unit_skip ("built without nettle");
  q2_io_shared_init (&shared);
  q2_store_init (&s);
  zero (&s, &io, 0, SIZE);
  zero (&s, &io, 79, 131072);
  zero (&s, &io, 65536, 300001);
  zero (&s, &io, 1000, 400000);
  zero (&s, &io, 511, 513);
  zero (&s, &io, 5, 7);
  zero (&s, &io, 512 + 79, 512 + 79 + 65536);
  q2_store_destroy (&s);
  q2_io_shared_destroy (&shared);
  return unit_finish ();
}
