/* SPDX-License-Identifier: BSD-3-Clause */
/* test-view-history.c - views of images made by QEMU, with writes of QEMU and
 * the engine.
 *
 * Usage: test-view-history [FIRST-SEED [RUNS]]
 *
 * Owns      the history: the disk at each time, and the parts written to in
 *           between.
 * Method    epochs of requests by qemu-io or by the engine, each followed by a
 *           snapshot that qemu-img takes, and perhaps by another size of the
 *           disk.  While the engine writes, views of all older snapshots are
 *           open and read.  At the end every snapshot must read as qemu-img
 *           had read the disk then; for each pair the data extents of A..B
 *           must make B of a copy of A, and cover only parts written in
 *           between.  Bitmaps kept by QEMU must show its writes since they
 *           were added.
 */
#include "config.h"

#include "host.h"
#include "memory_io.h"
#include "qemu.h"
#include "views.h"

#define MAX_EPOCHS 6
#define MAX_COMMANDS 12

struct epoch {
  uint64_t size;
  unsigned char *disk;
  unsigned char *touched;       /* by sector, since the epoch before */
  uint64_t nr_sectors;
  unsigned granularity_bits;    /* of the bitmap added at its end; 0: none */
};

struct history {
  struct rng rng;
  unsigned cluster_bits;
  bool v2, extended, compressed;
  uint64_t most;                /* bytes of the disk, at most */
  uint64_t size;                /* now */
  unsigned char *touched;       /* by sector of 'most' */
  struct epoch epochs[MAX_EPOCHS];
  unsigned nr;
  bool bitmaps;                 /* and neither do we write, which would mark
                                   them as in use, nor has the disk another
                                   size, of which they know nothing */
};

/* ---- Requests ------------------------------------------------------------ */

static void
touch (struct history *h, uint64_t off, uint64_t len)
{
  if (len > 0)
    memset (h->touched + off / 512, 1, (off + len - 1) / 512 - off / 512 + 1);
}

/* Somewhere in the disk, in whole units. */
static void
choose_range (struct history *h, uint64_t unit, uint64_t *ret_off,
              uint64_t *ret_len)
{
  const uint64_t units = h->size / unit;
  const uint64_t most = (UINT64_C (4) << h->cluster_bits) / unit;
  const uint64_t at = rng_below (&h->rng, units);
  uint64_t n = 1 + rng_below (&h->rng, most);

  if (n > units - at)
    n = units - at;
  *ret_off = at * unit;
  *ret_len = n * unit;
}

static void
write_by_qemu (struct history *h)
{
  char commands[1600] = "";
  size_t n = 0;
  const unsigned nr = (unsigned) rng_below (&h->rng, MAX_COMMANDS);

  for (unsigned i = 0; i < nr; ++i) {
    static const char *const kinds[] = {
      "write -P", "write -P", "write -z", "write -z -u",
      "discard",
    };
    const unsigned kind = (unsigned) rng_below (&h->rng, 5);
    const uint64_t cluster = UINT64_C (1) << h->cluster_bits;
    const bool whole = kind >= 4 || rng_below (&h->rng, 3) == 0;
    const uint64_t unit = whole ? cluster : 512;
    uint64_t off, len;
    char pattern[12] = "";

    if (h->size < unit)
      continue;
    choose_range (h, unit, &off, &len);
    if (kind < 2)
      snprintf (pattern, sizeof pattern, "%u",
                1 + (unsigned) rng_below (&h->rng, 255));
    touch (h, off, len);
    n += (size_t) snprintf (commands + n, sizeof commands - n,
                            " -c '%s %s %" PRIu64 " %" PRIu64 "'",
                            kinds[kind], pattern, off, len);
  }
  if (nr > 0)
    qemu_run (0, "qemu-io -d unmap -f qcow2%s h.qcow2", commands);
}

static void
request (struct history *h, struct qcow2_image *image,
         const struct qcow2_io *io)
{
  unsigned char buf[70000];
  uint64_t off, len;
  struct qcow2_error err;
  int r;

  choose_range (h, rng_below (&h->rng, 2) ? 512 : 1, &off, &len);
  touch (h, off, len);
  switch (rng_below (&h->rng, 4)) {
  case 0 ... 1:
    if (len > sizeof buf)
      len = sizeof buf;
    rng_fill (&h->rng, buf, len);
    r = qcow2_pwrite (image, io, buf, (uint32_t) len, off, false, &err);
    break;
  case 2:
    r = qcow2_zero (image, io, len, off,
                    rng_below (&h->rng, 2) ? QCOW2_ZERO_MAY_TRIM : 0, &err);
    break;
  default:
    r = qcow2_trim (image, io, len, off, rng_below (&h->rng, 2), &err);
    break;
  }
  unit_check (r == 0, __FILE__, __LINE__, "request: %s", err.text);
}

static void
epoch_name (char name[16], unsigned i)
{
  snprintf (name, 16, "s%u", i);
}

static void
compare_some (struct history *h, struct qcow2_image **views,
              const struct qcow2_io *io)
{
  const unsigned i = (unsigned) rng_below (&h->rng, h->nr + 1);

  if (i < h->nr)
    view_compare (views[i], io, &h->rng, h->epochs[i].disk, 0,
                  h->epochs[i].size);
}

/* With the snapshots open, some since before the first write. */
static void
write_by_engine (struct history *h)
{
  const struct host_spec spec = {
    .capacity = UINT64_C (64) << 20, .grows = true,
    .trim = HOST_TRIM_GARBAGE,
  };
  const struct qcow2_options options = {
    .writable = true, .cluster_cache_size = 1 << 20,
  };
  struct qcow2_image *image, *views[MAX_EPOCHS];
  struct qcow2_error err;
  struct host host;
  unsigned char *bytes;
  uint64_t size;

  bytes = qemu_load ("h.qcow2", &size);
  REQUIRE (size <= spec.capacity);
  host_init (&host, &spec, bytes, size);
  free (bytes);
  host_reopen (&host);
  image = qcow2_open (&host.io, &options, &err);
  REQUIRE (image != NULL && qcow2_get_info (image).writable);
  for (unsigned i = 0; i < h->nr; ++i) {
    char name[16];

    epoch_name (name, i);
    if (i % 2)                  /* these when it has been written to */
      request (h, image, &host.io);
    views[i] = view_open (image, &host.io, QCOW2_VIEW_SNAPSHOT, name);
  }
  for (unsigned i = 0; i < 20; ++i) {
    request (h, image, &host.io);
    if (rng_below (&h->rng, 4) == 0)
      compare_some (h, views, &host.io);
    if (rng_below (&h->rng, 8) == 0)
      CHECK_EQ (qcow2_flush (image, &host.io, &err), 0);
  }
  for (unsigned i = 0; i < h->nr; ++i) {
    view_compare (views[i], &host.io, &h->rng, h->epochs[i].disk, 0,
                  h->epochs[i].size);
    qcow2_close (views[i]);
  }
  CHECK_EQ (qcow2_end (image, &host.io, &err), 0);
  qcow2_close (image);
  qemu_save ("h.qcow2", host.bytes, host.size);
  host_free (&host);
}

/* ---- Epochs --------------------------------------------------------------- */

/* A disk to compress. */
static void
save_raw (struct history *h)
{
  unsigned char *const disk = calloc (1, h->size);

  REQUIRE (disk != NULL);
  for (uint64_t at = 0; at < h->size; at += 512)
    if (rng_below (&h->rng, 3))
      rng_fill (&h->rng, disk + at, 64);
  qemu_save ("h.raw", disk, h->size);
  free (disk);
}

static void
make_image (struct history *h, uint64_t seed)
{
  char options[120];
  uint64_t clusters;
  bool zstd;

  memset (h, 0, sizeof *h);
  h->rng.state = seed;
  h->cluster_bits = 9 + (unsigned) rng_below (&h->rng, 8);
  h->v2 = rng_below (&h->rng, 5) == 0;
  h->extended = !h->v2 && h->cluster_bits >= 14 && rng_below (&h->rng, 2);
  h->compressed = qcow2_has_zlib () && rng_below (&h->rng, 2);
  zstd = !h->v2 && qcow2_has_zstd () && rng_below (&h->rng, 4) == 0;
  clusters = 8 + rng_below (&h->rng, h->cluster_bits < 13 ? 200 : 30);
  h->most = clusters << h->cluster_bits;
  h->size = h->most / 512 / (1 + rng_below (&h->rng, 3)) * 512;
  h->touched = calloc (1, h->most / 512 + 1);
  REQUIRE (h->touched != NULL);
  snprintf (options, sizeof options, "compat=%s,cluster_size=%u%s%s",
            h->v2 ? "0.10" : "1.1", 1u << h->cluster_bits,
            h->extended ? ",extended_l2=on" : "",
            zstd ? ",compression_type=zstd" : "");
  qemu_run (0, "rm -f h.qcow2");
  if (h->compressed) {
    save_raw (h);
    qemu_run (0, "qemu-img convert -c -f raw -O qcow2 -o %s h.raw h.qcow2",
              options);
  }
  else
    qemu_run (0, "qemu-img create -q -f qcow2 -o %s h.qcow2 %" PRIu64,
              options, h->size);
}

/* Another size; where the disk was cut nothing is left, or what was in its
 * last cluster.
 */
static void
resize (struct history *h)
{
  const uint64_t size = 512 * (1 + rng_below (&h->rng, h->most / 512));

  if (size == h->size)
    return;
  qemu_run (0, "qemu-img resize -q --shrink -f qcow2 h.qcow2 %" PRIu64,
            size);
  touch (h, size < h->size ? size : h->size,
         size < h->size ? h->size - size : size - h->size);
  h->size = size;
}

static void
record (struct history *h)
{
  struct epoch *const e = &h->epochs[h->nr++];
  uint64_t size;

  qemu_run (0, "qemu-img convert -f qcow2 -O raw h.qcow2 h.raw");
  e->disk = qemu_load ("h.raw", &size);
  REQUIRE (size == h->size);
  e->size = size;
  e->touched = h->touched;
  e->nr_sectors = h->most / 512;
  h->touched = calloc (1, h->most / 512 + 1);
  REQUIRE (h->touched != NULL);
}

/* The last epoch is the active disk's. */
static void
end_epoch (struct history *h, bool last)
{
  struct epoch *const e = &h->epochs[h->nr];
  char name[16];

  epoch_name (name, h->nr);
  record (h);
  if (last)
    return;
  /* Stays in the L1 table behind the disk. */
  if (rng_below (&h->rng, 4) == 0)
    qemu_run (0, "qemu-io -f qcow2 -c 'write -b -P 0x56 0 9216' h.qcow2");
  qemu_run (0, "qemu-img snapshot -c %s h.qcow2", name);
  if (h->bitmaps && rng_below (&h->rng, 2)) {
    e->granularity_bits = 9 + (unsigned) rng_below (&h->rng, 9);
    qemu_run (0, "qemu-img bitmap --add -g %u h.qcow2 b%s",
              1u << e->granularity_bits, name);
  }
}

static void
make_history (struct history *h)
{
  const unsigned nr = 2 + (unsigned) rng_below (&h->rng, MAX_EPOCHS - 2);

  h->bitmaps = !h->v2 && rng_below (&h->rng, 3) == 0;
  for (unsigned i = 0; i <= nr && unit_failures () == 0; ++i) {
    if (!h->bitmaps && rng_below (&h->rng, 2))
      write_by_engine (h);
    else
      write_by_qemu (h);
    /* QEMU refuses that in version 2 once there are snapshots. */
    if (rng_below (&h->rng, 2) && !h->bitmaps && (!h->v2 || h->nr == 0))
      resize (h);
    end_epoch (h, i == nr);
  }
}

static void
free_history (struct history *h)
{
  for (unsigned i = 0; i < h->nr; ++i) {
    free (h->epochs[i].disk);
    free (h->epochs[i].touched);
  }
  free (h->touched);
}

/* ---- Looking back ---------------------------------------------------------- */

/* Whether any sector of the range was touched between two epochs. */
static bool
is_touched (const struct history *h, unsigned a, unsigned b, uint64_t from,
            uint64_t to)
{
  const unsigned first = a < b ? a : b, last = a < b ? b : a;

  for (unsigned i = first + 1; i <= last; ++i)
    for (uint64_t s = from / 512; s < (to + 511) / 512; ++s)
      if (s >= h->epochs[i].nr_sectors || h->epochs[i].touched[s])
        return true;
  return false;
}

struct narrow {
  const struct history *h;
  unsigned a, b;
};

/* Extents that are no holes are of clusters that were touched. */
static int
see_narrow (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  const struct narrow *const n = opaque;
  const uint64_t cluster = UINT64_C (1) << n->h->cluster_bits;
  const uint64_t a_size = n->h->epochs[n->a].size;

  for (uint64_t at = guest_off; at < guest_off + len && type !=
       QCOW2_EXTENT_ZERO; at += cluster - at % cluster) {
    const uint64_t from = at - at % cluster;

    if (from + cluster <= a_size &&
        !unit_check (is_touched (n->h, n->a, n->b, from, from + cluster),
                     __FILE__, __LINE__, "0x%" PRIx64 " was not touched "
                     "between %u and %u", from, n->a, n->b))
      return 1;
  }
  return 0;
}

static void
check_pair (struct history *h, struct qcow2_image *image,
            const struct qcow2_io *io, unsigned a, unsigned b)
{
  const struct epoch *const ea = &h->epochs[a], *const eb = &h->epochs[b];
  const bool active = b + 1 == h->nr;
  unsigned char *const copy = calloc (1, eb->size);
  struct narrow narrow = { h, a, b };
  struct qcow2_image *view;
  struct qcow2_error err;
  char name[20];

  REQUIRE (copy != NULL);
  snprintf (name, sizeof name, active ? "s%u.." : "s%u..s%u", a, b);
  view = view_open (image, io, QCOW2_VIEW_DIFF, name);
  memcpy (copy, ea->disk, ea->size < eb->size ? ea->size : eb->size);
  view_apply (view, io, &h->rng, copy, 0, eb->size);
  CHECK_BYTES (copy, eb->disk, eb->size);
  CHECK_EQ (qcow2_extents (view, io, eb->size, 0, see_narrow, &narrow, &err),
            0);
  qcow2_close (view);
  free (copy);
}

struct bitmap {
  const struct history *h;
  unsigned since;
  unsigned granularity_bits;
};

static bool
has_been_written (void *arg, uint64_t guest_off, uint64_t *ret_end)
{
  const struct bitmap *const b = arg;
  const uint64_t size = UINT64_C (1) << b->granularity_bits;
  const uint64_t from = guest_off - guest_off % size;
  uint64_t to = from + size;

  *ret_end = to;
  if (to > b->h->size)
    to = b->h->size;
  return is_touched (b->h, b->since, b->h->nr - 1, from, to);
}

static void
check_bitmaps (struct history *h, struct qcow2_image *image,
               const struct qcow2_io *io)
{
  for (unsigned i = 0; i < h->nr; ++i) {
    struct bitmap b = { h, i, h->epochs[i].granularity_bits };
    const struct epoch *const last = &h->epochs[h->nr - 1];
    struct qcow2_image *view;
    char name[16];

    if (b.granularity_bits == 0)
      continue;
    snprintf (name, sizeof name, "bs%u", i);
    view = view_open (image, io, QCOW2_VIEW_BITMAP, name);
    view_check_mask (view, io, &h->rng, has_been_written, &b, last->disk, 0,
                     last->size);
    qcow2_close (view);
  }
}

static void
check_history (struct history *h)
{
  const struct qcow2_options options = { .cluster_cache_size = 1 << 20 };
  struct qcow2_image *image;
  struct qcow2_error err;
  struct memory_io m;
  unsigned char *bytes;
  uint64_t size;
  int status;

  /* QEMU leaks clusters when it makes an image with snapshots smaller. */
  status = qemu_status ("qemu-img check -q h.qcow2");
  CHECK (status == 0 || status == 3);
  bytes = qemu_load ("h.qcow2", &size);
  memory_io_init (&m, bytes, size);
  image = qcow2_open (&m.io, &options, &err);
  REQUIRE (image != NULL);
  CHECK_EQ (qcow2_get_info (image).nr_snapshots, h->nr - 1);
  for (unsigned i = 0; i + 1 < h->nr; ++i) {
    struct qcow2_image *view;
    char name[16];

    epoch_name (name, i);
    view = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, name);
    view_compare (view, &m.io, &h->rng, h->epochs[i].disk, 0,
                  h->epochs[i].size);
    qcow2_close (view);
    for (unsigned j = 0; j < h->nr; ++j)
      check_pair (h, image, &m.io, i, j);
  }
  check_bitmaps (h, image, &m.io);
  qcow2_close (image);
  free (bytes);
}

int
main (int argc, char *argv[])
{
  const uint64_t first = argc > 1 ? strtoull (argv[1], NULL, 0) : 1;
  const unsigned runs =
    argc > 2 ? (unsigned) strtoul (argv[2], NULL, 0) : unit_scaled (40);

  qemu_init ();
  for (uint64_t seed = first; seed < first + runs; ++seed) {
    struct history h;

    make_image (&h, seed);
    unit_context ("seed %" PRIu64 ": v%d cluster 2^%u%s", seed,
                  h.v2 ? 2 : 3, h.cluster_bits,
                  h.extended ? " extended" : "");
    make_history (&h);
    if (unit_failures () == 0)
      check_history (&h);
    free_history (&h);
    if (unit_failures () > 0)
      break;
  }
  qemu_finish ();
  return unit_finish ();
}
