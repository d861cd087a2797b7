/* SPDX-License-Identifier: BSD-3-Clause */
/* test-fetch.c - tables are read several at a time, on a host where each read
 * takes a while, and a check says what it says anywhere.
 *
 * Owns      nothing.
 * Method    fetches by themselves: what they bring, what they leave out, and
 *           that reads run at once.  Then images with faults of all kinds, and
 *           places that cannot be read, are checked twice: on a host that is
 *           fast, and takes one read at a time, and on one that is slow, and
 *           takes many.  Findings and figures must be the same.
 */
#include "config.h"

#include "check/fetch.h"

#include "hooked_disk.h"
#include "memory_io.h"
#include "unit.h"

#include "base/be.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#define TABLE UINT64_C (1024)
#define NR_TABLES 300
#define DELAY_US 400            /* a read that takes so long is a slow one */

/* ---- Fetches ----------------------------------------------------------- */

static unsigned char file[NR_TABLES * TABLE];
static struct memory_io m;
static struct q2_io_shared shared;
static struct q2_io io;

static void
begin (void)
{
  struct rng rng = { 3 };
  unsigned char byte;
  struct qcow2_error err;

  rng_fill (&rng, file, sizeof file);
  memset (file + 100 * TABLE, 0, 20 * TABLE);
  memory_io_init (&m, file, sizeof file);
  q2_io_shared_init (&shared);
  io = (struct q2_io) {
    .host = &m.io, .file_size = sizeof file, .shared = &shared,
  };
  m.io.concurrent = true;
  m.delay_us = DELAY_US;
  for (unsigned i = 0; i < 20; ++i)
    CHECK_EQ (q2_io_read (&io, &byte, 1, i, QCOW2_IO_L2, &err), 0);
  CHECK (q2_io_is_slow (&io));
}

static void
end (void)
{
  q2_io_shared_destroy (&shared);
}

/* Only if it brings something. */
static void
whether (void)
{
  struct q2_fetch *f;

  begin ();
  f = q2_fetch_new (&io, TABLE);
  CHECK (f != NULL);
  q2_fetch_free (f);
  m.io.concurrent = false;
  CHECK (q2_fetch_new (&io, TABLE) == NULL);
  m.io.concurrent = true;
  io.shared = NULL;
  CHECK (q2_fetch_new (&io, TABLE) == NULL);
  q2_fetch_free (NULL);
  end ();
}

static void
check_copy (const struct q2_fetch *f, uint64_t host_off, uint64_t len,
            bool expected)
{
  static unsigned char buf[sizeof file];

  if (CHECK_EQ (q2_fetch_copy (f, buf, len, host_off), expected) && expected)
    CHECK_BYTES (buf, file + host_off, len);
}

static void
bring (void)
{
  struct q2_fetch *f;
  unsigned long reads;

  begin ();
  f = q2_fetch_new (&io, TABLE);
  REQUIRE (f != NULL);
  m.hole_size = TABLE;
  m.bad_start = 50 * TABLE + 7;
  m.bad_end = m.bad_start + 1;
  reads = m.reads[QCOW2_IO_REFCOUNT];
  for (unsigned i = 0; i < 10; ++i)     /* one piece */
    CHECK (q2_fetch_add (f, i * TABLE));
  CHECK (q2_fetch_add (f, 50 * TABLE)); /* cannot be read */
  CHECK (q2_fetch_add (f, 60 * TABLE));
  for (unsigned i = 0; i < 5; ++i)      /* a hole */
    CHECK (q2_fetch_add (f, (102 + i) * TABLE));
  for (unsigned i = 0; i < 3; ++i)      /* the end of it, and what follows */
    CHECK (q2_fetch_add (f, (118 + i) * TABLE));
  CHECK (q2_fetch_add (f, (NR_TABLES - 1) * TABLE));
  CHECK (q2_fetch_add (f, NR_TABLES * TABLE));  /* behind the end */
  CHECK (q2_fetch_add (f, 70 * TABLE + 512));   /* no place of a table */
  q2_fetch_run (f, true, QCOW2_IO_REFCOUNT);
  CHECK_EQ (m.reads[QCOW2_IO_REFCOUNT] - reads, 4);
  check_copy (f, 0, 10 * TABLE, true);
  check_copy (f, 3 * TABLE + 5, TABLE, true);
  check_copy (f, 3 * TABLE, 8 * TABLE, false);
  check_copy (f, 50 * TABLE, TABLE, false);
  check_copy (f, 60 * TABLE, TABLE, true);
  check_copy (f, 103 * TABLE, TABLE, false);
  check_copy (f, 119 * TABLE, 2 * TABLE, false);
  CHECK_EQ (q2_fetch_find (f, 119 * TABLE, TABLE), Q2_FETCHED_NOT);
  check_copy (f, (NR_TABLES - 1) * TABLE, TABLE, true);
  check_copy (f, 200 * TABLE, TABLE, false);
  CHECK_EQ (q2_fetch_find (f, 103 * TABLE, TABLE), Q2_FETCHED_HOLE);
  CHECK_EQ (q2_fetch_find (f, 105 * TABLE, 3 * TABLE), Q2_FETCHED_NOT);
  CHECK_EQ (q2_fetch_find (f, 50 * TABLE, TABLE), Q2_FETCHED_NOT);

  q2_fetch_clear (f);
  check_copy (f, 0, TABLE, false);
  CHECK (q2_fetch_add (f, 103 * TABLE));
  q2_fetch_run (f, false, QCOW2_IO_REFCOUNT);   /* nobody asks for holes */
  check_copy (f, 103 * TABLE, TABLE, true);
  q2_fetch_free (f);
  end ();
}

/* Neighbours that are two pieces are one range all the same. */
static void
pieces (void)
{
  const uint64_t size = UINT64_C (512) << 10;
  unsigned char *const bytes = malloc (20 * size), *const buf = malloc (size);
  struct rng rng = { 5 };
  struct q2_fetch *f;
  unsigned n = 0;

  REQUIRE (bytes != NULL && buf != NULL);
  begin ();
  rng_fill (&rng, bytes, 20 * size);
  m.bytes = bytes;
  m.io.size = io.file_size = 20 * size;
  f = q2_fetch_new (&io, size);
  REQUIRE (f != NULL);
  while (q2_fetch_add (f, n * size))
    ++n;
  CHECK_EQ (n, 16);
  q2_fetch_run (f, false, QCOW2_IO_L2);
  for (uint64_t at = 0; at < 15 * size; at += size / 2 + 512)
    if (CHECK (q2_fetch_copy (f, buf, size, at)))
      CHECK_BYTES (buf, bytes + at, size);
  q2_fetch_free (f);
  end ();
  free (bytes);
  free (buf);
}

static atomic_int inside, most;

static int
count_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
             enum qcow2_io_class class)
{
  const int now = atomic_fetch_add (&inside, 1) + 1;
  int seen = atomic_load (&most);

  (void) opaque;
  (void) class;
  while (now > seen && !atomic_compare_exchange_weak (&most, &seen, now))
    ;
  for (unsigned i = 0; i < 1000 && atomic_load (&most) < 16; ++i)
    usleep (1000);
  memcpy (buf, file + host_off, count);
  atomic_fetch_sub (&inside, 1);
  return 0;
}

/* All of them run at once: each waits for the others. */
static void
at_once (void)
{
  struct qcow2_io_ops ops;
  struct qcow2_io host;
  struct q2_fetch *f;

  begin ();
  ops = *m.io.ops;
  ops.pread = count_pread;
  host = m.io;
  host.ops = &ops;
  io.host = &host;
  f = q2_fetch_new (&io, TABLE);
  REQUIRE (f != NULL);
  for (unsigned i = 0; i < 16; ++i)
    CHECK (q2_fetch_add (f, i * 3 * TABLE));
  CHECK (!q2_fetch_add (f, 200 * TABLE));
  q2_fetch_run (f, false, QCOW2_IO_L2);
  CHECK_EQ (atomic_load (&most), 16);
  q2_fetch_free (f);
  end ();
}

/* ---- Checks ------------------------------------------------------------ */

#define NR 3000                 /* guest clusters with data */
#define DISK (4096 * TABLE)
#define MAX_TEXT (1u << 20)

struct said {
  size_t len;
  char text[MAX_TEXT];
};

static void
note (void *opaque, const struct qcow2_finding *f)
{
  struct said *const s = opaque;

  if (s->len < MAX_TEXT - sizeof (struct qcow2_error))
    s->len += (size_t) sprintf (s->text + s->len, "%d %d %" PRIx64 " %s\n",
                                (int) f->kind, (int) f->severity, f->host_off,
                                f->text);
}

static void
check_on (const struct hooked_disk *d, uint64_t bad, bool slow,
          struct said *said, struct qcow2_check_result *ret)
{
  const struct qcow2_options options = { .check = true };
  const struct qcow2_check_options how = { .finding = note, .opaque = said };
  struct memory_io host;
  struct qcow2_image *image;
  struct qcow2_error err;

  memset (ret, 0, sizeof *ret);
  said->len = 0;
  said->text[0] = '\0';
  memory_io_init (&host, d->b.bytes, d->b.size);
  host.io.concurrent = slow;
  host.delay_us = slow ? DELAY_US : 0;
  host.bad_start = bad;
  host.bad_end = bad + (bad > 0);
  image = qcow2_open (&host.io, &options, &err);
  if (!CHECK (image != NULL))
    return;
  if (qcow2_check (image, &host.io, &how, ret, &err) == -1)
    note (said, &(struct qcow2_finding) { .text = err.text });
  qcow2_close (image);
}

/* Something in a table. */
static void
damage (struct hooked_disk *d, struct rng *rng)
{
  const uint64_t entry =
    builder_entry_off (&d->b, rng_below (rng, NR));
  const uint64_t cluster = 1 + rng_below (rng, d->b.size / TABLE - 1);

  switch (rng_below (rng, 5)) {
  case 0:
    hooked_disk_put (d, hooked_disk_refcount_off (d, cluster * TABLE),
                     rng_below (rng, 4));
    break;
  case 1:
    hooked_disk_put (d, entry, hooked_disk_get (d, entry) ^ HOOKED_COPIED);
    break;
  case 2:
    hooked_disk_put (d, entry, HOOKED_COPIED | cluster * TABLE);
    break;
  case 3:
    hooked_disk_put (d, entry, rng_below (rng, UINT64_MAX));
    break;
  case 4:
    hooked_disk_put (d, entry, 0);
    break;
  }
}

static void
compare (uint64_t seed)
{
  static struct said fast, slow;
  struct qcow2_check_result a, b;
  struct rng rng = { seed };
  struct hooked_disk d;
  const unsigned faults = (unsigned) rng_below (&rng, 20);
  uint64_t bad = 0;

  unit_context ("seed %" PRIu64, seed);
  /* Refcounts of 64 bits, so there are many blocks. */
  if (rng_below (&rng, 2))
    hooked_disk_build (&d, 10, 6, DISK, NR);
  else
    hooked_disk_build_apart (&d, 10, 6, DISK, NR);
  for (unsigned i = 0; i < faults; ++i)
    damage (&d, &rng);
  if (rng_below (&rng, 2))
    bad = TABLE * (1 + rng_below (&rng, d.b.size / TABLE - 1));
  check_on (&d, bad, false, &fast, &a);
  check_on (&d, bad, true, &slow, &b);
  if (!CHECK (strcmp (fast.text, slow.text) == 0))
    printf ("fast:\n%sslow:\n%s", fast.text, slow.text);
  CHECK (memcmp (&a, &b, sizeof a) == 0);
  builder_free (&d.b);
}

int
main (void)
{
  whether ();
  bring ();
  pieces ();
  at_once ();
  for (uint64_t seed = 0; seed < unit_scaled (60); ++seed)
    compare (seed);
  return unit_finish ();
}
