/* SPDX-License-Identifier: BSD-3-Clause */
/* test-new-image.c - the options of a new image, as people write them. */
#include "config.h"

#include "unit.h"

#include "host/newimage.h"
#include "host/values.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KiB UINT64_C (1024)

static void
test_sizes (void)
{
  static const struct {
    const char *text;
    uint64_t size;
  } good[] = {
    { "0", 0 }, { "512", 512 }, { "1b", 1 }, { "1k", KiB }, { "3K", 3 * KiB },
    { "2M", 2 * KiB * KiB }, { "1g", KiB * KiB * KiB },
    { "1.5G", 3 * KiB * KiB * KiB / 2 }, { "0.25k", 256 },
    { "1T", KiB * KiB * KiB * KiB }, { "7E", 7 * (UINT64_C (1) << 60) },
    { "9223372036854775807", INT64_MAX }, { "7.5e", 15 * (UINT64_C (1) << 59) },
    { "0.333333333333333333333333k", 341 },
  };
  static const char *const bad[] = {
    "", "k", "-1", "+1", " 1", "1 ", "1kk", "1kB", "1x", "1.5", "1.k", ".5k",
    "1.5.5k", "8E", "16E", "18446744073709551616", "9223372036854775808",
    "17179869184T", "0x10", "1e3", "one",
  };
  struct qcow2_error err;
  uint64_t size;

  for (size_t i = 0; i < sizeof good / sizeof good[0]; ++i) {
    unit_context ("'%s'", good[i].text);
    size = 1;
    CHECK_EQ (parse_size (good[i].text, &size, &err), 0);
    CHECK_EQ (size, good[i].size);
  }
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    unit_context ("'%s'", bad[i]);
    if (!CHECK_EQ (parse_size (bad[i], &size, &err), -1))
      continue;
    CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
    CHECK (strstr (err.text, "is no size") != NULL);
  }
}

static bool
is_name (const struct qcow2_name *name, const char *text)
{
  return name->len == strlen (text) &&
    (name->len == 0 || memcmp (name->bytes, text, name->len) == 0);
}

static void
test_options (void)
{
  struct new_image n = { .has_size = false };
  const struct qcow2_create_options *const o = &n.options;
  struct qcow2_error err;

  unit_context ("all options");
  CHECK_EQ (new_image_options (
              &n, "size=3G,compat=v3,cluster_size=2M,refcount_bits=1,"
              "lazy_refcounts=on,extended_l2,compression_type=zstd,"
              "preallocation=falloc,backing_file=a,,b=c,,,backing_fmt=raw,"
              "data_file=d,data_file_raw=on", NULL, NULL, &err), 0);
  CHECK (n.has_size);
  CHECK_EQ (o->virtual_size, 3 * KiB * KiB * KiB);
  CHECK_EQ (o->version, 3);
  CHECK_EQ (o->cluster_size, 2 * KiB * KiB);
  CHECK_EQ (o->refcount_bits, 1);
  CHECK (o->lazy_refcounts && o->extended_l2 && o->data_file_raw);
  CHECK_EQ (o->compression, QCOW2_COMPRESSION_ZSTD);
  CHECK_EQ (o->preallocation, QCOW2_PREALLOCATE_FALLOC);
  CHECK (is_name (&o->backing_file, "a,b=c,"));
  CHECK (is_name (&o->backing_format, "raw"));
  CHECK (is_name (&o->data_file, "d"));

  unit_context ("again");
  CHECK_EQ (new_image_options (&n, "backing_file=e,compat=0.10,"
                               "lazy_refcounts=off,preallocation=off", NULL,
                               NULL, &err), 0);
  CHECK (is_name (&o->backing_file, "e"));
  CHECK_EQ (o->version, 2);
  CHECK (!o->lazy_refcounts);
  CHECK_EQ (o->preallocation, QCOW2_PREALLOCATE_OFF);
  new_image_free (&n);
  CHECK_EQ (o->backing_file.len, 0);
}

static void
test_refusals (void)
{
  static const struct {
    const char *list, *text;
  } bad[] = {
    { "", "no option ''" }, { "compat=2", "0.10, v2, 1.1 or v3, not '2'" },
    { "cluster-size=4k", "no option 'cluster-size'" },
    { "cluster_size", "'on' is no size" },
    { "cluster_size=", "'' is no size" },
    { "refcount_bits=0", "1 to 64" }, { "refcount_bits=65", "1 to 64" },
    { "lazy_refcounts=", "on or off" }, { "extended_l2=2", "on or off" },
    { "compression_type=lzo", "zlib or zstd" },
    { "preallocation=on", "off, metadata, falloc or full" },
    { "backing_file=a,b", "no option 'b'" }, { "compat=1.1,", "no option ''" },
  };

  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    struct new_image n = { .has_size = false };
    struct qcow2_error err;

    unit_context ("'%s'", bad[i].list);
    if (CHECK_EQ (new_image_options (&n, bad[i].list, NULL, NULL, &err), -1)) {
      CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
      if (!CHECK (strstr (err.text, bad[i].text) != NULL))
        printf ("%s\n", err.text);
    }
    new_image_free (&n);
  }
}

int
main (void)
{
  test_sizes ();
  test_options ();
  test_refusals ();
  return unit_finish ();
}
