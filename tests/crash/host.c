/* SPDX-License-Identifier: BSD-3-Clause */
/* host.c - see host.h.
 *
 * Owns      the bytes of the file, and the log.
 * Method    an operation is entered in the log when it starts, and changes the
 *           bytes at the moment in which its end is logged: so the file has
 *           changed in the order of the ends.  In between the lock is free,
 *           and others start and end. Two files have one clock, which advances
 *           with each start and end, so the order of operations on different
 *           files is known.
 * Locks     host.lock, a leaf.
 */
#include "config.h"

#include "host.h"

#include "late.h"
#include "ledger.h"
#include "tag.h"
#include "unit.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#define DEFAULT_MAX_BLOCK (UINT32_C (32) << 20)
#define HOLE 4096u

uint64_t
host_tick (struct host *h)
{
  return atomic_fetch_add (h->clock, 1) + 1;
}

uint64_t
host_now (const struct host *h)
{
  return atomic_load (h->clock) + 1;
}

uint64_t
host_random_locked (struct host *h)
{
  struct rng rng = { h->random };
  const uint64_t r = rng_next (&rng);

  h->random = rng.state;
  return r;
}

static bool
is_legal_locked (const struct host *h, uint64_t count, uint64_t host_off,
                 uint64_t max)
{
  const uint64_t block = h->io.min_block;

  return CHECK (count > 0) && CHECK (count <= max) &&
    CHECK (host_off <= h->size && count <= h->size - host_off) &&
    CHECK (host_off % block == 0 && count % block == 0);
}

static uint64_t
max_block (const struct host *h)
{
  return h->io.max_block ? h->io.max_block : DEFAULT_MAX_BLOCK;
}

static bool
is_flaky_locked (struct host *h, const struct host_op *op)
{
  unsigned flaky = h->spec.flaky;

  if (op->kind == HOST_WRITE && op->io_class == QCOW2_IO_HEADER)
    flaky += 3 * h->spec.flaky_tables;
  else if (op->kind == HOST_WRITE && op->io_class != QCOW2_IO_DATA)
    flaky += h->spec.flaky_tables;
  return host_random_locked (h) % 1000 < flaky;
}

/* As on a file system that never overwrites, except into space reserved for
 * commits.
 */
static bool
is_stingy_locked (struct host *h, const struct host_op *op)
{
  if (h->generous > 0) {
    h->generous -= op->kind == HOST_FLUSH;
    return false;
  }
  return op->kind == HOST_WRITE && op->io_class != QCOW2_IO_DATA &&
    h->spec.stingy > 0 && host_random_locked (h) % 1000 < h->spec.stingy;
}

/* Returns the errno with which this operation must fail, or 0. */
static int
fault_locked (struct host *h, struct host_op *op)
{
  const enum host_op_kind kind = op->kind;

  h->nr[kind]++;
  if (kind == HOST_FLUSH ? h->nr[kind] == h->spec.bad_flush :
      is_flaky_locked (h, op)) {
    h->failed++;
    op->unclear = kind != HOST_FLUSH && kind != HOST_READ && h->record &&
      host_random_locked (h) / 5 % 2;
    return EIO;
  }
  if (is_stingy_locked (h, op)) {
    h->failed++;
    op->unclear = h->record && host_random_locked (h) / 5 % 2;
    return ENOSPC;
  }
  if (h->fail_at == 0 || !(h->fail_kinds & 1u << kind))
    return 0;
  if (h->fail_at > 1) {
    h->fail_at--;
    return 0;
  }
  if (h->fail_more == 0)
    h->fail_at = 0;
  else
    h->fail_more--;
  h->failed++;
  return h->fail_errnum;
}

/* ---- The log ----------------------------------------------------------- */

struct host_op *
host_log_locked (struct host *h, const struct host_op *op)
{
  struct host_op *const entry = malloc (sizeof *entry);

  REQUIRE (entry != NULL);
  *entry = *op;
  entry->file = h->file;
  entry->start = host_tick (h);
  entry->end = TICK_NEVER;
  if (h->nr_log == h->log_room) {
    h->log_room = h->log_room ? 2 * h->log_room : 256;
    h->log = realloc (h->log, h->log_room * sizeof *h->log);
    REQUIRE (h->log != NULL);
  }
  h->log[h->nr_log++] = entry;
  return entry;
}

static void
forget_log (struct host *h)
{
  for (size_t i = 0; i < h->nr_log; ++i) {
    free (h->log[i]->data);
    free (h->log[i]);
  }
  h->nr_log = h->nr_late = 0;
}

void
host_record (struct host *h)
{
  forget_log (h);
  h->record = true;
  free (h->initial);
  h->initial = malloc (h->spec.capacity);
  REQUIRE (h->initial != NULL);
  memcpy (h->initial, h->bytes, h->spec.capacity);
  h->initial_size = h->size;
  if (h->data != NULL)
    host_record (h->data);
}

/* ---- The medium -------------------------------------------------------- */

/* Every block that is not zero is allocated, and no other. */
static void
init_room (struct host *h)
{
  static const unsigned char zeros[HOLE];

  if (h->spec.room == 0)
    return;
  h->solid = calloc (h->spec.capacity / HOLE, sizeof *h->solid);
  REQUIRE (h->solid != NULL);
  for (uint64_t i = 0; i < h->size / HOLE; ++i)
    h->solid[i] = memcmp (h->bytes + i * HOLE, zeros, HOLE) != 0;
}

/* Allocate blocks; returns how many bytes of the range can be written. */
static uint64_t
take_room_locked (struct host *h, uint64_t len, uint64_t host_off)
{
  const uint64_t end = host_off + len;

  for (uint64_t i = host_off / HOLE; h->solid && i * HOLE < end; ++i) {
    if (!h->solid[i] && h->spec.room == 1)
      return i * HOLE > host_off ? i * HOLE - host_off : 0;
    h->spec.room -= !h->solid[i];
    h->solid[i] = true;
  }
  return len;
}

/* Free whole blocks of a range. */
static void
give_room_locked (struct host *h, uint64_t len, uint64_t host_off)
{
  const uint64_t end = host_off + len;

  for (uint64_t i = (host_off + HOLE - 1) / HOLE;
       h->solid && (i + 1) * HOLE <= end; ++i) {
    h->spec.room += h->solid[i];
    h->solid[i] = false;
  }
}

/* ---- Operations -------------------------------------------------------- */

static void
delay (struct host *h, uint64_t random)
{
  if (h->spec.delay_us == 0)
    return;
  if (random % 4 == 0)
    sched_yield ();
  else
    usleep ((useconds_t) (random / 4 % h->spec.delay_us));
}

/* How much of a failed operation is done: it ends between sectors. */
static uint64_t
part_of (const struct host_op *op, uint64_t random, uint32_t block)
{
  const uint64_t unit = block > SECTOR ? block : SECTOR;
  const uint64_t end = op->host_off + random % (op->len + 1);

  return end / unit * unit > op->host_off ?
    end / unit * unit - op->host_off : 0;
}

/* Start an operation; returns the errno with which it must fail, or 0.  The
 * rest of op->len is done in any case.
 */
static int
enter (struct host *h, struct host_op *op, struct host_op **ret_entry)
{
  const bool has_range = op->kind <= HOST_TRIM;
  const bool in_part = op->kind == HOST_WRITE || op->kind == HOST_ZERO;
  uint64_t random;
  int fault;

  pthread_mutex_lock (&h->lock);
  CHECK (h->inside++ == 0 || h->io.concurrent);
  late_move_locked (h);
  if (has_range && op->kind != HOST_READ)
    late_supersede_locked (h, op->host_off, op->len);
  fault = fault_locked (h, op);
  random = host_random_locked (h);
  if (has_range &&
      !is_legal_locked (h, op->len, op->host_off, max_block (h))) {
    fault = EINVAL;
    op->len = 0;
  }
  else if (op->unclear && has_range) {
    late_add_locked (h, op);
    op->len = 0;
  }
  else if (fault != 0)
    op->len = in_part ? part_of (op, random / 3, h->io.min_block) : 0;
  if (in_part) {
    const uint64_t len = take_room_locked (h, op->len, op->host_off);

    fault = len < op->len ? ENOSPC : fault;
    op->len = len;
  }
  op->failed = fault != 0;
  *ret_entry = NULL;
  if (h->record && op->kind != HOST_READ &&
      (has_range ? op->len > 0 : fault == 0 || op->unclear ||
       op->kind == HOST_FLUSH))
    *ret_entry = host_log_locked (h, op);
  pthread_mutex_unlock (&h->lock);
  delay (h, random);
  return fault;
}

static void
leave_locked (struct host *h, struct host_op *entry)
{
  if (entry != NULL)
    entry->end = host_tick (h);
  h->inside--;
}

/* The bytes of a range become those of 'buf', or zeros. */
static int
change (struct host *h, enum host_op_kind kind, enum qcow2_io_class io_class,
        uint32_t count, uint64_t host_off, const void *buf)
{
  struct host_op op = {
    .kind = kind, .io_class = io_class, .host_off = host_off, .len = count,
  };
  struct host_op *entry;
  int fault;

  if (buf != NULL && h->record) {
    op.data = malloc (count);
    REQUIRE (op.data != NULL);
    memcpy (op.data, buf, count);
  }
  fault = enter (h, &op, &entry);
  if (entry == NULL)
    free (op.data);
  pthread_mutex_lock (&h->lock);
  if (host_off <= h->bad_start && host_off + op.len >= h->bad_end)
    h->bad_start = h->bad_end = 0;
  if (buf != NULL)
    memcpy (h->bytes + host_off, buf, op.len);
  else
    memset (h->bytes + host_off, 0, op.len);
  leave_locked (h, entry);
  pthread_mutex_unlock (&h->lock);
  return fault;
}

static int
host_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class io_class)
{
  struct host *const h = opaque;
  struct host_op op = {
    .kind = HOST_READ, .io_class = io_class, .host_off = host_off,
    .len = count,
  };
  struct host_op *entry;
  int fault = enter (h, &op, &entry);

  pthread_mutex_lock (&h->lock);
  if (fault == 0 && host_off < h->bad_end && host_off + count > h->bad_start)
    fault = EIO;
  if (fault)
    memset (buf, 0xe1, count);
  else
    memcpy (buf, h->bytes + host_off, count);
  leave_locked (h, entry);
  pthread_mutex_unlock (&h->lock);
  return fault;
}

static int
host_pwrite (void *opaque, const void *buf, uint32_t count,
             uint64_t host_off, enum qcow2_io_class io_class)
{
  return change (opaque, HOST_WRITE, io_class, count, host_off, buf);
}

static int
give_back (struct host *h, int fault, uint32_t count, uint64_t host_off)
{
  pthread_mutex_lock (&h->lock);
  if (fault == 0)
    give_room_locked (h, count, host_off);
  pthread_mutex_unlock (&h->lock);
  return fault;
}

static int
host_zero (void *opaque, uint32_t count, uint64_t host_off, bool may_punch,
           enum qcow2_io_class io_class)
{
  const int fault =
    change (opaque, HOST_ZERO, io_class, count, host_off, NULL);

  return may_punch ? give_back (opaque, fault, count, host_off) : fault;
}

static int
host_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  struct host *const h = opaque;
  const size_t len = (count + (size_t) 7) & ~(size_t) 7;
  unsigned char *garbage = NULL;
  int fault;

  if (h->spec.trim == HOST_TRIM_GARBAGE) {
    garbage = malloc (len);
    REQUIRE (garbage != NULL);
    tag_garbage (garbage, len, host_off);
  }
  fault = change (h, HOST_TRIM, QCOW2_IO_DATA, count, host_off, garbage);
  free (garbage);
  return give_back (h, fault, count, host_off);
}

/* Flush, grow, cut: no range. */
static int
whole_file (struct host *h, enum host_op_kind kind, uint64_t size)
{
  struct host_op op = { .kind = kind, .host_off = size };
  struct host_op *entry;
  const int fault = enter (h, &op, &entry);

  pthread_mutex_lock (&h->lock);
  if ((fault == 0 || op.unclear) && kind != HOST_FLUSH) {
    if (kind == HOST_CUT) {
      late_supersede_locked (h, size, h->size - size);
      memset (h->bytes + size, 0, h->size - size);
      give_room_locked (h, h->size - size, size);
    }
    h->size = size;
  }
  leave_locked (h, entry);
  pthread_mutex_unlock (&h->lock);
  return fault;
}

static int
host_flush (void *opaque)
{
  return whole_file (opaque, HOST_FLUSH, 0);
}

static uint64_t
size_of (struct host *h)
{
  uint64_t size;

  pthread_mutex_lock (&h->lock);
  size = h->size;
  pthread_mutex_unlock (&h->lock);
  return size;
}

static int
host_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct host *const h = opaque;
  const uint64_t block = h->io.min_block > 512 ? h->io.min_block : 512;
  uint64_t size = size_of (h);
  int fault;

  CHECK (h->most == 0 || min_size <= h->most);
  if (min_size > h->spec.capacity)
    return ENOSPC;
  if (min_size > size) {
    size = (min_size + block - 1) / block * block;
    /* Often by more than needed. */
    if (size / block % 2 == 0)
      size += 16 * block;
    if (size < h->size + h->spec.step)
      size = (h->size + h->spec.step) / block * block;
    if (size > h->spec.capacity)
      size = h->spec.capacity;
    fault = whole_file (h, HOST_GROW, size);
    if (fault != 0)
      return fault;
  }
  *ret_size = size;
  return 0;
}

static int
host_cut (void *opaque, uint64_t size)
{
  struct host *const h = opaque;

  if (!CHECK (size <= size_of (h)))
    return EINVAL;
  return whole_file (h, HOST_CUT, size < h->io.size ? h->io.size : size);
}

/* For good: what was there at the start, too. */
static int
host_shorten (void *opaque, uint64_t size)
{
  struct host *const h = opaque;

  return size < size_of (h) ? whole_file (h, HOST_CUT, size) : 0;
}

static int
host_spend (void *opaque)
{
  struct host *const h = opaque;
  bool gives;

  pthread_mutex_lock (&h->lock);
  gives = h->spec.mean == 0 || host_random_locked (h) % 1000 >= h->spec.mean;
  if (gives) {
    h->generous = 3;
    h->spent++;
  }
  pthread_mutex_unlock (&h->lock);
  return gives ? 0 : ENOSPC;
}

static int
host_extents (void *opaque, uint32_t count, uint64_t host_off,
              qcow2_host_extent_fn fn, void *fn_opaque)
{
  struct host *const h = opaque;
  const uint64_t end = host_off + count;
  static const unsigned char zeros[HOLE];

  pthread_mutex_lock (&h->lock);
  if (!is_legal_locked (h, count, host_off, UINT64_C (1) << 30)) {
    pthread_mutex_unlock (&h->lock);
    return EINVAL;
  }
  pthread_mutex_unlock (&h->lock);
  while (host_off < end) {
    const uint64_t start = host_off - host_off % HOLE;
    uint64_t to = start + HOLE;
    bool hole;

    pthread_mutex_lock (&h->lock);
    hole = memcmp (h->bytes + start, zeros,
                   to <= h->size ? HOLE : h->size - start) == 0;
    pthread_mutex_unlock (&h->lock);
    if (to > end)
      to = end;
    if (fn (fn_opaque, host_off, to - host_off, hole) != 0)
      return 0;
    host_off = to;
  }
  return 0;
}

/* ---- Life -------------------------------------------------------------- */

void
host_init (struct host *h, const struct host_spec *spec, const void *image,
           uint64_t size)
{
  memset (h, 0, sizeof *h);
  pthread_mutex_init (&h->lock, NULL);
  h->spec = *spec;
  h->spec.capacity = (spec->capacity + 4095) & ~UINT64_C (4095);
  REQUIRE (size <= h->spec.capacity);
  h->bytes = calloc (1, h->spec.capacity);
  REQUIRE (h->bytes != NULL);
  memcpy (h->bytes, image, size);
  size = (size + 4095) & ~UINT64_C (4095);
  if (!spec->grows) {
    /* Tables cut off by the end of the file must go on with zeros. */
    const uint64_t from = (size + 65535) & ~UINT64_C (65535);

    if (from < h->spec.capacity)
      tag_garbage (h->bytes + from, h->spec.capacity - from, 77);
    size = h->spec.capacity;
  }
  h->size = h->initial_size = size;
  init_room (h);
  h->own_clock = 1;
  h->clock = &h->own_clock;
  h->ops = (struct qcow2_io_ops) {
    .pread = host_pread,
    .extents = spec->holes ? host_extents : NULL,
    .pwrite = host_pwrite,
    .flush = host_flush,
    .zero = spec->no_zero ? NULL : host_zero,
    .trim = spec->no_trim ? NULL : host_trim,
    .grow = spec->grows ? host_grow : NULL,
    .cut = spec->grows ? host_cut : NULL,
    .shorten = spec->grows ? host_shorten : NULL,
    .spend = spec->stingy ? host_spend : NULL,
  };
  h->io = (struct qcow2_io) {
    .ops = &h->ops,
    .opaque = h,
    .size = size,
    .min_block = spec->min_block ? spec->min_block : 1,
    .max_block = spec->max_block,
    .concurrent = !spec->in_turn, .coherent = true,
  };
}

void
host_reopen (struct host *h)
{
  h->io.size = h->size;
  if (h->data != NULL)
    host_reopen (h->data);
}

void
host_join (struct host *h, struct host *data)
{
  data->clock = &h->own_clock;
  data->file = 1;
  h->data = data;
}

void
host_free (struct host *h)
{
  forget_log (h);
  free (h->late);
  free (h->log);
  free (h->initial);
  free (h->solid);
  free (h->bytes);
  pthread_mutex_destroy (&h->lock);
}

void
host_fail (struct host *h, unsigned kinds, unsigned long at,
           unsigned long more, int errnum)
{
  pthread_mutex_lock (&h->lock);
  h->fail_kinds = kinds;
  h->fail_at = at;
  h->fail_more = more;
  h->fail_errnum = errnum;
  h->failed = 0;
  pthread_mutex_unlock (&h->lock);
}

void
host_steady (struct host *h)
{
  pthread_mutex_lock (&h->lock);
  h->spec.flaky = h->spec.flaky_tables = h->spec.stingy = 0;
  pthread_mutex_unlock (&h->lock);
  if (h->data != NULL)
    host_steady (h->data);
}

void
host_settle (struct host *h)
{
  pthread_mutex_lock (&h->lock);
  late_supersede_locked (h, 0, UINT64_MAX);
  pthread_mutex_unlock (&h->lock);
  if (h->data != NULL)
    host_settle (h->data);
}

void
host_save (struct host *h, const char *path)
{
  FILE *const f = fopen (path, "wb");

  REQUIRE (f != NULL);
  REQUIRE (fwrite (h->bytes, 1, h->size, f) == h->size);
  REQUIRE (fclose (f) == 0);
}
