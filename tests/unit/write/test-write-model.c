/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-model.c - the disk against an array of bytes.
 *
 * Usage: test-write-model [FIRST-SEED [RUNS]]
 *
 * Owns      the model.
 * Method    a seed chooses image, host and requests (crash/choice.h).  With
 *           one client, at any byte, the model is exact.  With several
 *           clients, in whole sectors, the ledger of crash/ knows the possible
 *           contents.  In between the image is closed and opened again, and
 *           QEMU writes to it; at the end QEMU checks it for errors and leaks,
 *           and reads it.
 */
#include "config.h"

#include "choice.h"
#include "fsck.h"
#include "guest.h"
#include "qemu.h"
#include "tag.h"

/* ---- One client, byte by byte ------------------------------------------ */

struct model {
  const struct workload *w;
  struct recipe_image *made;    /* what it began as */
  struct host host, data;       /* the latter if there is a data file */
  struct attach attach;
  struct qcow2_image *image;
  struct rng rng;
  uint64_t size;
  unsigned char *disk, *buf;
  bool broken;                  /* no use in going on */
};

static void
init_model_host (struct model *m, const void *bytes, uint64_t size,
                 const void *data, uint64_t data_size)
{
  host_init (&m->host, &m->w->host, bytes, size);
  m->attach = (struct attach) { .layers = &m->made->layers };
  if (data == NULL)
    return;
  guest_init_data (&m->data, m->w, data, data_size);
  host_join (&m->host, &m->data);
  m->attach.data = &m->data.io;
}

static void
free_model_host (struct model *m)
{
  if (m->host.data != NULL)
    host_free (&m->data);
  host_free (&m->host);
}

static void
open_model (struct model *m)
{
  struct qcow2_options options = {
    .writable = true, .discard = m->w->discard,
    .cache_size = m->w->cache_size, .overlap_check = QCOW2_OVERLAP_CACHED,
    .cluster_cache_size = UINT64_C (1) << 20, .compress = m->w->compress,
    .detect_zeroes = m->w->detect_zeroes,
  };
  struct qcow2_error err;

  attach_options (&m->attach, &options);
  host_reopen (&m->host);
  m->image = qcow2_open (&m->host.io, &options, &err);
  if (!unit_check (m->image != NULL, __FILE__, __LINE__, "open: %s",
                   m->image ? "" : err.text))
    exit (unit_finish ());
  if (!unit_check (qcow2_get_info (m->image).writable, __FILE__, __LINE__,
                   "read-only: %s",
                   qcow2_get_info (m->image).why_read_only))
    exit (unit_finish ());
}

static bool
read_model (struct model *m, uint64_t off, uint64_t len)
{
  struct qcow2_error err;

  memset (m->buf, 0xa7, len);
  if (qcow2_pread (m->image, &m->host.io, m->buf, (uint32_t) len, off, &err)
      == 0)
    return true;
  m->broken = true;
  return unit_check (false, __FILE__, __LINE__, "read: %s", err.text);
}

static void
compare_range (struct model *m, uint64_t off, uint64_t len)
{
  if (read_model (m, off, len) &&
      !CHECK_BYTES (m->buf, m->disk + off, len))
    m->broken = true;
}

/* A request that failed may have been done in part: each byte is the old
 * one or the new one, and stays so.
 */
static void
failed_in_part (struct model *m, const struct qcow2_error *err, uint64_t off,
                uint64_t len, const unsigned char *wanted)
{
  if (!unit_check (err->kind == QCOW2_ERR_NO_SPACE && m->w->may_fill,
                   __FILE__, __LINE__, "%s", err->text)) {
    m->broken = true;
    return;
  }
  if (!read_model (m, off, len))
    return;
  for (uint64_t i = 0; i < len; ++i)
    if (m->buf[i] != m->disk[off + i] &&
        m->buf[i] != (wanted ? wanted[i] : 0)) {
      m->broken = true;
      CHECK (!"a failed request left other bytes");
      return;
    }
  memcpy (m->disk + off, m->buf, len);
}

/* Repeat words in some of the pages, so that they can be compressed. */
static void
make_smaller (struct rng *rng, unsigned char *data, uint64_t len)
{
  for (uint64_t i = 0; i < len; i += 4096)
    if (rng_below (rng, 4) != 0)
      for (uint64_t j = i + 16; j < len && j < i + 4096; ++j)
        data[j] = data[j - 16];
}

static void
write_model (struct model *m, uint64_t off, uint64_t len)
{
  unsigned char *const data = malloc (len);
  struct qcow2_error err;

  REQUIRE (data != NULL);
  rng_fill (&m->rng, data, len);
  if (m->w->zeros_percent > rng_below (&m->rng, 100))
    memset (data + len / 4, 0, len - len / 4);
  if (m->w->compress)
    make_smaller (&m->rng, data, len);
  if (qcow2_pwrite (m->image, &m->host.io, data, (uint32_t) len, off,
                    rng_below (&m->rng, 30) == 0, &err) == 0)
    memcpy (m->disk + off, data, len);
  else
    failed_in_part (m, &err, off, len, data);
  free (data);
}

static void
zero_model (struct model *m, uint64_t off, uint64_t len)
{
  const unsigned flags = (unsigned) rng_below (&m->rng, 8);
  struct qcow2_error err;

  if (qcow2_zero (m->image, &m->host.io, len, off, flags, &err) == 0)
    memset (m->disk + off, 0, len);
  else if (err.kind == QCOW2_ERR_NOT_FAST && CHECK (flags & QCOW2_ZERO_FAST))
    compare_range (m, off, len);
  else
    failed_in_part (m, &err, off, len, NULL);
}

/* An entry of version 2 cannot say that a cluster does not read as what is
 * below, which it does up to here.
 */
static uint64_t
stuck_until (const struct model *m)
{
  const struct recipe *const below = m->w->recipe.below;
  const uint64_t cluster = UINT64_C (1) << m->w->recipe.cluster_bits;

  return below && qcow2_get_info (m->image).version == 2 ?
    (below->disk_size + cluster - 1) / cluster * cluster : 0;
}

static void
trim_model (struct model *m, uint64_t off, uint64_t len)
{
  const uint64_t cluster = UINT64_C (1) << m->w->recipe.cluster_bits;
  const uint64_t stuck = stuck_until (m);
  uint64_t from = (off + cluster - 1) / cluster * cluster, to = off + len;
  struct qcow2_error err;

  if (from < stuck)
    from = stuck;
  if (to < m->size)
    to -= to % cluster;
  if (m->w->discard == QCOW2_DISCARD_IGNORE || to < from)
    to = from;
  if (qcow2_trim (m->image, &m->host.io, len, off,
                  rng_below (&m->rng, 30) == 0, &err) == 0) {
    if (to > from)
      memset (m->disk + from, 0, to - from);
  }
  else
    failed_in_part (m, &err, off, len, NULL);
}

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct model *const m = opaque;

  if (type != QCOW2_EXTENT_DATA)
    for (uint64_t i = guest_off; i < guest_off + len; ++i)
      if (m->disk[i] != 0) {
        CHECK (!"an extent that reads as zeros has data");
        m->broken = true;
        return 1;
      }
  return 0;
}

static void
request (struct model *m)
{
  const uint64_t cluster = UINT64_C (1) << m->w->recipe.cluster_bits;
  const uint64_t hot = 4 * cluster;
  const uint64_t among = m->w->pattern == PATTERN_HOT && hot < m->size ?
    hot : m->size;
  uint64_t off = rng_below (&m->rng, among), len;
  struct qcow2_error err;

  if (rng_below (&m->rng, 3) == 0)
    off -= off % cluster;
  else if (rng_below (&m->rng, 2) == 0)
    off -= off % 512;
  len = rng_below (&m->rng, 3) == 0 ? cluster :
    1 + rng_below (&m->rng, rng_below (&m->rng, 2) ? cluster : 4 * cluster);
  if (len > m->size - off)
    len = m->size - off;
  switch (rng_below (&m->rng, 24)) {
  case 0 ... 9:
    write_model (m, off, len);
    break;
  case 10 ... 12:
    zero_model (m, off, len);
    break;
  case 13 ... 15:
    trim_model (m, off, len);
    break;
  case 16 ... 19:
    compare_range (m, off, len);
    break;
  case 20:
    CHECK_EQ (qcow2_extents (m->image, &m->host.io, len, off, see_extent, m,
                             &err), 0);
    break;
  case 21:
    if (qcow2_idle_commit (m->image, &m->host.io, &err) == 0)
      break;
    CHECK (!"idle commit");
    break;
  default:
    CHECK_EQ (qcow2_flush (m->image, &m->host.io, &err), 0);
    break;
  }
}

static void
close_model (struct model *m)
{
  struct qcow2_error err;

  if (qcow2_end (m->image, &m->host.io, &err) == -1) {
    unit_check (false, __FILE__, __LINE__, "end: %s", err.text);
    m->broken = true;
  }
  qcow2_close (m->image);
}

/* Snapshots and saved machines are as they were. */
static void
check_snapshots (const struct host *host, struct recipe_image *image,
                 const struct workload *w)
{
  char final[QEMU_IMAGE];
  unsigned char *bytes;
  uint64_t size;

  if (!w->recipe.vm_state && w->recipe.snapshots == 0)
    return;
  qemu_save ("final.qcow2", host->bytes, host->size);
  qemu_image (final, sizeof final, "final.qcow2", image->qemu_options, NULL);
  if (w->recipe.vm_state)
    qemu_run (0, "qemu-io -r -c 'read -b -P 0x56 0 9216' %s", final);
  if (w->recipe.snapshots == 0)
    return;
  qemu_run (0, "qemu-img convert -l snapshot.name=s0 -O raw %s snapshot.raw",
            final);
  bytes = qemu_load ("snapshot.raw", &size);
  if (CHECK_EQ (size, image->disk_size))
    CHECK_BYTES (bytes, image->snapshot, size);
  free (bytes);
}

/* QEMU wants to see the zeros at the end of the file. */
static void
check_file (const struct host *host, struct recipe_image *image,
            const struct workload *w, const unsigned char *disk)
{
  const uint64_t size =
    host->size > image->full_size ? host->size : image->full_size;
  const struct host *const data = host->data;
  const struct qemu_files files = {
    .options = image->qemu_options, .data = data ? data->bytes : NULL,
    .data_size = data ? data->size : 0,
  };
  struct fsck fsck;

  fsck_image (host->bytes, size, &fsck);
  unit_check (fsck.corruptions == 0 && fsck.leaks == 0 && !fsck.dirty &&
              fsck.past_end == 0, __FILE__, __LINE__,
              "%u corruptions, %u leaks, %u past the end, dirty %d: %s%s",
              fsck.corruptions, fsck.leaks, fsck.past_end, fsck.dirty,
              fsck.text, fsck.leak_text);
  if (w->recipe.data_raw)
    CHECK_BYTES (data->bytes, disk, image->disk_size);
  qemu_submit (host->bytes, size, &files, QEMU_CLEAN, disk,
               image->disk_size, w->name);
}

/* Arguments for qemu-io: a dozen of changes. */
static void
choose_changes (struct model *m, char *command, size_t len)
{
  static const char *const kinds[] = {
    "write -P 0x51", "write -z", "write -z -u", "discard",
  };
  size_t n = 0;

  for (unsigned i = 0; i < 12; ++i) {
    const uint64_t sectors = m->size / 512;
    const uint64_t sector = rng_below (&m->rng, sectors);
    const uint64_t most = (UINT64_C (4) << m->w->recipe.cluster_bits) / 512;
    uint64_t count = 1 + rng_below (&m->rng, most);

    if (count > sectors - sector)
      count = sectors - sector;
    n += (size_t) snprintf (command + n, len - n,
                            " -c '%s %" PRIu64 " %" PRIu64 "'",
                            kinds[rng_below (&m->rng, 4)], sector * 512,
                            count * 512);
  }
}

/* QEMU writes to what we have written.  Returns false if the file has
 * outgrown its host.
 */
static bool
change_by_qemu (struct model *m)
{
  char command[1200], image[QEMU_IMAGE];
  unsigned char *bytes, *disk, *data = NULL;
  uint64_t size, disk_size, data_size = 0;
  const bool has_data = m->host.data != NULL;
  bool fits;

  qemu_save ("shared.qcow2", m->host.bytes, m->host.size);
  if (has_data)
    qemu_save ("shared.data", m->data.bytes, m->data.size);
  qemu_image (image, sizeof image, "shared.qcow2", m->made->qemu_options,
              has_data ? "shared.data" : NULL);
  choose_changes (m, command, sizeof command);
  qemu_run (0, "qemu-io -d unmap%s %s", command, image);
  qemu_run (0, "qemu-img convert -O raw %s shared.raw", image);
  bytes = qemu_load ("shared.qcow2", &size);
  disk = qemu_load ("shared.raw", &disk_size);
  if (has_data)
    data = qemu_load ("shared.data", &data_size);
  fits = m->w->host.grows || size <= m->w->host.capacity;
  if (fits && CHECK_EQ (disk_size, m->size)) {
    memcpy (m->disk, disk, m->size);
    free_model_host (m);
    init_model_host (m, bytes, size, data, data_size);
  }
  free (bytes);
  free (disk);
  free (data);
  return fits;
}

static void
run_rounds (struct model *m, unsigned requests)
{
  for (unsigned round = 0; round < 3 && !m->broken; ++round) {
    if (round == 2 && !change_by_qemu (m))
      return;
    open_model (m);
    compare_range (m, 0, m->size);
    for (unsigned i = 0; i < requests && !m->broken; ++i)
      request (m);
    if (!m->broken)
      compare_range (m, 0, m->size);
    close_model (m);
  }
}

static void
test_one_client (const struct workload *w, uint64_t seed, unsigned requests)
{
  struct model m = { .w = w, .rng = { seed }, .size = w->recipe.disk_size };
  struct recipe_image image;

  recipe_make (&image, &w->recipe, seed);
  if (w->host.grows || image.size <= w->host.capacity) {
    m.made = &image;
    init_model_host (&m, image.bytes, image.size, image.data,
                     image.data_size);
    m.disk = malloc (m.size);
    m.buf = malloc (m.size);
    REQUIRE (m.disk != NULL && m.buf != NULL);
    memcpy (m.disk, image.disk, m.size);
    run_rounds (&m, requests);
    if (!m.broken) {
      check_file (&m.host, &image, w, m.disk);
      check_snapshots (&m.host, &image, w);
    }
    free (m.disk);
    free (m.buf);
    free_model_host (&m);
  }
  layers_close (&image.layers);
  recipe_free (&image);
}

/* ---- Several clients --------------------------------------------------- */

static void
test_clients (struct workload *w, uint64_t seed, unsigned requests)
{
  struct recipe_image image;
  unsigned char *disk;
  struct guest g;

  w->clients = 4;
  w->requests = requests;
  recipe_make (&image, &w->recipe, seed);
  disk = malloc (image.disk_size);
  REQUIRE (disk != NULL);
  if (w->host.grows || image.size <= w->host.capacity) {
    const struct guest_files files = guest_files_of (&image);
    struct qcow2_error err;

    guest_init (&g, w, seed, &files);
    for (unsigned round = 0; round < 2; ++round) {
      guest_open (&g);
      guest_read_all (&g);
      guest_run (&g);
      guest_read_all (&g);
      CHECK_EQ (qcow2_pread (g.image, &g.host.io, disk,
                             (uint32_t) image.disk_size, 0, &err), 0);
      CHECK (guest_close (&g, true));
    }
    check_file (&g.host, &image, w, disk);
    check_snapshots (&g.host, &image, w);
    guest_free (&g);
  }
  free (disk);
  recipe_free (&image);
}

int
main (int argc, char *argv[])
{
  const uint64_t first = argc > 1 ? strtoull (argv[1], NULL, 0) : 1;
  const unsigned runs =
    argc > 2 ? (unsigned) strtoul (argv[2], NULL, 0) : unit_scaled (240);
  unsigned long failures = 0;

  qemu_init ();
  for (unsigned i = 0; i < runs && failures < 3; ++i) {
    struct rng rng = { first + i };
    struct choice c;

    choose (&c, &rng, false);
    unit_context ("seed %" PRIu64 ": %.400s", first + i, c.name);
    if (i % 3 == 2)
      test_clients (&c.w, first + i, 60);
    else
      test_one_client (&c.w, first + i, 80);
    failures = unit_failures ();
  }
  qemu_wait ();
  qemu_finish ();
  return unit_finish ();
}
