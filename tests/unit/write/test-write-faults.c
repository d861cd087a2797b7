/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-faults.c - every read, write, flush, zeroing, growth and
 * allocation fails once, in each of the files that an image needs.
 *
 * Owns      the wrappers of malloc and friends, which the linker puts
 *           between the engine and the C library.
 * Method    repeats the same requests while the n-th operation of the host (or
 *           the n-th allocation) fails, for each n.  Flushed writes must
 *           survive any crash; later requests succeed, and nothing is leaked
 *           in the end, unless a flush or an allocation failed.
 * Locks     none; threads that only start qemu-img have counters of their own.
 */
#include "config.h"

#include "fsck.h"
#include "guest.h"
#include "qemu.h"
#include "tag.h"
#include "verify.h"

#include <errno.h>
#include <limits.h>

/* ---- Allocations ------------------------------------------------------- */

static _Thread_local unsigned long allocs, fail_alloc_at; /* 0: none */
static _Thread_local bool alloc_failed;

extern void *__real_malloc (size_t);
extern void *__real_calloc (size_t, size_t);
extern void *__real_realloc (void *, size_t);
extern void *__wrap_malloc (size_t);
extern void *__wrap_calloc (size_t, size_t);
extern void *__wrap_realloc (void *, size_t);

static bool
alloc_fails (void)
{
  ++allocs;
  if (allocs != fail_alloc_at)
    return false;
  alloc_failed = true;
  return true;
}

void *
__wrap_malloc (size_t size)
{
  return alloc_fails () ? NULL : __real_malloc (size);
}

void *
__wrap_calloc (size_t nr, size_t size)
{
  return alloc_fails () ? NULL : __real_calloc (nr, size);
}

void *
__wrap_realloc (void *p, size_t size)
{
  return alloc_fails () ? NULL : __real_realloc (p, size);
}

/* ---- Workloads --------------------------------------------------------- */

#define KiB (UINT64_C (1) << 10)
#define MIXTURE                                                               \
  .write = 50, .zero = 12, .trim = 12, .read = 4, .flush = 14, .idle = 2,     \
  .fua_percent = 4

static const struct recipe longer_image = {
  .options = "cluster_size=2k", .cluster_bits = 11, .disk_size = 150 * KiB,
  .fill_percent = 70,
};
static const struct recipe shorter_file = {
  .raw = true, .cluster_bits = 12, .disk_size = 90 * KiB + 512,
  .fill_percent = 90,
};

static const struct workload workloads[] = {
  { .name = "grows",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 256 * KiB, .fill_percent = 30 },
    .host = { .capacity = 2048 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 40, MIXTURE },
  /* Commits of one flush. */
  { .name = "short-ahead",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 512 * KiB, .fill_percent = 10 },
    .host = { .capacity = 2048 * KiB, .grows = true, .step = 256 * KiB,
              .trim = HOST_TRIM_ZEROS },
    .refcounts = QCOW2_REFCOUNTS_AHEAD,
    .requests = 40, .write = 50, .zero = 4, .trim = 6, .flush = 36,
    .idle = 2, .fua_percent = 4 },
  { .name = "short-lazy",
    .recipe = { .options = "cluster_size=4k,lazy_refcounts=on",
                .cluster_bits = 12, .disk_size = 512 * KiB,
                .fill_percent = 10 },
    .host = { .capacity = 2048 * KiB, .grows = true, .step = 256 * KiB,
              .trim = HOST_TRIM_ZEROS },
    .requests = 40, .write = 50, .zero = 4, .trim = 6, .flush = 36,
    .idle = 2, .fua_percent = 4 },
  { .name = "short-trims",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 256 * KiB, .fill_percent = 80 },
    .host = { .capacity = 2048 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 40, .write = 10, .zero = 16, .trim = 30, .flush = 36,
    .idle = 2, .fua_percent = 4 },
  { .name = "tiny",
    .recipe = { .options = "cluster_size=512,refcount_bits=64",
                .cluster_bits = 9, .disk_size = 128 * KiB,
                .fill_percent = 30 },
    .host = { .capacity = 2048 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 40, .max_sectors = 20, MIXTURE },
  { .name = "snapshot",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 256 * KiB, .fill_percent = 70,
                .snapshots = 1 },
    .host = { .capacity = 1024 * KiB, .trim = HOST_TRIM_ZEROS },
    .requests = 40, MIXTURE },
  { .name = "compressed",
    .recipe = { .options = "cluster_size=8k", .cluster_bits = 13,
                .disk_size = 256 * KiB, .fill_percent = 90,
                .compressed = true },
    .host = { .capacity = 1024 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 30, MIXTURE },
  { .name = "extended-4096",
    .recipe = { .options = "cluster_size=16k,extended_l2=on",
                .cluster_bits = 14, .disk_size = 256 * KiB,
                .fill_percent = 50 },
    .host = { .capacity = 1024 * KiB, .min_block = 4096,
              .trim = HOST_TRIM_ZEROS },
    .requests = 40, .max_sectors = 80, MIXTURE },
  { .name = "lazy",
    .recipe = { .options = "cluster_size=4k,lazy_refcounts=on",
                .cluster_bits = 12, .disk_size = 128 * KiB,
                .fill_percent = 40 },
    .host = { .capacity = 1024 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 30, MIXTURE },
  { .name = "overlay",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 128 * KiB, .fill_percent = 20,
                .below = &longer_image },
    .host = { .capacity = 1024 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 40, MIXTURE },
  { .name = "overlay-extended",
    .recipe = { .options = "cluster_size=16k,extended_l2=on",
                .cluster_bits = 14, .disk_size = 256 * KiB,
                .fill_percent = 20, .below = &shorter_file },
    .host = { .capacity = 1024 * KiB, .trim = HOST_TRIM_ZEROS },
    .requests = 40, .max_sectors = 80, MIXTURE },
  { .name = "overlay-2",
    .recipe = { .options = "cluster_size=4k,compat=0.10",
                .cluster_bits = 12, .disk_size = 128 * KiB,
                .fill_percent = 20, .below = &shorter_file },
    .host = { .capacity = 1024 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 40, MIXTURE },
  { .name = "aes",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 128 * KiB, .fill_percent = 30,
                .snapshots = 1, .encryption = QCOW2_ENCRYPTION_AES },
    .host = { .capacity = 1024 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 40, MIXTURE },
  { .name = "luks",
    .recipe = { .options = "cluster_size=16k,extended_l2=on",
                .cluster_bits = 14, .disk_size = 128 * KiB,
                .fill_percent = 30, .encryption = QCOW2_ENCRYPTION_LUKS },
    .host = { .capacity = 4096 * KiB, .grows = true,
              .trim = HOST_TRIM_ZEROS },
    .requests = 30, .max_sectors = 80, MIXTURE },
  { .name = "data",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 128 * KiB, .fill_percent = 30,
                .data_file = true, .data_short = true,
                .below = &shorter_file },
    .host = { .capacity = 1024 * KiB, .grows = true },
    .requests = 40, MIXTURE },
  { .name = "data-raw",
    .recipe = { .options = "cluster_size=16k,extended_l2=on",
                .cluster_bits = 14, .disk_size = 256 * KiB,
                .fill_percent = 30, .zero_percent = 20, .data_file = true,
                .data_raw = true, .data_short = true },
    .host = { .capacity = 1024 * KiB, .grows = true },
    .requests = 40, .max_sectors = 80, MIXTURE },
};

#define NR_WORKLOADS (sizeof workloads / sizeof workloads[0])

/* ---- The host fails ---------------------------------------------------- */

static unsigned long nr_faults;

/* Which of the files fails. */
enum file { IMAGE_FILE, DATA_FILE, LAYER_BELOW };

/* From now on. */
static void
fail_file (struct guest *g, enum file file, unsigned kinds, unsigned long at,
           unsigned long more, int errnum)
{
  if (file == IMAGE_FILE)
    host_fail (&g->host, kinds, at, more, errnum);
  else if (file == DATA_FILE)
    host_fail (&g->data, kinds, at, more, errnum);
  else {
    struct memory_io *const m = &g->attach.layers->layer[0].m;

    m->fail_at = at ? atomic_load (&m->calls) + at : 0;
    m->fail_errnum = errnum;
  }
}

static bool
has_failed (const struct guest *g, enum file file)
{
  if (file == LAYER_BELOW) {
    const struct memory_io *const m = &g->attach.layers->layer[0].m;

    return atomic_load (&m->calls) >= m->fail_at;
  }
  return (file == IMAGE_FILE ? g->host.failed : g->data.failed) > 0;
}

static void
check_flush_failed (struct guest *g)
{
  unsigned char sector[SECTOR];
  struct qcow2_error err;

  memset (sector, 1, sizeof sector);
  CHECK_EQ (qcow2_flush (g->image, &g->host.io, &err), -1);
  CHECK_EQ (qcow2_pwrite (g->image, &g->host.io, sector, SECTOR, 0, false,
                          &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_IO);
  CHECK_EQ (qcow2_zero (g->image, &g->host.io, SECTOR, 0, 0, &err), -1);
  CHECK_EQ (qcow2_pread (g->image, &g->host.io, sector, SECTOR, 0, &err), 0);
}

/* Requests after the failure: all of them succeed. */
static void
go_on (struct guest *g)
{
  struct rng rng = { 4711 };

  g->tolerated = g->w->may_fill ? 1u << QCOW2_ERR_NO_SPACE : 0;
  for (unsigned i = 0; i < 12; ++i)
    guest_request (g, &rng);
  guest_read_all (g);
}

/* Each opening costs some milliseconds. */
static bool
is_expensive (const struct workload *w)
{
  return w->recipe.encryption == QCOW2_ENCRYPTION_LUKS;
}

static void
check_crashes (struct guest *g, struct recipe_image *image, uint64_t seed)
{
  const struct replay_spec spec = {
    .seed = seed, .all_subsets = 2, .subsets = 2, .prefix_percent = 5,
  };
  struct verifier v;
  struct state end = {
    .bytes = g->host.bytes, .size = g->host.size, .data = g->data.bytes,
    .data_size = g->data.size, .how = "at the end",
    .tick = host_now (&g->host),
  };

  verifier_init (&v, &g->ledger, g->w->name, image, &g->w->recipe);
  v.qemu_percent = 2;
  if (replay (&g->host, &spec, verifier_look, &v))
    verifier_look (&v, &end);
  verifier_free (&v);
}

static void
check_leaks (const struct guest *g, unsigned max)
{
  struct fsck fsck;

  fsck_image (g->host.bytes, g->host.size, &fsck);
  CHECK_EQ (fsck.corruptions, 0);
  unit_check (fsck.leaks <= max, __FILE__, __LINE__, "%u leaks: %s",
              fsck.leaks, fsck.leak_text);
}

static void
describe (const struct workload *w, enum file file, enum host_op_kind kind,
          unsigned long n, unsigned long more, int errnum)
{
  static const char *const files[] = { "image", "data file", "layer below" };
  static const char *const kinds[HOST_NR_KINDS] = {
    "read", "write", "zero", "trim", "flush", "grow", "cut",
  };

  unit_context ("%s: %s %lu of the %s fails (errno %d), and %lu after it",
                w->name, kinds[kind], n, files[file], errnum, more);
}

/* Returns false if there is no n-th operation of that kind. */
static bool
fail_nth (const struct workload *w, struct recipe_image *image,
          enum file file, enum host_op_kind kind, unsigned long n,
          unsigned long more, int errnum)
{
  const struct guest_files files = guest_files_of (image);
  struct guest g;
  bool reached, ok, flush_failed;

  guest_init (&g, w, 5, &files);
  g.tolerated |= 1u << QCOW2_ERR_IO | 1u << QCOW2_ERR_NO_SPACE;
  g.commits_lack_space = errnum == ENOSPC;
  host_record (&g.host);
  guest_open (&g);
  fail_file (&g, file, 1u << kind, n, more, errnum);
  guest_run (&g);
  describe (w, file, kind, n, more, errnum);
  reached = has_failed (&g, file);
  flush_failed = kind == HOST_FLUSH && reached;
  fail_file (&g, file, 0, 0, 0, 0);
  nr_faults += reached;
  if (flush_failed)
    check_flush_failed (&g);
  else
    go_on (&g);
  ok = guest_close (&g, true);
  CHECK (ok != flush_failed);
  /* A trim is only an offer: nobody needs to know that it failed. */
  if (!reached)
    CHECK_EQ (g.errors, 0);
  else if (kind == HOST_FLUSH)
    CHECK (g.errors > 0);
  check_leaks (&g, flush_failed ? UINT_MAX : 0);
  if (!is_expensive (w) || n % 16 == 1)
    check_crashes (&g, image, n);
  guest_free (&g);
  layers_close (&image->layers);
  return reached;
}

static bool
can_fail (const struct workload *w, enum file file, enum host_op_kind kind)
{
  switch (file) {
  case IMAGE_FILE:
    return true;
  case DATA_FILE:
    return w->recipe.data_file;
  case LAYER_BELOW:             /* which is only read */
    return w->recipe.below != NULL && kind == HOST_READ;
  }
  return false;
}

static void
fail_each (const struct workload *w, struct recipe_image *image,
           enum file file)
{
  static const struct {
    enum host_op_kind kind;
    int errnum;
    unsigned long more;
  } faults[] = {
    { HOST_READ, EIO, 0 },
    { HOST_WRITE, EIO, 0 },
    { HOST_WRITE, ENOSPC, 5 },
    { HOST_FLUSH, EIO, 0 },
    { HOST_ZERO, EIO, 0 },
    { HOST_ZERO, ENOSPC, 3 },
    { HOST_TRIM, EIO, 2 },
    { HOST_GROW, ENOSPC, 0 },
    { HOST_GROW, EIO, 2 },
  };
  const unsigned step = 100 / (unit_scaled (100) < 100 ?
                               unit_scaled (100) : 100);

  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; ++i)
    for (unsigned long n = 1; can_fail (w, file, faults[i].kind);
         n += step) {
      if (!fail_nth (w, image, file, faults[i].kind, n, faults[i].more,
                     faults[i].errnum))
        break;
    }
}

/* After a failed flush the image can be used again once it has been opened
 * anew: it is then as after a crash.
 */
static void
test_reopen (const struct workload *w, struct recipe_image *image)
{
  struct guest_files files = guest_files_of (image);
  struct verifier v;
  struct guest g, again;

  unit_context ("%s: opened again after a failed flush", w->name);
  guest_init (&g, w, 6, &files);
  g.tolerated |= 1u << QCOW2_ERR_IO;
  guest_open (&g);
  host_fail (&g.host, 1u << HOST_FLUSH, 4, 0, EIO);
  guest_run (&g);
  CHECK (g.host.failed > 0);
  host_fail (&g.host, 0, 0, 0, 0);
  check_flush_failed (&g);
  CHECK (!guest_close (&g, true));
  verifier_init (&v, &g.ledger, w->name, image, &w->recipe);
  if (CHECK (verifier_look (&v, &(struct state) {
          .bytes = g.host.bytes, .size = g.host.size,
          .data = g.data.bytes, .data_size = g.data.size, .how = "closed",
          .tick = host_now (&g.host) }))) {
    files.image = g.host.bytes;
    files.size = g.host.size;
    files.data = g.data.bytes;
    files.data_size = g.data.size;
    files.disk = v.disk;
    guest_init (&again, w, 7, &files);
    guest_open (&again);
    guest_read_all (&again);
    go_on (&again);
    CHECK (guest_close (&again, true));
    guest_free (&again);
  }
  verifier_free (&v);
  guest_free (&g);
  layers_close (&image->layers);
}

/* ---- An allocation fails ----------------------------------------------- */

struct plain {
  const struct workload *w;
  struct host host, data;       /* the latter if there is a data file */
  struct attach attach;
  struct qcow2_image *image;
  unsigned char *disk, *buf, *read;
  uint64_t size;
};

/* Of these bytes any part may be in the place of the old ones; reads do not
 * fail any more.
 */
static void
failed (struct plain *p, const struct qcow2_error *err, uint64_t off,
        uint64_t len)
{
  struct qcow2_error err2;

  CHECK (alloc_failed);
  CHECK (err->kind == QCOW2_ERR_NOMEM ||
         err->kind == QCOW2_ERR_NO_SPACE);
  REQUIRE (qcow2_pread (p->image, &p->host.io, p->read, (uint32_t) len, off,
                        &err2) == 0);
  for (uint64_t i = 0; i < len; ++i)
    if (!CHECK (p->read[i] == p->disk[off + i] || p->read[i] == p->buf[i]))
      break;
  memcpy (p->disk + off, p->read, len);
}

static void
plain_request (struct plain *p, struct rng *rng)
{
  const uint64_t cluster = UINT64_C (1) << p->w->recipe.cluster_bits;
  uint64_t off = rng_below (rng, p->size);
  uint64_t len = 1 + rng_below (rng, 3 * cluster);
  const uint64_t kind = rng_below (rng, 10);
  struct qcow2_error err;
  int r;

  if (kind >= 6)
    off -= off % cluster;
  if (len > p->size - off)
    len = p->size - off;
  memset (p->buf, kind < 6 ? (int) (1 + rng_below (rng, 255)) : 0, len);
  if (kind == 9)
    r = qcow2_flush (p->image, &p->host.io, &err);
  else if (kind < 6)
    r = qcow2_pwrite (p->image, &p->host.io, p->buf, (uint32_t) len, off,
                      kind == 0, &err);
  else
    r = qcow2_zero (p->image, &p->host.io, len, off,
                    kind == 6 ? QCOW2_ZERO_MAY_TRIM : 0, &err);
  if (r == -1)
    failed (p, &err, off, len);
  else if (kind != 9)
    memcpy (p->disk + off, p->buf, len);
}

static void
plain_run (struct plain *p)
{
  struct qcow2_options options = {
    .writable = true, .cache_size = p->w->cache_size,
  };
  struct rng rng = { 31 };
  struct qcow2_error err;

  attach_options (&p->attach, &options);
  p->image = qcow2_open (&p->host.io, &options, &err);
  if (p->image == NULL) {
    CHECK (alloc_failed);
    CHECK_EQ (err.kind, QCOW2_ERR_NOMEM);
    p->image = qcow2_open (&p->host.io, &options, &err);
    REQUIRE (p->image != NULL);
  }
  for (unsigned i = 0; i < 40; ++i)
    plain_request (p, &rng);
  if (qcow2_end (p->image, &p->host.io, &err) == -1) {
    CHECK (alloc_failed);
    CHECK_EQ (qcow2_end (p->image, &p->host.io, &err), 0);
  }
  fail_alloc_at = 0;
  REQUIRE (qcow2_pread (p->image, &p->host.io, p->read, (uint32_t) p->size,
                        0, &err) == 0);
  CHECK_BYTES (p->read, p->disk, p->size);
  qcow2_close (p->image);
}

static bool
fail_alloc (const struct workload *w, struct recipe_image *image,
            unsigned long n)
{
  struct plain p = { .w = w, .size = image->disk_size };
  struct fsck fsck;

  host_init (&p.host, &w->host, image->bytes, image->size);
  p.attach.layers = &image->layers;
  if (image->data != NULL) {
    guest_init_data (&p.data, w, image->data, image->data_size);
    host_join (&p.host, &p.data);
    p.attach.data = &p.data.io;
  }
  p.disk = malloc (p.size);
  p.buf = malloc (p.size);
  p.read = malloc (p.size);
  REQUIRE (p.disk != NULL && p.buf != NULL && p.read != NULL);
  memcpy (p.disk, image->disk, p.size);
  allocs = 0;
  alloc_failed = false;
  fail_alloc_at = n;
  plain_run (&p);
  fsck_image (p.host.bytes, p.host.size, &fsck);
  CHECK_EQ (fsck.corruptions, 0);
  unit_check (fsck.leaks == 0, __FILE__, __LINE__, "%u leaks: %s",
              fsck.leaks, fsck.leak_text);
  if (n % 50 == 1)
    qemu_submit (p.host.bytes, p.host.size,
                 &(struct qemu_files) { image->qemu_options, p.data.bytes,
                                        p.data.size },
                 QEMU_CLEAN, p.disk, p.size, w->name);
  if (w->recipe.data_raw)
    CHECK_BYTES (p.data.bytes, p.disk, p.size);
  if (image->data != NULL)
    host_free (&p.data);
  host_free (&p.host);
  layers_close (&image->layers);
  free (p.disk);
  free (p.buf);
  free (p.read);
  return alloc_failed;
}

int
main (void)
{
  qemu_init ();
  for (size_t i = 0; i < NR_WORKLOADS; ++i) {
    const struct workload *const w = &workloads[i];
    struct recipe_image image;
    unsigned long n;

    if (!recipe_is_possible (&w->recipe))
      continue;
    unit_context ("%s", w->name);
    recipe_make (&image, &w->recipe, i);
    for (enum file file = IMAGE_FILE; file <= LAYER_BELOW; ++file)
      fail_each (w, &image, file);
    test_reopen (w, &image);
    for (n = 1;; ++n) {
      unit_context ("%s: allocation %lu fails", w->name, n);
      if (!fail_alloc (w, &image, n))
        break;
    }
    CHECK (n > 10);
    recipe_free (&image);
    unit_context ("%s", w->name);
    qemu_wait ();
  }
  CHECK (nr_faults > 100);
  printf ("%lu faults of the host\n", nr_faults);
  qemu_finish ();
  return unit_finish ();
}
