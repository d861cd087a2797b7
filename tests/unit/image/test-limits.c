/* SPDX-License-Identifier: BSD-3-Clause */
/* test-limits.c - the largest disks and tables, and their memory.
 *
 * The memory of an image may depend on the contents of its file, not on the
 * claims of its header.
 */
#include "config.h"

#include "image_builder.h"
#include "memory_io.h"
#include "unit.h"

#include <unistd.h>

#define KIB UINT64_C (1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define PIB (1024 * TIB)

/* ThreadSanitizer's own memory grows with every byte that is touched. */
#ifdef __SANITIZE_THREAD__
#define CAN_MEASURE false
#elif defined __has_feature
#if __has_feature (thread_sanitizer)
#define CAN_MEASURE false
#endif
#endif
#ifndef CAN_MEASURE
#define CAN_MEASURE true
#endif

/* Resident memory of this process; 0 where that says nothing. */
static uint64_t
resident (void)
{
  unsigned long total, pages = 0;
  FILE *const f = fopen ("/proc/self/statm", "r");

  if (f == NULL || fscanf (f, "%lu %lu", &total, &pages) != 2)
    pages = 0;
  if (f)
    fclose (f);
  if (!CAN_MEASURE)
    return 0;
  REQUIRE (pages > 0);
  return (uint64_t) pages * (uint64_t) sysconf (_SC_PAGESIZE);
}

/* A header and nothing else, in 1 KiB. */
static void
bare_header (unsigned char *p, unsigned cluster_bits, uint64_t size,
             uint32_t l1_entries, uint64_t l1_off)
{
  memset (p, 0, 1024);
  put_be (p, 4, 0x514649fb);
  put_be (p + 4, 4, 3);
  put_be (p + 20, 4, cluster_bits);
  put_be (p + 24, 8, size);
  put_be (p + 36, 4, l1_entries);
  put_be (p + 40, 8, l1_off);
  put_be (p + 48, 8, UINT64_C (1) << cluster_bits);
  put_be (p + 56, 4, 1);
  put_be (p + 96, 4, 4);
  put_be (p + 100, 4, 104);
}

struct seen {
  uint64_t next;
  unsigned calls, data;
};

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct seen *const seen = opaque;

  CHECK_EQ (guest_off, seen->next);
  seen->next = guest_off + len;
  seen->calls++;
  seen->data += type == QCOW2_EXTENT_DATA;
  return 0;
}

/* ---- Claims without bytes ------------------------------------------------ */

static void
try_claim (unsigned cluster_bits, uint64_t size, uint32_t l1_entries,
           uint64_t l1_off)
{
  unsigned char file[1024], buf[4096];
  const uint64_t before = resident ();
  struct qcow2_image *image;
  struct memory_io m;
  struct qcow2_error err = { .text = "" };
  struct seen seen = { 0 };

  unit_context ("cluster 2^%u, disk %" PRIu64 ", %u L1 entries at %" PRIu64,
                cluster_bits, size, l1_entries, l1_off);
  bare_header (file, cluster_bits, size, l1_entries, l1_off);
  memory_io_init (&m, file, sizeof file);
  image = qcow2_open (&m.io, &(struct qcow2_options) { 0 }, &err);
  if (!CHECK (image != NULL)) {
    fprintf (stderr, "%s\n", err.text);
    return;
  }
  CHECK (resident () < before + 4 * MIB);
  CHECK_EQ (m.reads[QCOW2_IO_L1], l1_off < sizeof file);
  memset (buf, 1, sizeof buf);
  CHECK_EQ (qcow2_pread (image, &m.io, buf, 4096, size - 4096, &err), 0);
  CHECK_EQ (buf[0] | buf[4095], 0);
  CHECK_EQ (qcow2_extents (image, &m.io, size, 0, see_extent, &seen, &err),
            0);
  CHECK_EQ (seen.calls, 1);
  CHECK_EQ (seen.next, size);
  /* Only zero pages of the table were looked at. */
  CHECK (resident () < before + 48 * MIB);
  qcow2_close (image);
}

/* A cache larger than the disk could ever use costs no more than that. */
static void
test_cache_size (void)
{
  const struct qcow2_options options = { .cache_size = UINT64_MAX };
  unsigned char file[1024];
  const uint64_t before = resident ();
  struct qcow2_image *image;
  struct memory_io m;
  struct qcow2_error err;

  unit_context ("%s", "cache size");
  bare_header (file, 16, GIB, 2, 4 << 16);
  memory_io_init (&m, file, sizeof file);
  image = qcow2_open (&m.io, &options, &err);
  REQUIRE (image != NULL);
  CHECK (resident () < before + 4 * MIB);
  qcow2_close (image);
}

static void
try_refused (unsigned cluster_bits, uint64_t size, uint32_t l1_entries,
             enum qcow2_error_kind kind, uint64_t off)
{
  unsigned char file[1024];
  struct memory_io m;
  struct qcow2_error err;
  struct qcow2_image *image;

  unit_context ("cluster 2^%u, disk %" PRIu64 ", %u L1 entries",
                cluster_bits, size, l1_entries);
  bare_header (file, cluster_bits, size, l1_entries,
               UINT64_C (4) << cluster_bits);
  memory_io_init (&m, file, sizeof file);
  image = qcow2_open (&m.io, &(struct qcow2_options) { 0 }, &err);
  if (CHECK (image == NULL))
    CHECK_ERROR (&err, kind, off);
  else
    qcow2_close (image);
}

/* ---- Large disks with a little data --------------------------------------- */

static void
try_large (unsigned cluster_bits, uint64_t size, bool extended)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = cluster_bits, .refcount_order = 4,
    .extended_l2 = extended, .virtual_size = size,
  };
  const uint64_t cluster_size = UINT64_C (1) << cluster_bits;
  const uint64_t places[] = { 0, size / cluster_size / 2,
                              size / cluster_size - 1 };
  unsigned char *const cluster = malloc (cluster_size);
  struct image_builder b;
  struct memory_io m;
  struct qcow2_error err;
  struct qcow2_image *image;
  struct seen seen = { 0 };
  unsigned char buf[512];

  unit_context ("large: cluster 2^%u, disk %" PRIu64, cluster_bits, size);
  REQUIRE (cluster != NULL);
  builder_init (&b, &spec);
  for (unsigned i = 0; i < 3; ++i) {
    memset (cluster, (int) i + 1, cluster_size);
    builder_data (&b, places[i], cluster);
  }
  builder_finish (&b);
  memory_io_init (&m, b.bytes, b.size);
  image = qcow2_open (&m.io, &(struct qcow2_options) { 0 }, &err);
  REQUIRE (image != NULL);
  for (unsigned i = 0; i < 3; ++i) {
    CHECK_EQ (qcow2_pread (image, &m.io, buf, 512,
                           (places[i] + 1) * cluster_size - 512, &err), 0);
    CHECK_EQ (buf[0], i + 1);
    CHECK_EQ (buf[511], i + 1);
  }
  CHECK_EQ (qcow2_extents (image, &m.io, size, 0, see_extent, &seen, &err),
            0);
  CHECK_EQ (seen.next, size);
  CHECK_EQ (seen.calls, 5);
  CHECK_EQ (seen.data, 3);
  qcow2_close (image);
  builder_free (&b);
  free (cluster);
}

int
main (void)
{
  const uint32_t max_l1 = 4 << 20;

  alarm (120);
  try_claim (9, 128 * GIB, max_l1, 512); /* 64 entries are there */
  try_claim (9, 128 * GIB, max_l1, 1024);
  try_claim (16, 64 * TIB, 131072, 1 << 18);
  try_claim (16, 2 * PIB, max_l1, 1 << 18);
  try_claim (21, 2048 * PIB, max_l1, 1 << 22);
  try_claim (9, 4096, max_l1, 512); /* entries past the disk */
  test_cache_size ();
  try_refused (9, 128 * GIB + 1, max_l1, QCOW2_ERR_UNSUPPORTED, 24);
  try_refused (9, 128 * GIB, max_l1 - 1, QCOW2_ERR_CORRUPT, 36);
  try_refused (9, 4096, max_l1 + 1, QCOW2_ERR_CORRUPT, 36);
  try_refused (9, 4096, UINT32_MAX, QCOW2_ERR_CORRUPT, 36);
  try_refused (21, 2048 * PIB + 1, max_l1, QCOW2_ERR_UNSUPPORTED, 24);

  try_large (16, 64 * TIB, false);
  try_large (16, 64 * TIB, true);
  try_large (16, 1 * PIB, false);
  try_large (21, 1 * PIB, false);
  try_large (21, 2048 * PIB, false);
  return unit_finish ();
}
