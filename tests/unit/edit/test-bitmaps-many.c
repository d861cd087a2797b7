/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bitmaps-many.c - as many bitmaps as an image can have, and one more.
 *
 * Owns      an image whose directory is as large as it can be.
 * Method    QEMU makes an image with one bitmap.  The directory is written
 *           here, with entries that all have its table: making that many
 *           bitmaps would take a minute.  A change that needs one more entry,
 *           or a longer one, than there may be must fail and leave the image
 *           as it is; one that just fits must not.
 */
#include "config.h"

#include "host.h"
#include "qemu.h"
#include "unit.h"

#include "base/be.h"
#include "format/bitmap.h"

#define MiB (UINT64_C (1) << 20)
#define CLUSTER (2 * MiB)
#define CAPACITY (160 * MiB)
#define EXT_BITMAPS 0x23852875

struct image {
  unsigned char *bytes;         /* CAPACITY of them */
  uint64_t size;
};

/* ---- The directory ------------------------------------------------------ */

static unsigned char *
find_ext (unsigned char *bytes)
{
  uint64_t at = load_be32 (bytes + 100);

  while (load_be32 (bytes + at) != EXT_BITMAPS) {
    REQUIRE (load_be32 (bytes + at) != 0);
    at += 8 + (load_be32 (bytes + at + 4) + 7) / 8 * 8;
  }
  return bytes + at + 8;
}

static uint64_t
entry_len (size_t name_len)
{
  return (24 + name_len + 7) / 8 * 8;
}

/* Clusters [at, at + len) are in use. */
static void
count (struct image *i, uint64_t at, uint64_t len)
{
  const uint64_t table = load_be64 (i->bytes + 48);
  const uint64_t block = load_be64 (i->bytes + table);

  for (uint64_t c = at / CLUSTER; c * CLUSTER < at + len; ++c)
    store_be16 (i->bytes + block + 2 * c, 1);
}

/* 'nr' entries with names of that length, which begin with a number. */
static void
make_image (struct image *i, uint32_t nr, size_t name_len)
{
  const uint64_t len = nr * entry_len (name_len);
  unsigned char *bytes, *ext, *p;
  uint64_t at;

  qemu_run (0, "qemu-img create -q -f qcow2 -o cluster_size=2M many.qcow2 1M");
  qemu_run (0, "qemu-img bitmap --add --disable -g 64k many.qcow2 0");
  bytes = qemu_load ("many.qcow2", &i->size);
  at = (i->size + CLUSTER - 1) / CLUSTER * CLUSTER;
  REQUIRE (at + len <= CAPACITY);
  i->bytes = calloc (1, CAPACITY);
  REQUIRE (i->bytes != NULL);
  memcpy (i->bytes, bytes, i->size);
  free (bytes);
  i->size = at + len;
  ext = find_ext (i->bytes);
  p = i->bytes + at;
  for (uint32_t n = 0; n < nr; ++n, p += entry_len (name_len)) {
    char number[16];

    memcpy (p, i->bytes + load_be64 (ext + 16), 24);
    store_be16 (p + 18, (uint16_t) name_len);
    memset (p + 24, 'x', name_len);
    memcpy (p + 24, number,
            (size_t) snprintf (number, sizeof number, "%05u", n));
  }
  store_be32 (ext, nr);
  store_be64 (ext + 8, len);
  store_be64 (ext + 16, at);
  count (i, at, len);
}

/* ---- Changes ------------------------------------------------------------ */

static int
add (struct host *h, const char *name, size_t name_len,
     struct qcow2_error *err)
{
  const struct qcow2_options options = { .writable = true };
  const struct qcow2_bitmap_action action = {
    .verb = QCOW2_BITMAP_ADD, .name = { name, name_len },
    .granularity = 65536,
  };
  struct qcow2_image *image;
  int r;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, err);
  if (!CHECK (image != NULL))
    return -1;
  r = qcow2_edit_bitmaps (image, &h->io, &action, 1, NULL, NULL, err);
  if (r == 0)
    r = qcow2_end (image, &h->io, err);
  qcow2_close (image);
  return r;
}

/* It fails for that reason, and nothing of the image has changed. */
static void
check_refused (struct host *h, const char *name, size_t name_len,
               const char *why)
{
  unsigned char *const ext = find_ext (h->bytes);
  const uint64_t at = load_be64 (ext + 16), len = load_be64 (ext + 8);
  unsigned char *const header = malloc (CLUSTER), *const dir = malloc (len);
  struct qcow2_error err = { .text = "" };

  REQUIRE (header != NULL && dir != NULL);
  memcpy (header, h->bytes, CLUSTER);
  memcpy (dir, h->bytes + at, len);
  CHECK_EQ (add (h, name, name_len, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
  if (!CHECK (strstr (err.text, why) != NULL))
    printf ("%s\n", err.text);
  CHECK (memcmp (header, h->bytes, CLUSTER) == 0);
  CHECK (memcmp (dir, h->bytes + at, len) == 0);
  free (header);
  free (dir);
}

static void
check_added (struct host *h, const char *name, uint32_t nr, uint64_t len)
{
  struct qcow2_error err;

  if (!CHECK_EQ (add (h, name, strlen (name), &err), 0)) {
    printf ("%s\n", err.text);
    return;
  }
  CHECK_EQ (load_be32 (find_ext (h->bytes)), nr);
  CHECK_EQ (load_be64 (find_ext (h->bytes) + 8), len);
}

static void
host_of (struct host *h, struct image *i, uint32_t nr, size_t name_len)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };

  make_image (i, nr, name_len);
  host_init (h, &spec, i->bytes, i->size);
  free (i->bytes);
}

static void
test_number (void)
{
  const uint64_t each = entry_len (5);
  struct image i;
  struct host h;

  unit_context ("their number");
  host_of (&h, &i, Q2_BITMAPS_MAX - 1, 5);
  check_added (&h, "last", Q2_BITMAPS_MAX,
               (Q2_BITMAPS_MAX - 1) * each + entry_len (4));
  check_refused (&h, "more", 4, "would have 65536 bitmaps; at most 65535");
  host_free (&h);
}

static void
test_names (void)
{
  static char name[Q2_BITMAP_MAX_NAME];
  const uint64_t each = entry_len (sizeof name);
  const uint32_t nr = (uint32_t) (Q2_BITMAPS_MAX_DIR_BYTES / each);
  const uint64_t left = Q2_BITMAPS_MAX_DIR_BYTES - nr * each;
  struct image i;
  struct host h;

  unit_context ("their names");
  REQUIRE (left >= entry_len (4) && left < each);
  memset (name, 'n', sizeof name);
  host_of (&h, &i, nr, sizeof name);
  check_refused (&h, name, sizeof name, "names of the bitmaps are too long");
  check_refused (&h, name, left - 24 + 1, "names of the bitmaps are too long");
  check_added (&h, "last", nr + 1, nr * each + entry_len (4));
  host_free (&h);
}

int
main (void)
{
  qemu_init ();
  test_number ();
  test_names ();
  qemu_finish ();
  return unit_finish ();
}
