/* SPDX-License-Identifier: BSD-3-Clause */
/* test-backing.c - naming another backing image.
 *
 * Owns      nothing.  What a crash or a failure leaves is crash/test-edits.c.
 * Method    names of all lengths in headers of all cluster sizes, as QEMU and
 *           the engine then read them; what is refused writes nothing.
 */
#include "config.h"

#include "memory_disk.h"
#include "memory_io.h"
#include "qemu.h"
#include "unit.h"

#include "base/be.h"

#define MiB (UINT64_C (1) << 20)

/* The old backing image is not there, and need not be. */
static struct qcow2_image *nothing;
static struct memory_io nothing_io;

static int
open_nothing (void *opaque, const struct qcow2_reference *ref,
              struct qcow2_file *ret, struct qcow2_error *err)
{
  (void) opaque;
  (void) err;
  CHECK_EQ (ref->kind, QCOW2_BACKING_FILE);
  *ret = (struct qcow2_file) { .image = nothing, .io = &nothing_io.io };
  return 0;
}

static struct qcow2_image *
open_image (struct memory_disk *d)
{
  const struct qcow2_options options = {
    .writable = true, .open_file = open_nothing,
  };
  struct qcow2_image *image;
  struct qcow2_error err;

  d->host.size = d->size;
  image = qcow2_open (&d->host, &options, &err);
  if (!CHECK (image != NULL))
    printf ("%s\n", err.text);
  REQUIRE (image != NULL);
  return image;
}

static int
set (struct memory_disk *d, const char *file, size_t len, const char *format,
     unsigned flags, struct qcow2_error *err)
{
  const struct qcow2_name name = { file, len };
  const struct qcow2_name how = { format, strlen (format) };
  struct qcow2_image *const image = open_image (d);
  const int r = qcow2_set_backing (image, &d->host, &name, &how, flags, err);

  qcow2_close (image);
  return r;
}

static void
check_name (const struct memory_disk *d, const char *file, size_t len)
{
  const uint64_t at = load_be64 (d->bytes + 8);

  CHECK_EQ (load_be32 (d->bytes + 16), len);
  CHECK_EQ (at == 0, len == 0);
  if (at > 0 && len > 0 && CHECK (at + len <= d->stored))
    CHECK_BYTES (d->bytes + at, file, len);
}

static void
make (struct memory_disk *d, unsigned version, unsigned cluster_bits)
{
  const struct qcow2_create_options o = {
    .virtual_size = MiB, .cluster_size = UINT64_C (1) << cluster_bits,
    .version = version,
  };
  struct qcow2_error err;

  memory_disk_init (d, "", 0);
  REQUIRE (qcow2_create (&d->host, &o, &err) == 0);
}

/* One after the other in one image: each replaces the one before. */
static void
test_lengths (void)
{
  static const size_t lens[] = { 1, 1023, 500, 0, 7, 100, 300, 8, 0 };
  char name[1024];

  for (unsigned n = 0; n < 2 * 13; ++n) {
    const unsigned version = 2 + n % 2, bits = 9 + n / 2;
    struct memory_disk d;
    struct qcow2_error err;
    unsigned set_ones = 0;

    make (&d, version, bits);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; ++i) {
      const uint64_t old = load_be32 (d.bytes + 16);
      char before[1024];

      memcpy (before, d.bytes + load_be64 (d.bytes + 8), old);
      memset (name, 'a' + (int) i, sizeof name);
      unit_context ("version %u, 2^%u, %zu bytes", version, bits, lens[i]);
      if (set (&d, name, lens[i], lens[i] ? "qcow2" : "", 0, &err) == 0) {
        check_name (&d, name, lens[i]);
        ++set_ones;
        continue;
      }
      /* Only small clusters have no room for it. */
      CHECK (bits <= 11);
      CHECK_EQ (err.kind, QCOW2_ERR_NO_SPACE);
      check_name (&d, before, old);
      if (set (&d, name, lens[i], lens[i] ? "qcow2" : "",
               QCOW2_SET_BACKING_FORCE, &err) == 0)
        check_name (&d, name, lens[i]);
      else
        CHECK_EQ (err.kind, QCOW2_ERR_NO_SPACE);
    }
    CHECK (set_ones >= 2);
    memory_disk_free (&d);
  }
}

static void
refuse (struct memory_disk *d, const char *file, size_t len,
        const char *format)
{
  const unsigned long writes = d->writes;
  struct qcow2_error err;

  CHECK (set (d, file, len, format, 0, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
  CHECK_EQ (d->writes, writes);
}

static void
test_refusals (void)
{
  static char name[1025];
  struct memory_disk d;

  unit_context ("%s", __func__);
  memset (name, 'x', 1024);
  make (&d, 3, 16);
  refuse (&d, name, 1024, "raw");
  refuse (&d, "a", 1, "");
  refuse (&d, "", 0, "raw");
  refuse (&d, "a", 1, "a format of 16 b");
  refuse (&d, "a\0b", 3, "raw");
  memory_disk_free (&d);
}

/* QEMU names what we have written, and keeps the disk; and the other way. */
static void
test_qemu (void)
{
  struct memory_disk d;
  struct qcow2_error err;
  unsigned char *bytes;
  uint64_t size;

  unit_context ("%s", __func__);
  qemu_run (0, "qemu-img create -q -f qcow2 other 1M");
  qemu_run (0, "qemu-io -c 'write -P 7 0 1M' other >/dev/null");
  qemu_run (0, "qemu-img create -q -f qcow2 -u -b gone -F raw i 1M");
  qemu_run (0, "qemu-img create -q -f raw zeros 1M");
  bytes = qemu_load ("i", &size);
  memory_disk_init (&d, bytes, size);
  free (bytes);
  CHECK (set (&d, "other", 5, "qcow2", 0, &err) == 0);
  qemu_save ("i", d.bytes, d.size);
  qemu_run (0, "qemu-img compare -q i other");
  qemu_run (0, "qemu-img check -q i");
  CHECK_EQ (qemu_status ("qemu-img info i | grep -qx 'backing file format: "
                         "qcow2'"), 0);
  CHECK (set (&d, "", 0, "", 0, &err) == 0);
  qemu_save ("i", d.bytes, d.size);
  qemu_run (0, "qemu-img compare -q i zeros");
  CHECK_EQ (qemu_status ("qemu-img info i | grep -q backing"), 1);
  memory_disk_free (&d);
}

int
main (void)
{
  const struct qcow2_options raw = { .raw = true };
  struct qcow2_error err;

  qemu_init ();
  memory_io_init (&nothing_io, "", 0);
  nothing = qcow2_open (&nothing_io.io, &raw, &err);
  REQUIRE (nothing != NULL);
  test_lengths ();
  test_refusals ();
  test_qemu ();
  qcow2_close (nothing);
  qemu_finish ();
  return unit_finish ();
}
