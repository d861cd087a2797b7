/* SPDX-License-Identifier: BSD-3-Clause */
/* test-slow-faults.c - a slow host whose requests fail.
 *
 * Method    repeats a sequential copy in which the n-th request to the host
 *           fails, or all from the n-th on, in all threads.  memory_io notes
 *           the sectors of failed requests, and only reads that need one of
 *           those may fail.  A failure to read ahead fails no read.
 */
#include "config.h"

#include "slow.h"
#include "threads.h"

#include <errno.h>

#define FAULT EDEADLK           /* an errno that nothing else produces */
#define READAHEAD (UINT64_C (16) << 20)
#define STEP (UINT64_C (96) << 10)

static void
open_it (struct slow *s)
{
  slow_open (s, READAHEAD);
  slow_forget (s);
  s->m.fail_errnum = FAULT;
}

static void
close_it (struct slow *s)
{
  slow_settle (s);
  s->m.fail_at = 0;
  s->m.fail_on = s->m.fail_lent = false;
  slow_close (s);
}

struct fault {
  const struct slow *s;
  bool found;
};

static void
find_fault (void *arg, uint64_t host_sector)
{
  struct fault *const fault = arg;

  fault->found |= fault->s->sector_faults[host_sector] > 0;
}

static bool
needs_failed (const struct slow *s, uint64_t at, uint64_t len)
{
  struct fault fault = { s, false };

  slow_needed (s, at, len, find_fault, &fault);
  return fault.found;
}

/* Returns how many reads failed. */
static unsigned
copy_with_faults (struct slow *s)
{
  unsigned failures = 0;
  uint64_t end;
  int r;

  for (uint64_t at = 0; at < s->r.len; at += STEP) {
    const uint64_t len = s->r.len - at < STEP ? s->r.len - at : STEP;

    r = slow_read (s, &s->m, at, len);
    if (r == 0)
      continue;
    CHECK_EQ (r, FAULT);
    CHECK (needs_failed (s, at, len));
    failures++;
  }
  r = slow_extents (s, &s->m, 0, s->r.len, &end);
  CHECK (r == 0 || r == FAULT);
  CHECK (end == s->r.len || s->m.fail_at > 0);
  return failures;
}

/* Returns whether there was an n-th request. */
static bool
test_nth (struct slow *s, unsigned long n, bool on)
{
  unsigned failures;
  bool reached;

  open_it (s);
  s->m.fail_at = n;
  s->m.fail_on = on;
  failures = copy_with_faults (s);
  slow_settle (s);
  reached = s->m.calls >= n;
  CHECK (failures <= (reached ? on ? s->r.len / STEP + 1 : 1 : 0));
  s->m.fail_at = 0;
  slow_copy (s, &s->m, 1000000);
  close_it (s);
  return reached;
}

static void
sweep (struct slow *s, enum slow_layout layout, enum slow_mode mode)
{
  unsigned long n;

  slow_set_mode (s, mode);
  for (unsigned on = 0; on <= 1; ++on) {
    for (n = 1;; ++n) {
      unit_context ("%s, %s: request %lu fails%s", slow_layout_name (layout),
                    slow_mode_name (mode), n, on ? " and all after it" : "");
      if (!test_nth (s, n, on))
        break;
    }
    CHECK (n > 2);              /* else there was nothing to test */
  }
}

/* What is read ahead fails, always: nobody but the one who reads ahead
 * notices, and nothing is kept of it.
 */
static void
test_background (struct slow *s, enum slow_layout layout,
                 enum slow_mode mode)
{
  struct qcow2_stats stats;

  slow_set_mode (s, mode);
  unit_context ("%s, %s: all in the background fails",
                slow_layout_name (layout), slow_mode_name (mode));
  open_it (s);
  s->m.fail_lent = true;
  slow_copy (s, &s->m, 40000);
  CHECK (s->m.lent > 0);
  slow_settle (s);
  s->m.fail_lent = false;
  slow_copy (s, &s->m, STEP);
  slow_settle (s);
  qcow2_get_stats (s->image, &stats);
  CHECK (stats.ahead_used_bytes <= stats.ahead_bytes);
  close_it (s);
}

/* A lost way home: borrowing is refused from some point on, or always. */
static void
test_nothing_to_spare (struct slow *s)
{
  slow_set_mode (s, SLOW_SERIAL);
  unit_context ("%s", "nothing to spare");
  open_it (s);
  s->m.borrowed = 3;
  slow_copy (s, &s->m, STEP);
  CHECK_EQ (s->m.lent, 0);
  CHECK_EQ (s->m.borrowed, 3);
  s->m.borrowed = 0;
  slow_copy (s, &s->m, STEP);
  close_it (s);
}

/* The image is closed as soon as the last read has returned: what runs in
 * the background ends first, and gives back what it has.
 */
static void
test_close_early (struct slow *s, enum slow_mode mode)
{
  slow_set_mode (s, mode);
  unit_context ("closed early, %s", slow_mode_name (mode));
  for (uint64_t reads = 3; reads < 9; ++reads) {
    open_it (s);
    for (uint64_t at = 0; at < reads * 32768; at += 32768)
      CHECK_EQ (slow_read (s, &s->m, at, 32768), 0);
    CHECK (s->m.lent > 0);
    slow_close (s);
  }
}

/* Several clients, and every third request fails: each read is right or fails
 * with the errno of the host.
 */
struct clients {
  struct slow *s;
  atomic_uint failures;
};

static void
read_with_faults (void *arg, unsigned nr)
{
  struct clients *const c = arg;
  struct slow *const s = c->s;
  struct rng rng = { nr };

  unit_context ("client %u", nr);
  for (unsigned i = 0; i < 40; ++i) {
    const uint64_t at = nr % 2 ? i * STEP % (s->r.len - STEP)
      : rng_below (&rng, s->r.len - STEP);
    const uint64_t len = 1 + rng_below (&rng, STEP);
    const int r = slow_read (s, &s->m, at, len);

    if (r == 0)
      continue;
    CHECK_EQ (r, FAULT);
    CHECK (needs_failed (s, at, len));
    c->failures++;
  }
}

static unsigned
test_clients (struct slow *s)
{
  struct clients c = { .s = s };
  struct threads threads;

  slow_set_mode (s, SLOW_CONCURRENT);
  open_it (s);
  s->m.fail_every = 3;
  threads_start (&threads, 6, read_with_faults, &c);
  threads_join (&threads);
  s->m.fail_every = 0;
  unit_context ("%s", "clients");
  slow_settle (s);
  slow_copy (s, &s->m, STEP);
  close_it (s);
  return c.failures;
}

int
main (void)
{
  unsigned failures = 0;

  threads_watchdog ();
  for (unsigned layout = 0; layout < SLOW_NR_LAYOUTS; ++layout) {
    struct slow s;

    slow_init_layout (&s, layout, SLOW_CONCURRENT,
                      layout == SLOW_PACKED ? 64
                      : layout == SLOW_MIXED ? 48 : 18);
    for (unsigned mode = 0; mode < SLOW_NR_MODES; ++mode)
      sweep (&s, layout, mode);
    test_background (&s, layout, SLOW_CONCURRENT);
    test_background (&s, layout, SLOW_SERIAL);
    test_close_early (&s, SLOW_CONCURRENT);
    test_close_early (&s, SLOW_SERIAL);
    test_nothing_to_spare (&s);
    failures += test_clients (&s);
    slow_free (&s);
  }
  CHECK (failures > 0);
  return unit_finish ();
}
