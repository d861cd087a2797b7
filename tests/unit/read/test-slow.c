/* SPDX-License-Identifier: BSD-3-Clause */
/* test-slow.c - the whole engine on a slow host.
 *
 * Reads must be right with any reading ahead of any thread, and take few
 * requests, few bytes, and none that is useless.
 */
#include "config.h"

#include "slow.h"
#include "threads.h"

#define MiB (UINT64_C (1) << 20)
#define READAHEAD (16 * MiB)
#define HEAD (512 * UINT64_C (1024))

/* ---- Right bytes -------------------------------------------------------- */

static void
read_at_random (struct slow *s, struct memory_io *m, struct rng *rng,
                unsigned times)
{
  while (times-- > 0) {
    const uint64_t at = rng_below (rng, s->r.len);
    uint64_t len = 1 + rng_below (rng, s->r.len - at), end;

    if (rng_below (rng, 3) > 0)
      len = 1 + rng_below (rng, len < 5000 ? len : 5000);
    if (rng_below (rng, 6) > 0)
      CHECK_EQ (slow_read (s, m, at, len), 0);
    else {
      CHECK_EQ (slow_extents (s, m, at, len, &end), 0);
      CHECK_EQ (end, at + len);
    }
  }
}

static uint64_t
some_step (const struct slow *s, struct rng *rng)
{
  const uint64_t most = s->r.len < 40 ? s->r.len : s->r.len / 8;

  return 1 + s->r.len / 24 + rng_below (rng, most);
}

static void
test_random_images (void)
{
  for (unsigned seed = 1; seed <= unit_scaled (30); ++seed) {
    struct rng rng = { seed };
    struct slow s;
    uint64_t end;

    slow_init_random (&s, &rng, seed % SLOW_NR_MODES, 96 << 10);
    unit_context ("seed %u, %s: %s", seed, slow_mode_name (s.mode),
                  random_image_describe (&s.r));
    if (s.r.b.size % 512 == 0 && rng_below (&rng, 4) == 0)
      s.m.io.min_block = 512;
    if (rng_below (&rng, 4) == 0)
      s.m.io.max_block = 65536;
    slow_open (&s, rng_below (&rng, 4) ? READAHEAD : 0);
    slow_copy (&s, &s.m, some_step (&s, &rng));
    read_at_random (&s, &s.m, &rng, 12);
    CHECK_EQ (slow_extents (&s, &s.m, 0, s.r.len, &end), 0);
    CHECK_EQ (end, s.r.len);
    slow_free (&s);
  }
}

/* ---- Several clients ---------------------------------------------------- */

struct clients {
  struct slow *s;
  uint64_t seed, step;
  _Atomic uint64_t next;        /* all take part in one copy */
};

static void
share_copy (void *arg, unsigned nr)
{
  struct clients *const c = arg;
  const uint64_t end = c->s->r.len;
  uint64_t at;

  (void) nr;
  while ((at = atomic_fetch_add (&c->next, c->step)) < end)
    CHECK_EQ (slow_read (c->s, &c->s->m, at, end - at < c->step ? end - at
                         : c->step), 0);
}

/* Where the host can be used by several at once they share one way to it,
 * else each has its own.
 */
static void
use_image (void *arg, unsigned nr)
{
  struct clients *const c = arg;
  struct slow *const s = c->s;
  struct rng rng = { c->seed * 10 + nr };
  struct memory_io own;
  struct memory_io *m = &s->m;
  uint64_t at;

  unit_context ("thread %u of seed %" PRIu64 ", %s: %s", nr, c->seed,
                slow_mode_name (s->mode), random_image_describe (&s->r));
  if (s->mode != SLOW_CONCURRENT) {
    slow_way_init (s, &own);
    m = &own;
  }
  if (nr == 0)
    slow_copy (s, m, some_step (s, &rng));
  else if (nr == 1)
    read_at_random (s, m, &rng, 25);
  else
    while ((at = atomic_fetch_add (&c->next, c->step)) < s->r.len)
      CHECK_EQ (slow_read (s, m, at, s->r.len - at < c->step
                           ? s->r.len - at : c->step), 0);
  slow_way_end (m);
}

static void
run_clients (struct slow *s, uint64_t seed, uint64_t step, unsigned nr)
{
  struct clients c = { .s = s, .seed = seed, .step = step };
  struct threads threads;

  threads_start (&threads, nr, use_image, &c);
  threads_join (&threads);
}

static void
test_clients (void)
{
  for (unsigned seed = 1000; seed < 1000 + unit_scaled (12); ++seed) {
    struct rng rng = { seed };
    struct slow s;

    slow_init_random (&s, &rng, seed % SLOW_NR_MODES, 64 << 10);
    slow_open (&s, READAHEAD);
    run_clients (&s, seed, some_step (&s, &rng), 6);
    slow_free (&s);
  }
  for (unsigned layout = 0; layout < SLOW_NR_LAYOUTS; ++layout) {
    struct slow s;

    slow_init_layout (&s, layout, layout % SLOW_NR_MODES, 64);
    slow_open (&s, READAHEAD);
    run_clients (&s, layout, 100000, 8);
    slow_free (&s);
  }
}

/* ---- Few requests, few bytes -------------------------------------------- */

static uint64_t
read_twice (const struct slow *s)
{
  uint64_t bytes = 0;

  for (uint64_t i = 0; i < s->r.b.size / 512; ++i)
    if (s->sector_reads[i] > 1)
      bytes += (s->sector_reads[i] - 1) * 512;
  return bytes;
}

static void
allow (void *arg, uint64_t host_sector)
{
  unsigned char *const allowed = arg;

  allowed[host_sector] = 1;
}

/* No sector was read but those in 'allowed', the first 'head' bytes, and the
 * rest of L2 tables.
 */
static void
check_allowed (const struct slow *s, unsigned char *allowed, uint64_t head)
{
  const uint64_t table = builder_entry_off (&s->r.b, 0) / 512;

  memset (allowed, 1, head / 512);
  memset (allowed + table, 1, SLOW_CLUSTER / 512);
  for (uint64_t i = 0; i < s->r.b.size / 512; ++i)
    if (s->sector_reads[i] > 0 && !CHECK (allowed[i]))
      return;
}

static unsigned char *
allowed_new (const struct slow *s)
{
  unsigned char *const allowed = calloc (s->r.b.size / 512 + 1, 1);

  REQUIRE (allowed != NULL);
  return allowed;
}

static void
check_stats (struct slow *s)
{
  struct qcow2_stats stats;

  slow_settle (s);
  qcow2_get_stats (s->image, &stats);
  for (unsigned i = 0; i < QCOW2_IO_NR_CLASSES; ++i)
    CHECK_EQ (stats.io[i].requests, s->m.reads[i]);
  CHECK (stats.ahead_used_bytes <= stats.ahead_bytes);
  CHECK (stats.ahead_bytes <= s->m.read_bytes);
}

/* Requests that a sequential copy of the image may take. */
static uint64_t
max_requests (const struct slow *s, enum slow_layout layout)
{
  const uint64_t mib = (s->r.b.size + MiB - 1) / MiB;
  const uint64_t clusters = s->r.len / SLOW_CLUSTER;

  switch (layout) {
  case SLOW_PLAIN: return mib + mib / 2 + 8;
  case SLOW_HOLES: return clusters / 16 * 2 + 8;
  case SLOW_SCATTERED:
  case SLOW_PACKED_SCATTERED: return clusters + 2;
  case SLOW_PACKED:
  case SLOW_MIXED:
    /* Jobs of one cluster do not see that it is packed. */
    return s->mode == SLOW_SERIAL ? mib * 5 / 4 + 4 : mib * 11 / 10 + 3;
  }
  return 0;
}

/* If 'settled' each request finds what was to be read ahead done: then the
 * numbers do not depend on who is faster.  Else the reader may overtake,
 * and what it reads itself is read in vain in the background.
 */
static void
test_copy (struct slow *s, enum slow_layout layout, enum slow_mode mode,
           uint64_t step, bool settled)
{
  const bool packed = layout == SLOW_PACKED || layout == SLOW_MIXED;
  unsigned char *allowed;

  slow_set_mode (s, mode);
  unit_context ("copy by %" PRIu64 ", %s, %s, file of %" PRIu64 " KiB%s",
                step, slow_layout_name (layout), slow_mode_name (mode),
                s->r.b.size / 1024, settled ? ", settled" : "");
  slow_open (s, READAHEAD);
  CHECK_EQ (s->m.calls, 1);
  CHECK (s->m.read_bytes <= HEAD);
  for (uint64_t at = 0; at < s->r.len; at += step) {
    CHECK_EQ (slow_read (s, &s->m, at, s->r.len - at < step
                         ? s->r.len - at : step), 0);
    if (settled)
      slow_settle (s);
  }
  check_stats (s);
  if (settled) {
    CHECK (memory_io_total_reads (&s->m) <= max_requests (s, layout));
    /* The head may come again as a part of the first chunk, and a chunk
     * around scattered clusters that are neighbours by chance.
     */
    CHECK (read_twice (s) <= s->r.b.size / 20 +
           (packed || layout == SLOW_PACKED_SCATTERED ? HEAD : 0));
  }
  else {
    /* Also of packed ones on a busy machine, where a reader that has to
     * wait for the CPU finds that a chunk had to go.
     */
    CHECK (memory_io_total_reads (&s->m) <= 2 * max_requests (s, layout));
    CHECK (read_twice (s) <= s->r.b.size);
  }
  if (!packed) {
    allowed = allowed_new (s);
    slow_needed (s, 0, s->r.len, allow, allowed);
    check_allowed (s, allowed, HEAD);
    free (allowed);
  }
  slow_close (s);
}

static void
test_copies (void)
{
  for (unsigned layout = 0; layout < SLOW_NR_LAYOUTS; ++layout) {
    struct slow s;

    slow_init_layout (&s, layout, SLOW_CONCURRENT, 144);
    for (unsigned mode = 0; mode < SLOW_NR_MODES; ++mode) {
      test_copy (&s, layout, mode, 64 << 10, true);
      test_copy (&s, layout, mode, 256 << 10, true);
      test_copy (&s, layout, mode, 64 << 10, false);
    }
    slow_free (&s);
  }
}

/* Many threads take part in one copy of a packed image: still a chunk is
 * requested once.
 */
static void
test_shared_copy (void)
{
  struct clients c = { .step = 64 << 10 };
  struct threads threads;
  struct slow s;

  if (!qcow2_has_zlib ())
    return;                     /* then the builder packs nothing */
  slow_init_layout (&s, SLOW_MIXED, SLOW_CONCURRENT, 144);
  slow_open (&s, READAHEAD);
  c.s = &s;
  threads_start (&threads, 8, share_copy, &c);
  threads_join (&threads);
  unit_context ("%s", "shared copy");
  check_stats (&s);
  /* A thread that is starved comes back to a chunk that had to go. */
  CHECK (memory_io_total_reads (&s.m) <=
         max_requests (&s, SLOW_MIXED) * 3 / 2);
  CHECK (read_twice (&s) <= s.r.b.size / 4 + HEAD);
  slow_free (&s);
}

/* Reading ahead is off: not a sector that was not asked for, in whatever
 * order; clusters that are asked for in parts come from the cache.
 */
static void
test_off (enum slow_layout layout, enum slow_mode mode)
{
  struct rng rng = { layout };
  unsigned char *allowed;
  struct slow s;

  slow_init_layout (&s, layout, mode, 64);
  unit_context ("no reading ahead, %s, %s", slow_layout_name (layout),
                slow_mode_name (mode));
  slow_open (&s, 0);
  allowed = allowed_new (&s);
  for (unsigned i = 0; i < 40; ++i) {
    const uint64_t at = i < 20 ? i * 4096 * 3
      : rng_below (&rng, s.r.len - 50000);
    const uint64_t len = i < 20 ? 4096 * 3 : 1 + rng_below (&rng, 50000);

    CHECK_EQ (slow_read (&s, &s.m, at, len), 0);
    slow_needed (&s, at, len, allow, allowed);
  }
  CHECK_EQ (s.m.lent, 0);
  slow_settle (&s);
  for (uint64_t i = 0; i < s.r.b.size / 512; ++i)
    if (s.sector_reads[i] > 0 && !allowed[i] && i >= 65536 / 512 &&
        (i < s.r.b.l1_off / 512 || i > s.r.b.l1_off / 512 + 1) &&
        (i < builder_entry_off (&s.r.b, 0) / 512 ||
         i >= builder_entry_off (&s.r.b, 0) / 512 + SLOW_CLUSTER / 512)) {
      CHECK (!"a sector that nobody asked for");
      break;
    }
  free (allowed);
  slow_free (&s);
}

/* Few random reads of an image that is not packed read what they need, and
 * nothing of that twice at once.
 */
static void
test_random_reads (enum slow_layout layout, enum slow_mode mode)
{
  struct rng rng = { layout };
  unsigned char *allowed;
  struct slow s;

  slow_init_layout (&s, layout, mode, 64);
  unit_context ("random reads, %s, %s", slow_layout_name (layout),
                slow_mode_name (mode));
  slow_open (&s, READAHEAD);
  slow_forget (&s);
  allowed = allowed_new (&s);
  for (unsigned i = 0; i < 12; ++i) {
    const uint64_t at = rng_below (&rng, s.r.len - 4096);

    CHECK_EQ (slow_read (&s, &s.m, at, 4096), 0);
    slow_needed (&s, at, 4096, allow, allowed);
  }
  slow_settle (&s);
  CHECK (memory_io_total_reads (&s.m) <= 12 * 2 + 1);
  for (uint64_t i = 0; i < s.r.b.size / 512; ++i)
    if (s.sector_reads[i] > 0 && !CHECK (allowed[i]))
      break;
  free (allowed);
  slow_free (&s);
}

int
main (void)
{
  threads_watchdog ();
  test_random_images ();
  test_clients ();
  test_copies ();
  test_shared_copy ();
  for (unsigned mode = 0; mode < SLOW_NR_MODES; ++mode) {
    for (unsigned layout = 0; layout < SLOW_NR_LAYOUTS; ++layout)
      test_off (layout, mode);
    test_random_reads (SLOW_PLAIN, mode);
    test_random_reads (SLOW_SCATTERED, mode);
    test_random_reads (SLOW_HOLES, mode);
    test_random_reads (SLOW_PACKED_SCATTERED, mode);
  }
  return unit_finish ();
}
