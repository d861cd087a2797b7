/* SPDX-License-Identifier: BSD-3-Clause */
/* test-resize.c - changes of the disk's size that are refused, cancelled, or
 * very large; and the bits of bitmaps.
 *
 * Owns      nothing.  What a crash or a failure leaves is crash/test-edits.c.
 */
#include "config.h"

#include "fsck.h"
#include "memory_disk.h"
#include "qemu.h"
#include "unit.h"

#define MiB (UINT64_C (1) << 20)
#define TiB (UINT64_C (1) << 40)

/* The file is not cut here. */
static void
set_ops (struct memory_disk *d)
{
  static struct qcow2_io_ops ops;

  ops = *d->host.ops;
  ops.cut = NULL;
  d->host.ops = &ops;
}

static struct qcow2_image *
open_image (struct memory_disk *d, bool writable)
{
  const struct qcow2_options options = { .writable = writable };
  struct qcow2_image *image;
  struct qcow2_error err;

  d->host.size = d->size;
  image = qcow2_open (&d->host, &options, &err);
  if (!CHECK (image != NULL)) {
    printf ("%s\n", err.text);
    exit (unit_finish ());
  }
  return image;
}

static int
resize (struct memory_disk *d, uint64_t size, unsigned flags,
        enum qcow2_preallocation preallocation, struct qcow2_error *err)
{
  struct qcow2_image *const image = open_image (d, true);
  const int r = qcow2_resize (image, &d->host, size, flags, preallocation,
                              NULL, err);

  qcow2_close (image);
  return r;
}

static uint64_t
size_of (struct memory_disk *d)
{
  struct qcow2_image *const image = open_image (d, false);
  const uint64_t size = qcow2_get_info (image).virtual_size;

  qcow2_close (image);
  return size;
}

static void
check_clean (const struct memory_disk *d)
{
  unsigned char *const bytes = memory_disk_copy (d);

  fsck_check (bytes, d->size, false);
  free (bytes);
}

static void
make (struct memory_disk *d, const struct qcow2_create_options *o)
{
  struct qcow2_error err;

  memory_disk_init (d, "", 0);
  set_ops (d);
  REQUIRE (qcow2_create (&d->host, o, &err) == 0);
}

static void
load (struct memory_disk *d, const char *commands)
{
  uint64_t size;
  unsigned char *const bytes = qemu_make (commands, &size);

  memory_disk_init (d, bytes, size);
  set_ops (d);
  free (bytes);
}

/* ---- Refused ----------------------------------------------------------- */

static void
refuse (struct memory_disk *d, uint64_t size, unsigned flags,
        enum qcow2_preallocation preallocation, enum qcow2_error_kind kind)
{
  const unsigned long changes = d->writes;
  const uint64_t before = size_of (d);
  struct qcow2_error err;

  CHECK (resize (d, size, flags, preallocation, &err) == -1);
  CHECK_EQ (err.kind, kind);
  CHECK_EQ (d->writes, changes);
  CHECK_EQ (size_of (d), before);
}

static void
test_refusals (void)
{
  const struct qcow2_create_options o = { .virtual_size = 3 * MiB };
  struct memory_disk d;
  struct qcow2_image *image;
  struct qcow2_error err;

  unit_context ("%s", __func__);
  make (&d, &o);
  refuse (&d, MiB, 0, QCOW2_PREALLOCATE_OFF, QCOW2_ERR_INVALID);
  refuse (&d, MiB, QCOW2_RESIZE_SHRINK, QCOW2_PREALLOCATE_FULL,
          QCOW2_ERR_INVALID);
  refuse (&d, UINT64_MAX, 0, QCOW2_PREALLOCATE_OFF, QCOW2_ERR_INVALID);
  refuse (&d, INT64_MAX, 0, QCOW2_PREALLOCATE_OFF, QCOW2_ERR_INVALID);
  refuse (&d, UINT64_C (1) << 62, 0, QCOW2_PREALLOCATE_OFF,
          QCOW2_ERR_UNSUPPORTED);
  image = open_image (&d, false);
  CHECK (qcow2_resize (image, &d.host, 4 * MiB, 0, QCOW2_PREALLOCATE_OFF,
                       NULL, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_READ_ONLY);
  qcow2_close (image);
  CHECK (resize (&d, 3 * MiB - 511, 0, QCOW2_PREALLOCATE_OFF, &err) == 0);
  CHECK_EQ (size_of (&d), 3 * MiB);
  memory_disk_free (&d);

  load (&d, "qemu-img create -q -f qcow2 -o compat=0.10 i 1M; "
        "qemu-img snapshot -c a i");
  refuse (&d, 2 * MiB, 0, QCOW2_PREALLOCATE_OFF, QCOW2_ERR_UNSUPPORTED);
  memory_disk_free (&d);
}

/* As after a crash of a writer. */
static void
test_bitmap_in_use (void)
{
  struct memory_disk d;
  struct qcow2_image *image;
  struct qcow2_error err;

  unit_context ("%s", __func__);
  load (&d, "qemu-img create -q -f qcow2 i 1M; qemu-img bitmap --add i b");
  image = open_image (&d, true);
  CHECK (qcow2_pwrite (image, &d.host, "x", 1, 0, true, &err) == 0);
  qcow2_close (image);
  CHECK (resize (&d, 2 * MiB, 0, QCOW2_PREALLOCATE_OFF, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_UNSUPPORTED);
  CHECK_EQ (err.advice, QCOW2_ADVICE_REMOVE_BITMAP);
  CHECK_EQ (size_of (&d), MiB);
  check_clean (&d);
  memory_disk_free (&d);
}

/* ---- Cancelled --------------------------------------------------------- */

static bool
cancel_at (void *opaque, unsigned percent)
{
  return percent < *(const unsigned *) opaque;
}

/* The image goes on as the old one, and nothing is leaked. */
static void
test_cancelled (void)
{
  const struct qcow2_create_options o = {
    .virtual_size = 3 * MiB, .cluster_size = 512, .refcount_bits = 8,
  };
  static unsigned char buf[3 * MiB], back[3 * MiB];
  struct qcow2_error err;
  struct memory_disk d;

  for (unsigned percent = 0; percent <= 100; percent += 25) {
    const struct qcow2_progress progress = { .fn = cancel_at, .opaque = &percent };
    struct qcow2_image *image;

    unit_context ("%s at %u", __func__, percent);
    make (&d, &o);
    image = open_image (&d, true);
    memset (buf, 0x35, sizeof buf);
    CHECK (qcow2_pwrite (image, &d.host, buf, sizeof buf, 0, false, &err)
           == 0);
    CHECK (qcow2_resize (image, &d.host, 9 * MiB, 0, QCOW2_PREALLOCATE_FULL,
                         &progress, &err) == -1);
    CHECK_EQ (err.kind, QCOW2_ERR_CANCELLED);
    memset (buf, 0x36, MiB);
    CHECK (qcow2_pwrite (image, &d.host, buf, MiB, MiB, false, &err) == 0);
    memmove (buf + MiB, buf, MiB);
    memset (buf, 0x35, MiB);
    CHECK (qcow2_pread (image, &d.host, back, sizeof back, 0, &err) == 0);
    CHECK_BYTES (buf, back, sizeof buf);
    CHECK (qcow2_end (image, &d.host, &err) == 0);
    qcow2_close (image);
    check_clean (&d);
    CHECK_EQ (size_of (&d), 3 * MiB);
    memory_disk_free (&d);
  }
}

/* ---- Large ------------------------------------------------------------- */

/* Up to the largest disk of that cluster size and back; tables are made only
 * where there is data.
 */
static void
test_largest (void)
{
  static const struct { uint64_t cluster, largest; } sizes[] = {
    { 512, 128 * UINT64_C (1024) * MiB }, { 65536, 2048 * TiB },
  };
  struct qcow2_error err;
  struct memory_disk d;

  for (unsigned i = 0; i < 2; ++i) {
    const struct qcow2_create_options o = {
      .virtual_size = MiB, .cluster_size = sizes[i].cluster,
    };

    unit_context ("%s, %" PRIu64, __func__, sizes[i].cluster);
    make (&d, &o);
    CHECK (resize (&d, sizes[i].largest + 1, 0, QCOW2_PREALLOCATE_OFF, &err)
           == -1);
    CHECK_EQ (size_of (&d), MiB);
    if (!CHECK (resize (&d, sizes[i].largest, 0, QCOW2_PREALLOCATE_OFF, &err)
                == 0))
      printf ("%s\n", err.text);
    CHECK_EQ (size_of (&d), sizes[i].largest);
    check_clean (&d);
    CHECK (resize (&d, MiB, QCOW2_RESIZE_SHRINK, QCOW2_PREALLOCATE_OFF, &err)
           == 0);
    CHECK_EQ (size_of (&d), MiB);
    check_clean (&d);
    memory_disk_free (&d);
  }
}

/* A file that cannot grow: what does not fit leaves the old disk. */
static void
test_no_space (void)
{
  const struct qcow2_create_options o = {
    .virtual_size = MiB, .cluster_size = 4096,
  };
  struct qcow2_error err;
  struct memory_disk d;

  unit_context ("%s", __func__);
  make (&d, &o);
  d.capacity = 2 * MiB;
  CHECK (resize (&d, 5 * MiB, 0, QCOW2_PREALLOCATE_METADATA, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_NO_SPACE);
  CHECK_EQ (size_of (&d), MiB);
  check_clean (&d);
  CHECK (resize (&d, 5 * MiB, 0, QCOW2_PREALLOCATE_OFF, &err) == 0);
  CHECK_EQ (size_of (&d), 5 * MiB);
  check_clean (&d);
  memory_disk_free (&d);
}

/* ---- Bitmaps ----------------------------------------------------------- */

#define GRANULE 4096

struct bits {
  unsigned char set[64 * MiB / GRANULE];
};

static int
note_extent (void *opaque, uint64_t guest_off, uint64_t len,
             enum qcow2_extent_type type)
{
  struct bits *const b = opaque;

  memset (b->set + guest_off / GRANULE, type != QCOW2_EXTENT_ZERO,
          (len + GRANULE - 1) / GRANULE);
  return 0;
}

static void
read_bits (struct memory_disk *d, struct bits *b)
{
  const struct qcow2_name name = { "b", 1 };
  struct qcow2_image *const image = open_image (d, false);
  struct qcow2_image *view;
  struct qcow2_error err;

  memset (b, 2, sizeof *b);
  view = qcow2_open_view (image, &d->host, QCOW2_VIEW_BITMAP, &name, &err);
  if (CHECK (view != NULL))
    CHECK (qcow2_extents (view, &d->host, qcow2_get_info (view).virtual_size,
                          0, note_extent, b, &err) == 0);
  qcow2_close (view);
  qcow2_close (image);
}

/* Those of the shorter disk stay, and no others are set; also where a table
 * says "all set" of bits that the old disk did not have.
 */
static void
test_bits (void)
{
  static const uint64_t sizes[] = {
    MiB, 17 * MiB + 1024, 16 * MiB, 33 * MiB, 15 * MiB + 9 * 512, 64 * MiB,
    5 * MiB,
  };
  static struct bits before, after;
  struct qcow2_error err;
  struct memory_disk d;
  uint64_t old = 16 * MiB + 4096;

  load (&d, "qemu-img create -q -f qcow2 -o cluster_size=512 i 16781312; "
        "qemu-img bitmap --add -g 4096 i b; "
        "qemu-io -c 'write -z 0 16781312' i; "
        "qemu-img bitmap --disable i b");
  read_bits (&d, &before);
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    const uint64_t kept = old < sizes[i] ? old : sizes[i];
    const uint64_t whole = (kept + GRANULE - 1) / GRANULE;
    const uint64_t all = (sizes[i] + GRANULE - 1) / GRANULE;

    unit_context ("%s, %zu", __func__, i);
    if (!CHECK (resize (&d, sizes[i], QCOW2_RESIZE_SHRINK,
                        QCOW2_PREALLOCATE_OFF, &err) == 0))
      printf ("%s\n", err.text);
    read_bits (&d, &after);
    CHECK_BYTES (after.set, before.set, whole);
    for (uint64_t n = whole; n < all; ++n)
      if (!CHECK_EQ (after.set[n], 0))
        break;
    check_clean (&d);
    before = after;
    old = sizes[i];
  }
  memory_disk_free (&d);
}

int
main (void)
{
  qemu_init ();
  test_refusals ();
  test_bitmap_in_use ();
  test_cancelled ();
  test_largest ();
  test_no_space ();
  test_bits ();
  qemu_finish ();
  return unit_finish ();
}
