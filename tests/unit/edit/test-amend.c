/* SPDX-License-Identifier: BSD-3-Clause */
/* test-amend.c - changes of what kind of image it is.
 *
 * Owns      nothing.  What a crash or a failure leaves is crash/test-edits.c.
 * Method    what is refused writes nothing; every width of refcounts becomes
 *           every other; names of data files, as QEMU reads them.
 */
#include "config.h"

#include "fsck.h"
#include "memory_disk.h"
#include "qemu.h"
#include "unit.h"

#include "base/be.h"

#include <errno.h>
#include <inttypes.h>

#define MiB (UINT64_C (1) << 20)

static struct memory_disk data;

static int
open_data (void *opaque, const struct qcow2_reference *ref,
           struct qcow2_file *ret, struct qcow2_error *err)
{
  (void) opaque;
  (void) err;
  CHECK_EQ (ref->kind, QCOW2_DATA_FILE);
  *ret = (struct qcow2_file) { .io = &data.host };
  return 0;
}

static int
amend (struct memory_disk *d, const struct qcow2_amend_options *o,
       struct qcow2_error *err)
{
  const struct qcow2_options options = {
    .writable = true, .open_file = open_data,
  };
  struct qcow2_image *image;
  int r;

  d->host.size = d->size;
  image = qcow2_open (&d->host, &options, err);
  if (!CHECK (image != NULL))
    return -1;
  r = qcow2_amend (image, &d->host, o, NULL, err);
  qcow2_close (image);
  return r;
}

static void
refuse (struct memory_disk *d, const struct qcow2_amend_options *o,
        enum qcow2_error_kind kind, const char *word)
{
  const unsigned long writes = d->writes;
  struct qcow2_error err = { .text = "" };

  CHECK (amend (d, o, &err) == -1);
  CHECK_EQ (err.kind, kind);
  if (!CHECK (strstr (err.text, word) != NULL))
    printf ("%s\n", err.text);
  CHECK_EQ (d->writes, writes);
}

static void
load (struct memory_disk *d, const char *commands)
{
  uint64_t size;
  unsigned char *const bytes = qemu_make (commands, &size);

  memory_disk_init (d, bytes, size);
  free (bytes);
}

static void
check_image (const struct memory_disk *d, bool leaks)
{
  unsigned char *const bytes = memory_disk_copy (d);

  fsck_check (bytes, d->size, leaks);
  free (bytes);
}

static void
check_clean (struct memory_disk *d)
{
  check_image (d, false);
}

/* ---- Refused ----------------------------------------------------------- */

static const struct qcow2_amend_options down = { .version = 2 };

static void
refuse_made (const char *commands, const struct qcow2_amend_options *o,
             enum qcow2_error_kind kind, const char *word)
{
  struct memory_disk d;

  unit_context ("%s", commands);
  load (&d, commands);
  refuse (&d, o, kind, word);
  memory_disk_free (&d);
}

#define CREATE "qemu-img create -q -f qcow2 "

static void
test_refusals (void)
{
  static const struct qcow2_name none = { "", 0 }, name = { "other", 5 };
  static const struct qcow2_amend_options wrong[] = {
    { .version = 1 }, { .version = 4 }, { .refcount_bits = 3 },
    { .refcount_bits = 128 }, { .version = 2, .refcount_bits = 8 },
    { .version = 2, .lazy_refcounts = QCOW2_SETTING_ON },
    { .data_file_raw = QCOW2_SETTING_ON }, { .data_file = &name },
    { .data_file = &none }, { .backing_format = &name },
    { .backing_file = &name },
  };

  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; ++i)
    refuse_made (CREATE "i 1M", &wrong[i], QCOW2_ERR_INVALID, "");
  refuse_made (CREATE "-o refcount_bits=8 i 1M", &down,
               QCOW2_ERR_UNSUPPORTED, "16 bits");
  refuse_made (CREATE "-o extended_l2=on i 1M", &down, QCOW2_ERR_UNSUPPORTED,
               "extended");
  refuse_made (CREATE "-o data_file=d i 1M", &down, QCOW2_ERR_UNSUPPORTED,
               "data file");
  refuse_made (CREATE "i 1M; qemu-img bitmap --add i b", &down,
               QCOW2_ERR_UNSUPPORTED, "bitmaps");
  refuse_made (CREATE "i 1M; qemu-img snapshot -c a i; "
               "qemu-img resize -q i 2M", &down, QCOW2_ERR_UNSUPPORTED,
               "snapshot \"a\"");
  if (qcow2_has_zstd ())
    refuse_made (CREATE "-o compression_type=zstd i 1M", &down,
                 QCOW2_ERR_UNSUPPORTED, "zlib");
}

/* The oldest writers of version 2 stored no size of the disk. */
static void
test_old_snapshot (void)
{
  static const struct qcow2_amend_options up = { .version = 3 };
  struct memory_disk d;
  unsigned char *entry;
  unsigned extra;

  unit_context ("%s", __func__);
  load (&d, CREATE "-o compat=0.10 i 1M; qemu-img snapshot -c a i");
  entry = d.bytes + load_be64 (d.bytes + 64);
  extra = load_be32 (entry + 36);
  memmove (entry + 40, entry + 40 + extra, 2);    /* id and name */
  put_be (entry + 36, 4, 0);
  refuse (&d, &up, QCOW2_ERR_UNSUPPORTED, "snapshot \"a\"");
  memory_disk_free (&d);
}

/* ---- Widths ------------------------------------------------------------ */

static void
test_widths (void)
{
  static unsigned char buf[MiB], back[MiB];
  struct rng rng = { 3 };

  rng_fill (&rng, buf, sizeof buf);
  for (unsigned n = 0; n < 2 * 7; ++n) {
    const struct qcow2_create_options o = {
      .virtual_size = 3 * MiB, .cluster_size = n < 7 ? 512 : 4096,
      .refcount_bits = 1u << n % 7,
    };
    const struct qcow2_options writable = { .writable = true };
    struct qcow2_image *image;
    struct qcow2_error err;
    struct memory_disk d;

    memory_disk_init (&d, "", 0);
    REQUIRE (qcow2_create (&d.host, &o, &err) == 0);
    d.host.size = d.size;
    image = qcow2_open (&d.host, &writable, &err);
    REQUIRE (image != NULL);
    CHECK (qcow2_pwrite (image, &d.host, buf, MiB, MiB, true, &err) == 0);
    qcow2_close (image);
    for (unsigned to = 0; to < 8; ++to) {
      const struct qcow2_amend_options width = {
        .refcount_bits = 1u << (n + to) % 7,
      };

      unit_context ("from %u bits to %u", o.refcount_bits,
                    width.refcount_bits);
      if (!CHECK (amend (&d, &width, &err) == 0))
        printf ("%s\n", err.text);
      CHECK_EQ (1u << load_be32 (d.bytes + 96), width.refcount_bits);
      check_clean (&d);
    }
    d.host.size = d.size;
    image = qcow2_open (&d.host, &writable, &err);
    REQUIRE (image != NULL);
    CHECK (qcow2_pread (image, &d.host, back, MiB, MiB, &err) == 0);
    CHECK_BYTES (buf, back, MiB);
    qcow2_close (image);
    /* Old tables are free again: it does not grow each time. */
    CHECK (d.size < 6 * MiB);
    memory_disk_free (&d);
  }
}

/* A refcount that has no room is found before anything is changed. */
static void
test_too_narrow (void)
{
  static const struct qcow2_amend_options narrow = { .refcount_bits = 1 };
  struct qcow2_error err;
  struct memory_disk d;

  unit_context ("%s", __func__);
  load (&d, CREATE "i 1M; qemu-io -c 'write 0 64k' i; "
        "qemu-img snapshot -c a i");
  CHECK (amend (&d, &narrow, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_UNSUPPORTED);
  CHECK_EQ (load_be32 (d.bytes + 96), 4);
  check_clean (&d);
  memory_disk_free (&d);
}

/* A file of that many bytes of data, in clusters of 512. */
static void
make_filled (struct memory_disk *d, uint64_t bytes)
{
  const struct qcow2_create_options o = {
    .virtual_size = 3 * MiB, .cluster_size = 512,
  };
  const struct qcow2_options writable = { .writable = true };
  static unsigned char buf[3 * MiB];
  struct qcow2_image *image;
  struct qcow2_error err;

  memset (buf, 1, sizeof buf);
  memory_disk_init (d, "", 0);
  REQUIRE (qcow2_create (&d->host, &o, &err) == 0);
  d->host.size = d->size;
  image = qcow2_open (&d->host, &writable, &err);
  REQUIRE (image != NULL);
  REQUIRE (qcow2_pwrite (image, &d->host, buf, bytes, 0, true, &err) == 0);
  qcow2_close (image);
}

/* The new table is not large enough for where it lies, so it becomes another
 * one.  A failure after that gives each of them back once.
 */
static void
test_second_table (void)
{
  static const struct qcow2_amend_options wide = { .refcount_bits = 64 };
  const unsigned KiB = 1024;

  for (uint64_t bytes = 1900 * KiB; bytes < 2040 * KiB; bytes += 3 * KiB) {
    struct memory_disk d;
    struct qcow2_error err = { .text = "" };
    unsigned long changes;

    unit_context ("%s: %" PRIu64 " bytes", __func__, bytes);
    make_filled (&d, bytes);
    changes = d.changes;
    CHECK (amend (&d, &wide, &err) == 0);
    changes = d.changes - changes;
    check_clean (&d);
    memory_disk_free (&d);

    for (unsigned long n = changes / 2; n < changes; n += 20) {
      make_filled (&d, bytes);
      d.fail_at = d.changes + n;
      d.fail_errnum = ENOSPC;
      CHECK (amend (&d, &wide, &err) == -1);
      CHECK_EQ (load_be64 (d.bytes + 72) & 2, 0);       /* not corrupt */
      check_image (&d, n + 20 >= changes);      /* it may be the header */
      memory_disk_free (&d);
    }
  }
}

/* ---- Names ------------------------------------------------------------- */

static void
test_data_file (void)
{
  static const struct qcow2_name name = { "renamed.raw", 11 };
  static const struct qcow2_amend_options o = {
    .data_file = &name, .data_file_raw = QCOW2_SETTING_OFF,
    .refcount_bits = 8,
  };
  struct qcow2_error err;
  struct memory_disk d;

  unit_context ("%s", __func__);
  load (&d, CREATE "-o data_file=old.raw,data_file_raw=on i 1M; "
        "qemu-io -c 'write -P 7 0 1M' i; mv old.raw renamed.raw");
  memory_disk_init (&data, "", 0);
  if (!CHECK (amend (&d, &o, &err) == 0))
    printf ("%s\n", err.text);
  qemu_save ("i", d.bytes, d.size);
  qemu_run (0, "qemu-img check -q i");
  qemu_run (0, "qemu-img compare -q i renamed.raw");
  CHECK_EQ (qemu_status ("qemu-img info i | grep -q 'data file raw: false'"),
            0);
  memory_disk_free (&d);
  memory_disk_free (&data);
}

int
main (void)
{
  qemu_init ();
  memory_disk_init (&data, "", 0);
  test_refusals ();
  memory_disk_free (&data);
  test_old_snapshot ();
  test_widths ();
  test_too_narrow ();
  test_second_table ();
  test_data_file ();
  qemu_finish ();
  return unit_finish ();
}
