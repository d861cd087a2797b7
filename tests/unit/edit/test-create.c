/* SPDX-License-Identifier: BSD-3-Clause */
/* test-create.c - new images.
 *
 * Owns      nothing.
 * Method    images of all kinds are created in empty files and in files full
 *           of bytes, and must read as zeros here, be sound for fsck.c and
 *           clean for QEMU, which reads them, too.  Each state that a crash
 *           can leave has no image or all of it.  Each change of the file
 *           fails once.
 */
#include "config.h"

#include "fsck.h"
#include "memory_disk.h"
#include "qemu.h"
#include "unit.h"

#include <errno.h>
#include <limits.h>

#define MiB (UINT64_C (1) << 20)

static struct qcow2_name
name_of (const char *s)
{
  return (struct qcow2_name) { s, strlen (s) };
}

static const struct qcow2_create_options old_options = { .virtual_size = MiB };

/* An empty file, or one that is full of bytes and has an image at its start
 * that must not be found again.
 */
static void
disk_init (struct memory_disk *d, bool used)
{
  static unsigned char bytes[3 * MiB];
  struct qcow2_error err;

  if (!used) {
    memory_disk_init (d, bytes, 0);
    return;
  }
  memset (bytes, 0xa5, sizeof bytes);
  memory_disk_init (d, bytes, sizeof bytes);
  REQUIRE (qcow2_create (&d->host, &old_options, &err) == 0);
}

static void
check_reads_as_zeros (const struct memory_disk *d,
                      const struct qcow2_create_options *o)
{
  static unsigned char buf[8 * MiB], zeros[8 * MiB];
  const uint64_t size = (o->virtual_size + 511) / 512 * 512;
  struct qcow2_info info;
  struct qcow2_image *image;
  struct qcow2_io io = d->host;
  struct qcow2_error err;

  io.size = d->size;
  image = qcow2_open (&io, &(struct qcow2_options) { .raw = false },
                      &err);
  if (!CHECK (image != NULL)) {
    printf ("%s\n", err.text);
    return;
  }
  info = qcow2_get_info (image);
  CHECK_EQ (info.virtual_size, size);
  CHECK_EQ (info.version, o->version ? o->version : 3);
  CHECK_EQ (info.cluster_size, o->cluster_size ? o->cluster_size : 65536);
  CHECK_EQ (info.refcount_bits, o->refcount_bits ? o->refcount_bits : 16);
  CHECK_EQ (info.extended_l2, o->extended_l2);
  CHECK_EQ (info.lazy_refcounts, o->lazy_refcounts);
  CHECK_EQ (info.compression, o->compression);
  REQUIRE (size <= sizeof buf);
  if (size > 0 &&
      CHECK (qcow2_pread (image, &io, buf, (uint32_t) size, 0, &err)
             == 0))
    CHECK_BYTES (buf, zeros, size);
  qcow2_close (image);
}

/* 'what': for QEMU's opinion, NULL: it is not asked. */
static void
check_image (const struct memory_disk *d,
             const struct qcow2_create_options *o, const char *what)
{
  static const unsigned char zeros[8 * MiB];
  unsigned char *const bytes = memory_disk_copy (d);
  struct fsck f;

  check_reads_as_zeros (d, o);
  fsck_check (bytes, d->size, false);
  fsck_image (bytes, d->size, &f);
  CHECK_EQ (f.past_end, 0);
  if (what != NULL)
    qemu_submit (bytes, d->size, NULL, QEMU_CLEAN, zeros,
                 (o->virtual_size + 511) / 512 * 512, what);
  free (bytes);
}

static void
create (const struct qcow2_create_options *o, const char *what)
{
  for (unsigned used = 0; used < 2; ++used) {
    struct memory_disk d;
    struct qcow2_error err;

    unit_context ("%s%s", what, used ? ", in a file that was used" : "");
    disk_init (&d, used);
    if (CHECK (qcow2_create (&d.host, o, &err) == 0))
      check_image (&d, o, used == (o->preallocation
                                   == QCOW2_PREALLOCATE_METADATA)
                   ? what : NULL);
    else
      printf ("%s\n", err.text);
    memory_disk_free (&d);
  }
}

static void
test_kinds (void)
{
  static const uint64_t sizes[] = { 0, 1, 512, 1234567, 5 * MiB + 512 };
  static const unsigned cluster_bits[] = { 9, 12, 14, 16, 21 };
  struct qcow2_create_options o;
  char what[200];

  for (unsigned n = 0; n < 5 * 5 * 2 * 4; ++n) {
    const unsigned kind = n / 5 / 5 / 2;

    o = (struct qcow2_create_options) {
      .virtual_size = sizes[n % 5],
      .cluster_size = UINT64_C (1) << cluster_bits[n / 5 % 5],
      .preallocation = (enum qcow2_preallocation) kind,
    };
    if (n / 25 % 2)
      o.version = 2;
    else {
      o.refcount_bits = 1u << n % 7;
      o.lazy_refcounts = n % 3 == 0;
      o.extended_l2 = cluster_bits[n / 5 % 5] >= 14 && n % 2;
      o.compression = qcow2_has_zstd () && n % 5 == 1
        ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB;
    }
    snprintf (what, sizeof what, "%u: %" PRIu64 " bytes, clusters of %" PRIu64
              ", version %u, %u bits, kind %u", n, o.virtual_size,
              o.cluster_size, o.version, o.refcount_bits, kind);
    create (&o, what);
  }
}

/* More refcount blocks than one, and more than one cluster of their table. */
static void
test_many_refcount_blocks (void)
{
  const struct qcow2_create_options o = {
    .virtual_size = 7 * MiB, .cluster_size = 512, .refcount_bits = 64,
    .preallocation = QCOW2_PREALLOCATE_METADATA,
  };

  create (&o, "many refcount blocks");
}

/* ---- Crashes and failures ---------------------------------------------- */

struct crash {
  const struct qcow2_create_options *options;
  unsigned long first_flush;    /* up to here the old image may be there */
  struct rng rng;
  unsigned long states, images;
};

/* What whoever comes after a crash finds: nothing was written yet, or begin
 * anew.
 */
static void
check_left (struct memory_disk *left, bool old_image, bool image)
{
  enum qcow2_content content;
  struct qcow2_error err;

  if (!CHECK_EQ (qcow2_look_at (&left->host, &content, &err), 0))
    return;
  if (image)
    CHECK_EQ (content, QCOW2_CONTENT_IMAGE);
  else if (content != QCOW2_CONTENT_UNFINISHED) {
    CHECK (!old_image);
    CHECK_EQ (content, QCOW2_CONTENT_NOTHING);
  }
}

/* No image, or all of it; or the old one, which is gone first. */
static void
check_state (struct memory_disk *d, void *opaque)
{
  struct crash *const c = opaque;
  struct memory_disk left;
  unsigned char magic[4] = { 0 };

  memory_disk_crash (d, &c->rng, &left);
  ++c->states;
  if (left.stored >= 4)
    memcpy (magic, left.bytes, 4);
  check_left (&left, c->first_flush != ULONG_MAX,
              memcmp (magic, "QFI\xfb", 4) == 0);
  if (memcmp (magic, "QFI\xfb", 4) == 0) {
    unsigned char *const bytes = memory_disk_copy (&left);
    struct fsck f;

    ++c->images;
    fsck_image (bytes, left.size, &f);
    CHECK_EQ (f.corruptions, 0);
    free (bytes);
    check_reads_as_zeros (&left, d->flushes == c->first_flush
                          ? &old_options : c->options);
  }
  memory_disk_free (&left);
}

static void
test_crashes (void)
{
  static const struct qcow2_create_options options[] = {
    { .virtual_size = 2 * MiB, .cluster_size = 4096 },
    { .virtual_size = 1 * MiB, .cluster_size = 512, .refcount_bits = 1,
      .preallocation = QCOW2_PREALLOCATE_METADATA },
    { .virtual_size = 1 * MiB, .preallocation = QCOW2_PREALLOCATE_FULL },
  };
  struct crash c = { .rng = { 1 } };

  for (unsigned n = 0; n < unit_scaled (60); ++n)
    for (size_t i = 0; i < sizeof options / sizeof options[0]; ++i) {
      struct memory_disk d;
      struct qcow2_error err;

      unit_context ("crash %u, %zu", n, i);
      disk_init (&d, n % 2);
      c.options = &options[i];
      c.first_flush = n % 2 ? d.flushes : ULONG_MAX;
      d.before_change = check_state;
      d.opaque = &c;
      CHECK_EQ (qcow2_create (&d.host, &options[i], &err), 0);
      check_state (&d, &c);
      memory_disk_free (&d);
    }
  CHECK (c.images > 0);
  CHECK (c.states > 4 * c.images / 3);
  printf ("%lu states after crashes, %lu with an image\n", c.states,
          c.images);
}

/* The n-th change fails: so does the call, and nothing looks like an image. */
static void
test_failures (void)
{
  const struct qcow2_create_options o = {
    .virtual_size = 1 * MiB, .cluster_size = 4096,
    .preallocation = QCOW2_PREALLOCATE_FULL,
  };
  unsigned long n = 0, images = 0;
  bool failed = true;

  while (failed) {
    struct memory_disk d;
    struct qcow2_error err;

    unit_context ("change %lu fails", ++n);
    disk_init (&d, n % 2);
    d.fail_at = d.changes + n;
    d.fail_errnum = n % 3 ? EIO : ENOSPC;
    failed = qcow2_create (&d.host, &o, &err) == -1;
    if (failed) {
      CHECK_EQ (err.errnum, d.fail_errnum);
      images += d.stored >= 4 && memcmp (d.bytes, "QFI\xfb", 4) == 0;
    }
    else
      check_image (&d, &o, "no failure");
    memory_disk_free (&d);
    REQUIRE (n < 1000);
  }
  CHECK (n > 5);
  /* The old one if it could not be wiped out, and the new one when the last
   * flush fails.
   */
  CHECK (images <= 2);
}

/* ---- What there is ------------------------------------------------------- */

static void
check_content (struct memory_disk *d, enum qcow2_content expected)
{
  enum qcow2_content content;
  struct qcow2_error err;

  if (CHECK_EQ (qcow2_look_at (&d->host, &content, &err), 0))
    CHECK_EQ (content, expected);
}

/* Nothing is only what reads as zeros to its last byte. */
static void
test_contents (void)
{
  static const unsigned char zeros[4 * MiB];
  static const uint64_t sizes[] = { 0, 1, 511, 512, 513, 3 * MiB + 7 };

  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i)
    for (unsigned byte = 0; byte < 3; ++byte) {
      const uint64_t at = byte == 0 ? 0 : sizes[i] / byte - (byte == 1);
      struct memory_disk d;
      struct qcow2_error err;

      unit_context ("%" PRIu64 " bytes, %u", sizes[i], byte);
      memory_disk_init (&d, zeros, sizes[i]);
      check_content (&d, QCOW2_CONTENT_NOTHING);
      if (sizes[i] > 0) {
        REQUIRE (d.host.ops->pwrite (d.host.opaque, "x", 1, at,
                                     QCOW2_IO_DATA) == 0);
        check_content (&d, QCOW2_CONTENT_OTHER);
      }
      d.host.size = d.size;
      REQUIRE (qcow2_create (&d.host, &old_options, &err) == 0);
      d.host.size = d.size;
      check_content (&d, QCOW2_CONTENT_IMAGE);
      memory_disk_free (&d);
    }
}

/* ---- Measuring ---------------------------------------------------------- */

/* QEMU expects the same of the same options, and so does creating. */
static void
measure (const struct qcow2_create_options *o, const char *qemu_options)
{
  struct qcow2_measurement m;
  struct qcow2_error err;

  unit_context ("measure %" PRIu64 ", %s", o->virtual_size, qemu_options);
  if (!CHECK_EQ (qcow2_measure (o, NULL, NULL, &m, &err), 0))
    return;
  CHECK_EQ (m.bitmaps, 0);
  CHECK_EQ (qemu_status ("qemu-img measure --output=json --size %" PRIu64
                         " -O qcow2 -o '%s' | tr -d ' \\n' | grep -q "
                         "'\"required\":%" PRIu64 ",\"fully-allocated\":%"
                         PRIu64 "}'", o->virtual_size, qemu_options,
                         m.required, m.fully_allocated), 0);
}

static void
test_measure (void)
{
  static const struct {
    struct qcow2_create_options ours;
    const char *qemus;
  } cases[] = {
    { { .virtual_size = 0 }, "size=0" },
    { { .virtual_size = MiB }, "size=0" },
    { { .virtual_size = UINT64_C (5) << 40 }, "size=0" },
    { { .virtual_size = 1234567, .cluster_size = 512 }, "cluster_size=512" },
    { { .virtual_size = UINT64_C (1) << 30, .cluster_size = 2 * MiB },
      "cluster_size=2M" },
    { { .virtual_size = UINT64_C (10) << 30, .extended_l2 = true,
        .refcount_bits = 1 }, "extended_l2=on,refcount_bits=1" },
    { { .virtual_size = UINT64_C (100) << 30, .refcount_bits = 64,
        .cluster_size = 4096 }, "refcount_bits=64,cluster_size=4k" },
    { { .virtual_size = UINT64_C (1) << 30,
        .preallocation = QCOW2_PREALLOCATE_FULL }, "preallocation=full" },
  };

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i)
    measure (&cases[i].ours, cases[i].qemus);
}

/* An image that has all of its tables is as large as was measured; and a copy
 * of a disk takes what its data takes.
 */
static void
test_measure_images (void)
{
  static unsigned char data[200000];
  const struct qcow2_create_options o = {
    .virtual_size = 4 * MiB, .cluster_size = 4096,
    .preallocation = QCOW2_PREALLOCATE_METADATA,
  };
  struct qcow2_measurement empty, m;
  struct qcow2_image *image;
  struct memory_disk d;
  struct qcow2_io io;
  struct qcow2_error err;

  unit_context ("%s", __func__);
  disk_init (&d, false);
  REQUIRE (qcow2_measure (&o, NULL, NULL, &empty, &err) == 0);
  REQUIRE (qcow2_create (&d.host, &o, &err) == 0);
  CHECK_EQ (d.size, empty.fully_allocated);
  memory_disk_free (&d);

  disk_init (&d, false);
  REQUIRE (qcow2_create (&d.host, &(struct qcow2_create_options) {
        .virtual_size = 4 * MiB }, &err) == 0);
  io = d.host;
  io.size = d.size;
  image = qcow2_open (&io, &(struct qcow2_options) { .writable = true }, &err);
  REQUIRE (image != NULL);
  memset (data, 'd', sizeof data);
  CHECK_EQ (qcow2_pwrite (image, &io, data, sizeof data, 65536, false, &err),
            0);
  CHECK_EQ (qcow2_measure (&o, image, &io, &m, &err), 0);
  /* Its own clusters of 64 KiB are four. */
  CHECK_EQ (m.required, empty.required + 4 * 65536);
  CHECK_EQ (m.fully_allocated, empty.fully_allocated);
  CHECK_EQ (qcow2_end (image, &io, &err), 0);
  qcow2_close (image);
  memory_disk_free (&d);
}

/* ---- What is refused --------------------------------------------------- */

static bool
cancel (void *opaque, unsigned percent)
{
  return percent < *(const unsigned *) opaque;
}

static void
refuse (const struct qcow2_create_options *o, enum qcow2_error_kind kind,
        const char *part)
{
  struct memory_disk d;
  struct qcow2_error err;

  disk_init (&d, false);
  unit_context ("'%s'", part);
  if (CHECK_EQ (qcow2_create (&d.host, o, &err), -1)) {
    CHECK_EQ (err.kind, kind);
    if (!CHECK (strstr (err.text, part) != NULL))
      printf ("%s\n", err.text);
  }
  CHECK_EQ (d.size, 0);         /* nothing has been touched */
  memory_disk_free (&d);
}

/* Data files that cannot be used: the image's file is not touched. */
static void
refuse_data_files (void)
{
  struct memory_disk data;
  struct qcow2_io io;
  struct qcow2_io_ops ops;
  struct qcow2_create_options o = { .virtual_size = MiB, .data_io = &io };

  memory_disk_init (&data, "", 0);
  io = data.host;
  ops = *io.ops;
  io.ops = &ops;
  refuse (&o, QCOW2_ERR_INVALID, "is to have none");
  o.data_file = name_of ("data");
  ops.grow = NULL;
  ops.cut = NULL;
  refuse (&o, QCOW2_ERR_NO_SPACE, "of the data file");
  ops.pwrite = NULL;
  ops.flush = NULL;
  refuse (&o, QCOW2_ERR_READ_ONLY, "the data file cannot be written to");
  memory_disk_free (&data);
}

static void
test_refusals (void)
{
  static const struct qcow2_create_options bad[] = {
    { .version = 1 },
    { .version = 2, .refcount_bits = 8 },
    { .version = 2, .lazy_refcounts = true },
    { .version = 2, .extended_l2 = true },
    { .version = 2, .compression = QCOW2_COMPRESSION_ZSTD },
    { .cluster_size = 256 },
    { .cluster_size = 4 * MiB },
    { .cluster_size = 5000 },
    { .refcount_bits = 3 },
    { .refcount_bits = 128 },
    { .virtual_size = UINT64_MAX },
    { .data_file_raw = true },
  };
  static const char *const parts[] = {
    "version 1", "need version 3", "lazy refcounts", "extended L2",
    "zstd compression", "cluster size 256", "cluster size 4194304",
    "cluster size 5000", "width of 3", "width of 128", "too big",
    "needs a data file",
  };
  struct qcow2_create_options o = { .virtual_size = MiB };
  char longest[1100];

  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i)
    refuse (&bad[i], QCOW2_ERR_INVALID, parts[i]);
  o.backing_file = name_of ("base");
  refuse (&o, QCOW2_ERR_INVALID, "needs its format");
  o.backing_format = name_of ("sixteen-letters.");
  refuse (&o, QCOW2_ERR_INVALID, "15 bytes");
  o.backing_format = name_of ("raw");
  o.preallocation = QCOW2_PREALLOCATE_METADATA;
  refuse (&o, QCOW2_ERR_INVALID, "preallocation and a backing file");
  o.preallocation = QCOW2_PREALLOCATE_OFF;
  memset (longest, 'x', sizeof longest);
  o.backing_file = (struct qcow2_name) { longest, 1024 };
  refuse (&o, QCOW2_ERR_INVALID, "at most 1023");
  o.cluster_size = 512;
  o.backing_file = (struct qcow2_name) { longest, 500 };
  refuse (&o, QCOW2_ERR_INVALID, "larger clusters or shorter names");
  o.data_file = name_of ("data");
  o.data_file_raw = true;
  refuse (&o, QCOW2_ERR_INVALID, "together");
  o.backing_file.len = o.backing_format.len = 0;
  o.data_file_raw = false;
  o.keep_data = true;
  refuse (&o, QCOW2_ERR_INVALID, "raw data file can be kept");
  refuse_data_files ();
  o = (struct qcow2_create_options) { .extended_l2 = true,
                                      .cluster_size = 4096 };
  refuse (&o, QCOW2_ERR_CORRUPT, "subcluster");
  o = (struct qcow2_create_options) { .cluster_size = 512,
                                      .virtual_size = UINT64_C (1) << 40 };
  refuse (&o, QCOW2_ERR_UNSUPPORTED, "L1 table");
}

/* A file that cannot grow is left alone if it is too small; cancelling leaves
 * no image.
 */
static void
test_too_small (void)
{
  struct qcow2_create_options o = {
    .virtual_size = 20 * MiB, .preallocation = QCOW2_PREALLOCATE_METADATA,
  };
  unsigned percent = 0;
  struct memory_disk d;
  struct qcow2_io io;
  struct qcow2_io_ops ops;
  struct qcow2_error err;

  unit_context ("%s", "too small, cancelled");
  disk_init (&d, true);
  io = d.host;
  ops = *io.ops;
  ops.grow = NULL;
  ops.cut = NULL;
  io.ops = &ops;
  CHECK_EQ (qcow2_create (&io, &o, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_NO_SPACE);
  check_reads_as_zeros (&d, &(struct qcow2_create_options) {
      .virtual_size = MiB });
  o.virtual_size = 2 * MiB;
  CHECK_EQ (qcow2_create (&io, &o, &err), 0);
  check_image (&d, &o, "in a file that cannot grow");
  o.progress = cancel;
  o.progress_opaque = &percent;
  for (percent = 0; percent <= 100; percent += 50) {
    CHECK_EQ (qcow2_create (&d.host, &o, &err), -1);
    CHECK_EQ (err.kind, QCOW2_ERR_CANCELLED);
    CHECK (memcmp (d.bytes, "QFI\xfb", 4) != 0);
  }
  memory_disk_free (&d);
}

int
main (void)
{
  qemu_init ();
  test_kinds ();
  test_many_refcount_blocks ();
  test_crashes ();
  test_failures ();
  test_contents ();
  test_measure ();
  test_measure_images ();
  test_refusals ();
  test_too_small ();
  qemu_wait ();
  qemu_finish ();
  return unit_finish ();
}
