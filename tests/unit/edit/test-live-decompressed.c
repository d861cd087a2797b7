/* SPDX-License-Identifier: BSD-3-Clause */
/* test-live-decompressed.c - a repair of leaks in an image that is in use
 * frees clusters with streams that somebody has read.
 *
 * Owns      nothing.
 * Method    the disk and a snapshot have compressed clusters, and a view of
 *           the snapshot reads its own, piece by piece, so that they are kept
 *           decompressed.  Deleting the snapshot fails at each of its reads in
 *           turn, which leaves leaks; they are repaired, and the disk is
 *           written again.  Its streams have the size of the old ones,
 *           and some get their places; it must read as written.
 */
#include "config.h"

#include "fsck.h"
#include "host.h"
#include "unit.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (2048 * KiB)
#define CLUSTER (4 * KiB)
#define DISK (64 * KiB)
#define PIECE 512
#define ROUNDS 3                /* of writing, after the repair */

static unsigned long leaks_fixed, same_places;

/* A cluster that becomes small, of another size for each place on the disk. */
static void
fill (unsigned char *buf, unsigned round, uint64_t at)
{
  memset (buf, (int) round, CLUSTER);
  for (unsigned i = 0; i < 40 + at / CLUSTER; ++i)
    put_be (buf + 8 * i, 8, at + i * UINT64_C (0x9e3779b97f4a7c15));
}

static void
write_disk (struct host *h, struct qcow2_image *image, unsigned round)
{
  static unsigned char disk[DISK];
  struct qcow2_error err;

  for (uint64_t at = 0; at < DISK; at += CLUSTER)
    fill (disk + at, round, at);
  if (!CHECK_EQ (qcow2_pwrite (image, &h->io, disk, DISK, 0, false, &err), 0) ||
      !CHECK_EQ (qcow2_flush (image, &h->io, &err), 0))
    printf ("%s\n", err.text);
}

static void
read_disk (struct host *h, struct qcow2_image *image, unsigned round)
{
  unsigned char expected[CLUSTER], buf[PIECE];
  struct qcow2_error err;

  for (uint64_t at = 0; at < DISK; at += PIECE) {
    fill (expected, round, at - at % CLUSTER);
    if (!CHECK_EQ (qcow2_pread (image, &h->io, buf, PIECE, at, &err), 0) ||
        !CHECK_BYTES (buf, expected + at % CLUSTER, PIECE))
      return;
  }
}

static void
read_snapshot (struct host *h, struct qcow2_image *image,
               const struct qcow2_name *name, unsigned round)
{
  struct qcow2_error err;
  struct qcow2_image *const view =
    qcow2_open_view (image, &h->io, QCOW2_VIEW_SNAPSHOT, name, &err);

  if (CHECK (view != NULL))
    read_disk (h, view, round);
  qcow2_close (view);
}

/* ---- Places ------------------------------------------------------------- */

struct places {
  uint64_t host_off[DISK / CLUSTER];
};

static int
note_place (void *opaque, const struct qcow2_piece *piece)
{
  struct places *const p = opaque;

  CHECK_EQ (piece->kind, QCOW2_PIECE_COMPRESSED);
  p->host_off[piece->guest_off / CLUSTER] = piece->host_off;
  return 0;
}

static void
find_places (struct host *h, struct qcow2_image *image, struct places *ret)
{
  struct qcow2_error err;

  CHECK_EQ (qcow2_map (image, &h->io, DISK, 0, note_place, ret, &err), 0);
}

/* ---- Runs --------------------------------------------------------------- */

static struct qcow2_image *
make (struct host *h)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct qcow2_create_options create = {
    .virtual_size = DISK, .version = 3, .cluster_size = CLUSTER,
  };
  const struct qcow2_options options = {
    .writable = true, .compress = true, .cluster_cache_size = 256 * KiB,
    .cache_size = 64 * KiB,
  };
  struct qcow2_image *image;
  struct qcow2_error err;

  host_init (h, &spec, "", 0);
  REQUIRE (qcow2_create (&h->io, &create, &err) == 0);
  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  REQUIRE (image != NULL);
  return image;
}

static void
repair (struct host *h, struct qcow2_image *image)
{
  const struct qcow2_check_options o = { .repair = QCOW2_REPAIR_LEAKS };
  struct qcow2_check_result result;
  struct qcow2_error err;

  if (!CHECK_EQ (qcow2_check_live (image, &h->io, &o, &result, &err), 0)) {
    printf ("%s\n", err.text);
    return;
  }
  CHECK_EQ (result.corruptions, 0);
  leaks_fixed += result.leaks_fixed;
}

static void
write_again (struct host *h, struct qcow2_image *image,
             const struct places *old)
{
  struct places new = { { 0 } };

  for (unsigned i = 0; i < ROUNDS; ++i) {
    write_disk (h, image, 3 + i);
    find_places (h, image, &new);
    for (unsigned k = 0; k < DISK / CLUSTER; ++k)
      same_places += new.host_off[k] == old->host_off[k];
    read_disk (h, image, 3 + i);
  }
}

/* Returns false when nothing has failed. */
static bool
run (unsigned long at)
{
  const struct qcow2_name name = { "s", 1 };
  const struct qcow2_snapshot_options taken = { .name = name };
  struct places old = { { 0 } };
  struct qcow2_image *image;
  struct qcow2_error err;
  struct host h;
  bool failed;

  unit_context ("read %lu fails", at);
  image = make (&h);
  write_disk (&h, image, 1);
  find_places (&h, image, &old);
  REQUIRE (qcow2_snapshot_create (image, &h.io, &taken, &err) == 0);
  write_disk (&h, image, 2);
  read_snapshot (&h, image, &name, 1);
  host_fail (&h, 1u << HOST_READ, at, 0, EIO);
  if (qcow2_snapshot_delete (image, &h.io, &name, false, NULL, &err) == -1)
    CHECK_EQ (err.kind, QCOW2_ERR_IO);
  failed = h.failed > 0;
  host_fail (&h, 0, 0, 0, 0);
  repair (&h, image);
  write_again (&h, image, &old);
  CHECK_EQ (qcow2_end (image, &h.io, &err), 0);
  qcow2_close (image);
  CHECK (fsck_check (h.bytes, h.size, false));
  host_free (&h);
  return failed;
}

int
main (void)
{
  if (!qcow2_has_zlib ())
    unit_skip ("the engine was built without zlib");
  for (unsigned long at = 1; run (at); ++at)
    ;
  printf ("%lu leaks repaired, %lu streams in the places of old ones\n",
          leaks_fixed, same_places);
  CHECK (leaks_fixed > 0 && same_places > 0);
  return unit_finish ();
}
