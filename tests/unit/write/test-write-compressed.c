/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-compressed.c - qcow2_pwrite_compressed, by what qcow2.h says.
 *
 * Owns      nothing.
 * Method    images are made in memory.  What is written must be read, before
 *           and after the image has been opened again; qcow2_map says how it is
 *           stored.  What is refused must leave the file as it was.  Random
 *           requests, and crashes, are in tests/crash/workloads.c ("pack-*").
 */
#include "config.h"

#include "fsck.h"
#include "host.h"
#include "unit.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define MiB (UINT64_C (1) << 20)
#define CAPACITY (16 * MiB)
#define MAX_DISK (4 * MiB)

/* An image on a host, and what its disk should have. */
struct disk {
  struct host h;
  struct host data;             /* its data file */
  bool has_data;
  struct qcow2_options options;
  struct qcow2_image *image;
  uint64_t size, cluster;
  unsigned char *expected;
};

static int
open_data (void *opaque, const struct qcow2_reference *ref,
           struct qcow2_file *ret, struct qcow2_error *err)
{
  struct disk *const d = opaque;

  (void) ref;
  (void) err;
  *ret = (struct qcow2_file) { .io = &d->data.io };
  return 0;
}

static void
open_disk (struct disk *d)
{
  struct qcow2_error err;

  host_reopen (&d->h);
  d->image = qcow2_open (&d->h.io, &d->options, &err);
  if (d->image == NULL)
    printf ("%s\n", err.text);
  REQUIRE (d->image != NULL);
}

static void
make (struct disk *d, const struct qcow2_create_options *create)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  struct qcow2_error err;
  int r;

  *d = (struct disk) {
    .size = create->virtual_size, .cluster = create->cluster_size,
    .has_data = create->data_file.len > 0,
    .options = {
      .writable = true, .cluster_cache_size = MiB, .open_file = open_data,
      .open_file_opaque = d, .passphrase = create->passphrase,
      .passphrase_len = create->passphrase_len,
    },
  };
  host_init (&d->h, &spec, "", 0);
  if (d->has_data)
    host_init (&d->data, &spec, "", 0);
  r = qcow2_create (&d->h.io, create, &err);
  if (r == -1)
    printf ("%s\n", err.text);
  REQUIRE (r == 0);
  d->expected = calloc (1, MAX_DISK);
  REQUIRE (d->expected != NULL && d->size <= MAX_DISK);
  open_disk (d);
}

static void
make_plain (struct disk *d, uint64_t size, uint64_t cluster,
            enum qcow2_compression compression)
{
  make (d, &(struct qcow2_create_options) {
      .virtual_size = size, .cluster_size = cluster,
      .compression = compression });
}

/* Nothing is wrong with the file, and nothing in it is lost. */
static void
check_and_free (struct disk *d)
{
  unsigned char *const buf = malloc (MAX_DISK);
  struct qcow2_error err;

  REQUIRE (buf != NULL);
  for (unsigned again = 0; again < 2; ++again) {
    if (CHECK_EQ (qcow2_pread (d->image, &d->h.io, buf, (uint32_t) d->size, 0,
                               &err), 0))
      CHECK_BYTES (buf, d->expected, d->size);
    /* Piece by piece: through the cache. */
    for (uint64_t at = 0; at < d->size; at += 7 * 512)
      if (!CHECK_EQ (qcow2_pread (d->image, &d->h.io, buf, 512, at, &err), 0)
          || !CHECK_BYTES (buf, d->expected + at, 512))
        break;
    CHECK_EQ (qcow2_end (d->image, &d->h.io, &err), 0);
    qcow2_close (d->image);
    CHECK (fsck_check (d->h.bytes, d->h.size, false));
    if (again == 0)
      open_disk (d);
  }
  free (buf);
  free (d->expected);
  host_free (&d->h);
  if (d->has_data)
    host_free (&d->data);
}

/* ---- Bytes -------------------------------------------------------------- */

enum bytes { ZEROS, WORDS, NOISE };

static void
fill (unsigned char *buf, uint64_t len, enum bytes bytes, uint64_t seed)
{
  struct rng rng = { seed };

  if (bytes == NOISE)
    rng_fill (&rng, buf, len);
  else
    for (uint64_t i = 0; i < len; ++i)
      buf[i] = bytes == ZEROS ? 0
        : (unsigned char) ("words and "[i % 10] + seed + i / 512 % 3);
}

static int
put (struct disk *d, const unsigned char *buf, uint64_t len, uint64_t at,
     bool fua, struct qcow2_error *err)
{
  const int r = qcow2_pwrite_compressed (d->image, &d->h.io, buf,
                                         (uint32_t) len, at, fua, err);

  if (r == 0)
    memcpy (d->expected + at, buf, len);
  return r;
}

static void
write_bytes (struct disk *d, enum bytes bytes, uint64_t seed, uint64_t len,
             uint64_t at)
{
  unsigned char *const buf = malloc (len);
  struct qcow2_error err;

  REQUIRE (buf != NULL);
  fill (buf, len, bytes, seed);
  if (!CHECK_EQ (put (d, buf, len, at, false, &err), 0))
    printf ("%s\n", err.text);
  free (buf);
}

static void
write_plain (struct disk *d, enum bytes bytes, uint64_t seed, uint64_t len,
             uint64_t at)
{
  struct qcow2_error err;

  fill (d->expected + at, len, bytes, seed);
  CHECK_EQ (qcow2_pwrite (d->image, &d->h.io, d->expected + at,
                          (uint32_t) len, at, false, &err), 0);
}

/* ---- How it is stored --------------------------------------------------- */

struct stored {
  enum qcow2_piece_kind kind;   /* what all of it should be */
  uint64_t end;
};

static int
see_piece (void *opaque, const struct qcow2_piece *piece)
{
  struct stored *const s = opaque;

  CHECK_EQ (piece->kind, s->kind);
  CHECK_EQ (piece->guest_off, s->end);
  s->end += piece->len;
  return 0;
}

static void
check_stored (struct disk *d, enum qcow2_piece_kind kind, uint64_t len,
              uint64_t at)
{
  struct stored s = { kind, at };
  struct qcow2_error err;

  CHECK_EQ (qcow2_map (d->image, &d->h.io, len, at, see_piece, &s, &err), 0);
  CHECK_EQ (s.end, at + len);
}

/* ---- What is written ---------------------------------------------------- */

static void
write_kinds (uint64_t cluster, enum qcow2_compression compression)
{
  const uint64_t size = cluster < MiB ? 10 * cluster + 1536 % cluster
    : cluster + 512;
  const uint64_t tail = size % cluster;
  struct disk d;

  unit_context ("%s: %" PRIu64 ", %d", __func__, cluster, (int) compression);
  make_plain (&d, size, cluster, compression);
  write_bytes (&d, WORDS, 1, cluster, 0);
  check_stored (&d, QCOW2_PIECE_COMPRESSED, cluster, 0);
  /* All of the disk, whose last cluster is not whole, or one cluster. */
  write_bytes (&d, WORDS, 2, size, 0);
  check_stored (&d, QCOW2_PIECE_COMPRESSED, size, 0);
  if (tail > 0)
    write_bytes (&d, WORDS, 3, tail, size - tail);
  write_bytes (&d, NOISE, 4, cluster, 0);
  check_stored (&d, QCOW2_PIECE_DATA, cluster, 0);
  write_bytes (&d, ZEROS, 5, cluster, 0);
  check_stored (&d, QCOW2_PIECE_ZERO, cluster, 0);
  write_bytes (&d, WORDS, 6, cluster, 0);
  check_stored (&d, QCOW2_PIECE_COMPRESSED, cluster, 0);
  /* In place of a part of it, and the rest with it. */
  write_plain (&d, WORDS, 7, 512, cluster / 1024 * 512);
  check_stored (&d, QCOW2_PIECE_DATA, cluster, 0);
  check_and_free (&d);
}

/* Of one request, each cluster as it is. */
static void
write_mixed (void)
{
  unsigned char *const buf = malloc (9 * 4 * KiB);
  struct qcow2_error err;
  struct disk d;

  unit_context ("%s", __func__);
  REQUIRE (buf != NULL);
  make_plain (&d, MiB, 4 * KiB, QCOW2_COMPRESSION_ZLIB);
  for (unsigned i = 0; i < 9; ++i)
    fill (buf + i * 4 * KiB, 4 * KiB, (enum bytes) (i % 3), i);
  CHECK_EQ (put (&d, buf, 9 * 4 * KiB, 40 * KiB, false, &err), 0);
  for (unsigned i = 0; i < 9; ++i) {
    static const enum qcow2_piece_kind kinds[] = {
      QCOW2_PIECE_UNALLOCATED, QCOW2_PIECE_COMPRESSED, QCOW2_PIECE_DATA,
    };

    check_stored (&d, kinds[i % 3], 4 * KiB, (10 + i) * 4 * KiB);
  }
  free (buf);
  check_and_free (&d);
}

/* With plain writes, zeros and trims in between, over and over. */
static void
write_by_turns (void)
{
  struct rng rng = { 1 };
  struct disk d;

  unit_context ("%s", __func__);
  make_plain (&d, 256 * KiB, 4 * KiB, QCOW2_COMPRESSION_ZLIB);
  for (unsigned i = 0; i < 400; ++i) {
    const uint64_t first = rng_below (&rng, 64);
    const uint64_t nr = 1 + rng_below (&rng, 64 - first);
    const uint64_t at = first * 4 * KiB, len = nr * 4 * KiB;
    struct qcow2_error err;

    switch (rng_below (&rng, 6)) {
    case 0:
      write_plain (&d, WORDS, i, 512 * (1 + rng_below (&rng, 8 * nr - 1)),
                   at);
      break;
    case 1:
      CHECK_EQ (qcow2_zero (d.image, &d.h.io, len, at, QCOW2_ZERO_MAY_TRIM,
                            &err), 0);
      memset (d.expected + at, 0, len);
      break;
    case 2:
      CHECK_EQ (qcow2_flush (d.image, &d.h.io, &err), 0);
      break;
    default:
      write_bytes (&d, WORDS, i, len, at);
    }
  }
  check_and_free (&d);
}

/* One request to the host for each of those that clients make, besides tables
 * and what is flushed; and FUA is durable when it returns.
 */
static void
count_requests (void)
{
  unsigned char *const buf = malloc (2 * MiB);
  struct qcow2_stats before, after;
  struct qcow2_error err;
  unsigned long flushes;
  struct disk d;

  unit_context ("%s", __func__);
  REQUIRE (buf != NULL);
  make_plain (&d, 4 * MiB, 64 * KiB, QCOW2_COMPRESSION_ZLIB);
  qcow2_close (d.image);
  d.options.count = true;
  open_disk (&d);
  fill (buf, 2 * MiB, WORDS, 1);
  qcow2_get_stats (d.image, &before);
  for (unsigned i = 0; i < 4; ++i)
    CHECK_EQ (put (&d, buf, 2 * MiB, i % 2 * 2 * MiB, false, &err), 0);
  qcow2_get_stats (d.image, &after);
  CHECK_EQ (after.io[QCOW2_IO_COMPRESSED].writes -
            before.io[QCOW2_IO_COMPRESSED].writes, 4);
  flushes = d.h.nr[HOST_FLUSH];
  CHECK_EQ (put (&d, buf, 64 * KiB, 0, true, &err), 0);
  CHECK (d.h.nr[HOST_FLUSH] > flushes);
  free (buf);
  check_and_free (&d);
}

/* ---- What is refused ---------------------------------------------------- */

static void
refuse (struct disk *d, uint64_t len, uint64_t at, enum qcow2_error_kind kind)
{
  unsigned char *const before = malloc (d->h.size);
  unsigned char *const buf = malloc (len + 1);
  const uint64_t size = d->h.size;
  struct qcow2_error err = { .text = "" };

  REQUIRE (before != NULL && buf != NULL);
  memcpy (before, d->h.bytes, size);
  fill (buf, len, WORDS, 9);
  CHECK_EQ (qcow2_pwrite_compressed (d->image, &d->h.io, buf, (uint32_t) len,
                                     at, false, &err), -1);
  if (!CHECK_EQ (err.kind, kind))
    printf ("%s\n", err.text);
  if (kind == QCOW2_ERR_UNSUPPORTED)
    CHECK_EQ (err.advice, QCOW2_ADVICE_NO_COMPRESSION);
  CHECK_EQ (d->h.size, size);
  CHECK_BYTES (d->h.bytes, before, size);
  free (before);
  free (buf);
}

static void
refuse_parts (void)
{
  struct disk d;

  unit_context ("%s", __func__);
  make_plain (&d, 10 * KiB, 4 * KiB, QCOW2_COMPRESSION_ZLIB);
  refuse (&d, 512, 0, QCOW2_ERR_INVALID);
  refuse (&d, 4 * KiB, 512, QCOW2_ERR_INVALID);
  refuse (&d, 5 * KiB, 0, QCOW2_ERR_INVALID);
  refuse (&d, 1 * KiB, 9 * KiB, QCOW2_ERR_INVALID);     /* the disk's end */
  refuse (&d, 1 * KiB, 8 * KiB, QCOW2_ERR_INVALID);
  refuse (&d, 4 * KiB, 8 * KiB, QCOW2_ERR_RANGE);
  refuse (&d, 4 * KiB, 12 * KiB, QCOW2_ERR_RANGE);
  refuse (&d, 4 * KiB, UINT64_MAX - 4 * KiB + 1, QCOW2_ERR_RANGE);
  write_bytes (&d, WORDS, 1, 2 * KiB, 8 * KiB);
  check_and_free (&d);
}

static void
refuse_images (void)
{
  struct disk d;

  unit_context ("%s: read-only", __func__);
  make_plain (&d, 64 * KiB, 4 * KiB, QCOW2_COMPRESSION_ZLIB);
  qcow2_close (d.image);
  d.options.writable = false;
  open_disk (&d);
  refuse (&d, 4 * KiB, 0, QCOW2_ERR_READ_ONLY);
  check_and_free (&d);

  unit_context ("%s: a data file", __func__);
  make (&d, &(struct qcow2_create_options) {
      .virtual_size = 64 * KiB, .cluster_size = 4 * KiB,
      .data_file = { "data", 4 } });
  refuse (&d, 4 * KiB, 0, QCOW2_ERR_UNSUPPORTED);
  check_and_free (&d);

  if (!qcow2_has_nettle ())
    return;
  unit_context ("%s: encrypted", __func__);
  make (&d, &(struct qcow2_create_options) {
      .virtual_size = 64 * KiB, .cluster_size = 4 * KiB,
      .encryption = QCOW2_ENCRYPTION_LUKS, .passphrase = "x",
      .passphrase_len = 1, .luks = { .iter_time_ms = 10 } });
  refuse (&d, 4 * KiB, 0, QCOW2_ERR_UNSUPPORTED);
  check_and_free (&d);
}

/* ---- What fails --------------------------------------------------------- */

/* The n-th operation of the host fails, other than flushes: each cluster reads
 * as before, or as written, and can be written later.
 */
static void
fail_once (void)
{
  unsigned char buf[16 * KiB], read[16 * KiB];
  struct qcow2_error err;
  bool failed = true;
  struct disk d;

  for (unsigned long at = 1; failed; ++at) {
    unit_context ("%s: operation %lu", __func__, at);
    make_plain (&d, 64 * KiB, 4 * KiB, QCOW2_COMPRESSION_ZLIB);
    write_bytes (&d, WORDS, 1, 32 * KiB, 0);
    fill (buf, sizeof buf, WORDS, 2);
    host_fail (&d.h, 1u << HOST_WRITE | 1u << HOST_GROW | 1u << HOST_READ, at,
               0, EIO);
    if (put (&d, buf, sizeof buf, 4 * KiB, true, &err) == -1)
      CHECK_EQ (err.kind, QCOW2_ERR_IO);
    failed = d.h.failed > 0;
    host_fail (&d.h, 0, 0, 0, 0);
    CHECK_EQ (qcow2_pread (d.image, &d.h.io, read, sizeof read, 4 * KiB,
                           &err), 0);
    for (uint64_t i = 0; i < sizeof read; i += 4 * KiB)
      CHECK (memcmp (read + i, buf + i, 4 * KiB) == 0 ||
             memcmp (read + i, d.expected + 4 * KiB + i, 4 * KiB) == 0);
    if (!CHECK_EQ (put (&d, buf, sizeof buf, 4 * KiB, false, &err), 0))
      printf ("%s\n", err.text), fflush (stdout);
    check_and_free (&d);
  }
}

static void
lack_space (void)
{
  unsigned char buf[64 * KiB];
  struct qcow2_error err;
  unsigned long fit = 0;
  struct disk d;
  int r = 0;

  unit_context ("%s", __func__);
  make_plain (&d, 4 * MiB, 4 * KiB, QCOW2_COMPRESSION_ZLIB);
  CHECK_EQ (qcow2_end (d.image, &d.h.io, &err), 0);
  qcow2_close (d.image);
  d.h.spec.capacity = 512 * KiB;
  open_disk (&d);
  for (uint64_t at = 0; r == 0 && at < 4 * MiB; at += sizeof buf) {
    struct rng rng = { at };

    fill (buf, sizeof buf, WORDS, at);
    for (uint64_t i = 0; i < sizeof buf; i += 512)
      rng_fill (&rng, buf + i, 256);
    r = put (&d, buf, sizeof buf, at, false, &err);
    fit += r == 0;
    /* Some of it may have been written. */
    if (r == -1)
      CHECK_EQ (qcow2_pread (d.image, &d.h.io, d.expected + at, sizeof buf,
                             at, &err), 0);
  }
  CHECK_EQ (r, -1);
  CHECK (fit > 2);
  check_and_free (&d);
}

int
main (void)
{
  static const uint64_t sizes[] = { 512, 4 * KiB, 64 * KiB, 2 * MiB };

  if (!qcow2_has_zlib ())
    unit_skip ("the engine was built without zlib");
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    write_kinds (sizes[i], QCOW2_COMPRESSION_ZLIB);
    if (qcow2_has_zstd ())
      write_kinds (sizes[i], QCOW2_COMPRESSION_ZSTD);
  }
  write_mixed ();
  write_by_turns ();
  count_requests ();
  refuse_parts ();
  refuse_images ();
  fail_once ();
  lack_space ();
  return unit_finish ();
}
