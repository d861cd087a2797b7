/* SPDX-License-Identifier: BSD-3-Clause */
/* test-refusals.c - hosts that refuse optional operations.
 *
 * Owns      one host for each optional operation, and each way to refuse it.
 * Method    requests that use all of them must succeed on an image, with the
 *           right result on the disk.  Then the refusals are counted: one for
 *           lack of support, a few for alignment, and any number for other
 *           errors.
 */
#include "config.h"

#include "hooked_disk.h"

#include "io/io.h"

#include <errno.h>

#define KiB UINT64_C (1024)
#define MiB (KiB * KiB)
#define DISK (7 * MiB)
#define CLUSTER_BITS 19

enum op { OP_ZERO, OP_TRIM, OP_CACHE, OP_EXTENTS, NR_OPS };
static const char *const op_names[] = { "zero", "trim", "cache", "extents" };

/* A host that refuses; the host's functions get a pointer to it. */
struct fussy {
  struct hooked_disk d;         /* first */
  enum op op;
  int errnum;
  unsigned long from;           /* refuses from that call on (1 = first), ... */
  bool once;                    /* ... or just that one, ... */
  uint32_t unit;                /* ... or what is not aligned to this */
  unsigned long asked, refused;
  unsigned char *disk;          /* what must be there */
};

static int
refusal (struct fussy *f, enum op op, uint64_t count, uint64_t host_off)
{
  bool refuse;

  if (op != f->op)
    return 0;
  f->asked++;
  refuse = f->unit ? (host_off | count) % f->unit != 0
    : f->once ? f->asked == f->from : f->asked >= f->from;
  f->refused += refuse;
  return refuse ? f->errnum : 0;
}

static int
fussy_zero (void *opaque, uint32_t count, uint64_t host_off, bool may_punch,
            enum qcow2_io_class io_class)
{
  struct fussy *const f = opaque;
  const int r = refusal (f, OP_ZERO, count, host_off);

  return r ? r : f->d.inner.zero (opaque, count, host_off, may_punch,
                                  io_class);
}

static int
fussy_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  struct fussy *const f = opaque;
  const int r = refusal (f, OP_TRIM, count, host_off);

  return r ? r : f->d.inner.trim (opaque, count, host_off);
}

static int
fussy_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  return refusal (opaque, OP_CACHE, count, host_off);
}

/* It may fail when it has said something already. */
static int
fussy_extents (void *opaque, uint32_t count, uint64_t host_off,
               qcow2_host_extent_fn fn, void *fn_opaque)
{
  struct fussy *const f = opaque;
  const int r = refusal (f, OP_EXTENTS, count, host_off);

  if (r == 0)
    return f->d.inner.extents (opaque, count, host_off, fn, fn_opaque);
  if (count > 8192 && r == EIO)
    CHECK_EQ (f->d.inner.extents (opaque, 4096, host_off, fn, fn_opaque), 0);
  return r;
}

static void
open_fussy (struct fussy *f)
{
  struct host *const h = &f->d.host;

  hooked_disk_build (&f->d, CLUSTER_BITS, 4, DISK, 2);
  hooked_disk_serve (&f->d, &(struct host_spec) {
      .capacity = 12 * MiB, .grows = true, .holes = true,
      .trim = HOST_TRIM_GARBAGE });
  h->ops.zero = fussy_zero;
  h->ops.trim = fussy_trim;
  h->ops.cache = fussy_cache;
  h->ops.extents = fussy_extents;
  hooked_disk_open (&f->d);
  f->disk = calloc (1, DISK);
  REQUIRE (f->disk != NULL);
  for (unsigned i = 0; i < 2; ++i)
    memset (f->disk + (i << CLUSTER_BITS), 'a' + (int) i, 1 << CLUSTER_BITS);
}

static void
close_fussy (struct fussy *f)
{
  free (f->disk);
  hooked_disk_free (&f->d);
}

/* ---- Requests ------------------------------------------------------------ */

static void
write_some (struct fussy *f, uint64_t guest_off, uint32_t len, int byte)
{
  struct hooked_disk *const d = &f->d;

  memset (f->disk + guest_off, byte, len);
  CHECK_EQ (qcow2_pwrite (d->image, &d->host.io, f->disk + guest_off, len,
                          guest_off, false, &d->err), 0);
}

static void
zero_some (struct fussy *f, uint64_t guest_off, uint32_t len, unsigned flags)
{
  struct hooked_disk *const d = &f->d;

  memset (f->disk + guest_off, 0, len);
  CHECK_EQ (qcow2_zero (d->image, &d->host.io, len, guest_off, flags, &d->err),
            0);
}

static void
trim_one (struct fussy *f, uint64_t cluster)
{
  struct hooked_disk *const d = &f->d;

  memset (f->disk + (cluster << CLUSTER_BITS), 0, 1 << CLUSTER_BITS);
  CHECK (hooked_disk_trim (d, cluster));
  CHECK (hooked_disk_flush (d));
}

static int
ignore_extent (void *opaque, uint64_t guest_off, uint64_t len,
               enum qcow2_extent_type type)
{
  uint64_t *const next = opaque;

  CHECK_EQ (guest_off, *next);
  (void) type;
  *next += len;
  return 0;
}

static void
look_around (struct fussy *f)
{
  struct hooked_disk *const d = &f->d;
  uint64_t next = 0;

  CHECK_EQ (qcow2_cache (d->image, &d->host.io, DISK, 0, &d->err), 0);
  CHECK_EQ (qcow2_extents (d->image, &d->host.io, DISK, 0, ignore_extent,
                           &next, &d->err), 0);
  CHECK_EQ (next, DISK);
}

static void
check_disk (struct fussy *f)
{
  struct hooked_disk *const d = &f->d;
  unsigned char *const buf = malloc (DISK);

  REQUIRE (buf != NULL);
  if (CHECK_EQ (qcow2_pread (d->image, &d->host.io, buf, DISK, 0, &d->err), 0))
    CHECK_BYTES (buf, f->disk, DISK);
  free (buf);
}

/* Whatever is not aligned; in clusters that have been used before, too. */
static void
request_all (struct fussy *f)
{
  for (unsigned i = 0; i < 4; ++i) {
    const uint64_t at = (4 + 2 * (uint64_t) i) << CLUSTER_BITS;

    write_some (f, at + 1000, 512, 'p');
    write_some (f, at + MiB - 99, 7, 'q');
    look_around (f);
    trim_one (f, 4 + 2 * i);
    write_some (f, at + 300001, 3, 'r');
    zero_some (f, at + 300000, 2, QCOW2_ZERO_MAY_TRIM);
    zero_some (f, at + 4096, 400 * KiB, 0);
    trim_one (f, i % 2);
    write_some (f, ((uint64_t) i % 2 << CLUSTER_BITS) + 70000, 1, 's');
  }
  look_around (f);
  check_disk (f);
}

/* The image, opened anew by one that refuses nothing. */
static void
check_end (struct fussy *f)
{
  struct hooked_disk *const d = &f->d;

  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  qcow2_close (d->image);
  f->op = NR_OPS;
  hooked_disk_open (d);
  check_disk (f);
}

/* ---- Tests --------------------------------------------------------------- */

static const struct {
  int errnum;
  bool remembered;
} refusals[] = {
  { ENOTSUP, true }, { ENOSYS, true }, { ENOTTY, true }, { ENODEV, true },
  { EINVAL, true }, { EIO, false }, { ENOSPC, false }, { EDQUOT, false },
  { EPERM, false }, { EBUSY, false }, { ENOMEM, false }, { EINTR, false },
  { ESHUTDOWN, false }, { EFBIG, false }, { EROFS, false },
};

static void
refuse (enum op op, size_t which, unsigned long from, bool once)
{
  struct fussy f = {
    .op = op, .errnum = refusals[which].errnum, .from = from, .once = once,
  };
  const bool aligned = op == OP_ZERO || op == OP_TRIM;

  unit_context ("%s refused with %s, %s call %lu", op_names[op],
                strerror (f.errnum), once ? "at" : "from", from);
  open_fussy (&f);
  request_all (&f);
  CHECK (f.asked >= from);
  if (!once && f.errnum == EINVAL && aligned)
    CHECK (f.refused <= 2 * 4); /* zeroing is of two kinds */
  else if (!once && f.errnum != EINVAL && refusals[which].remembered)
    CHECK (f.refused <= 2);
  else if (!once && !refusals[which].remembered)
    CHECK (f.refused >= 2);
  check_end (&f);
  close_fussy (&f);
}

static void
test_each (void)
{
  for (enum op op = 0; op < NR_OPS; ++op)
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; ++i) {
      for (unsigned long n = 1; n <= 3; ++n)
        refuse (op, i, n, true);
      refuse (op, i, 1, false);
      refuse (op, i, 2, false);
    }
}

/* They take what is aligned, so they are asked for that. */
static void
test_units (void)
{
  static const uint32_t units[] = { 512, 1024, 4096, 16384, 65536 };

  for (enum op op = OP_ZERO; op <= OP_TRIM; ++op)
    for (size_t i = 0; i < sizeof units / sizeof units[0]; ++i) {
      struct fussy f = { .op = op, .errnum = EINVAL, .unit = units[i] };

      unit_context ("%s of multiples of %u", op_names[op], units[i]);
      open_fussy (&f);
      request_all (&f);
      CHECK (f.refused <= 2 * 3);
      CHECK (f.asked - f.refused >= 4);
      check_end (&f);
      close_fussy (&f);
    }
}

/* ---- What is asked for as fast ------------------------------------------- */

static int fast_errnum;

static int
some_fast_zero (void *opaque, uint32_t count, uint64_t host_off,
                bool may_punch, enum qcow2_io_class io_class)
{
  struct hooked_disk *const d = opaque;

  return fast_errnum ? fast_errnum
    : d->inner.zero (opaque, count, host_off, may_punch, io_class);
}

/* Either it is done, without much writing, or nothing is written and the
 * client is told that it would be slow.
 */
static void
try_fast (struct hooked_disk *d, struct q2_io *io, int errnum)
{
  struct qcow2_error err;
  int r;

  unit_context ("fast, %s", errnum ? strerror (errnum) : "no error");
  fast_errnum = errnum;
  d->host.nr[HOST_WRITE] = 0;
  r = q2_io_fast_zero (io, MiB, MiB, true, &err);
  CHECK_EQ (d->host.nr[HOST_WRITE], 0);
  if (errnum == 0)
    CHECK_EQ (r, 0);
  else if (CHECK_EQ (r, -1))
    CHECK_EQ (err.kind, QCOW2_ERR_NOT_FAST);
}

static void
test_fast (void)
{
  struct hooked_disk d;
  struct q2_io_shared shared = { .file = NULL };
  struct q2_io io = { .host = &d.host.io, .shared = &shared };

  q2_io_shared_init (&shared);
  hooked_disk_build (&d, CLUSTER_BITS, 4, DISK, 2);
  hooked_disk_serve (&d, &(struct host_spec) { .capacity = 4 * MiB });
  hooked_disk_open (&d);
  io.file_size = d.host.io.size;
  d.host.ops.fast_zero = some_fast_zero;
  try_fast (&d, &io, 0);
  for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; ++i)
    if (!refusals[i].remembered)
      try_fast (&d, &io, refusals[i].errnum);
  try_fast (&d, &io, 0);
  try_fast (&d, &io, ENOTSUP);
  d.host.ops.fast_zero = NULL;
  try_fast (&d, &io, ENOTSUP);
  hooked_disk_free (&d);
  q2_io_shared_destroy (&shared);
}

int
main (void)
{
  test_each ();
  test_units ();
  test_fast ();
  return unit_finish ();
}
