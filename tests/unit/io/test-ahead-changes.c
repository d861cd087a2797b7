/* SPDX-License-Identifier: BSD-3-Clause */
/* test-ahead-changes.c - what changes of the file do to ahead buffers.
 *
 * Owns      a file of some pages, in which bytes say how often they changed.
 * Method    each function sets up one moment: a buffer that is there, loading,
 *           pinned, or waited for, and a change before, beside or after it.
 *           At the end threads do all of it at once.
 * Locks     none; the bytes of the file are atomics.
 */
#include "config.h"

#include "threads.h"

#include "io/ahead.h"

#include <stdatomic.h>

#define PAGE UINT64_C (4096)
#define PAGES 64u

static _Atomic unsigned char file[PAGES * PAGE];

static struct q2_ahead *
new_ahead (struct qcow2_budget *budget)
{
  struct qcow2_error err;
  struct q2_ahead *const ahead = q2_ahead_new (PAGES * PAGE, budget, &err);

  REQUIRE (ahead != NULL);
  for (unsigned i = 0; i < PAGES; ++i)
    for (unsigned k = 0; k < PAGE; ++k)
      file[i * PAGE + k] = 1;
  return ahead;
}

/* Claim pages [from, to), and have all of that or nothing. */
static struct q2_ahead_buf *
claim (struct q2_ahead *ahead, uint64_t from, uint64_t to)
{
  struct q2_ahead_buf *const buf =
    q2_ahead_claim (ahead, from * PAGE, to * PAGE);

  if (buf != NULL) {
    CHECK_EQ (buf->start, from * PAGE);
    CHECK_EQ (buf->end, to * PAGE);
  }
  return buf;
}

static void
read_file (struct q2_ahead_buf *buf)
{
  for (uint64_t i = buf->start; i < buf->end; ++i)
    buf->bytes[i - buf->start] = file[i];
}

static void
load (struct q2_ahead *ahead, uint64_t from, uint64_t to)
{
  struct q2_ahead_buf *const buf = claim (ahead, from, to);

  REQUIRE (buf != NULL);
  read_file (buf);
  q2_ahead_commit (ahead, buf, true);
}

static void
write_file (uint64_t from, uint64_t to)
{
  for (uint64_t i = from * PAGE; i < to * PAGE; ++i)
    file[i]++;
}

static void
change (struct q2_ahead *ahead, uint64_t from, uint64_t to)
{
  struct q2_ahead_change c;

  q2_ahead_begin_change (ahead, from * PAGE, to * PAGE, &c);
  write_file (from, to);
  q2_ahead_end_change (ahead, &c);
}

/* How many pages from this one on are there; they are what the file has. */
static uint64_t
find (struct q2_ahead *ahead, uint64_t page)
{
  static unsigned char buf[PAGES * PAGE];
  const uint64_t n = q2_ahead_copy (ahead, buf, (PAGES - page) * PAGE,
                                    page * PAGE);

  for (uint64_t i = 0; i < n; ++i)
    if (!CHECK_EQ (buf[i], file[page * PAGE + i]))
      break;
  CHECK_EQ (n % PAGE, 0);
  return n / PAGE;
}

static void
no_claim (struct q2_ahead *ahead, uint64_t from, uint64_t to)
{
  CHECK (claim (ahead, from, to) == NULL);
}

/* ---- One at a time ----------------------------------------------------- */

static void
the_longer_rest_stays (void)
{
  struct q2_ahead *const ahead = new_ahead (NULL);

  unit_context ("%s", __func__);
  load (ahead, 0, 16);
  change (ahead, 20, 24);       /* elsewhere */
  CHECK_EQ (find (ahead, 0), 16);
  change (ahead, 0, 2);
  CHECK_EQ (find (ahead, 0), 0);
  CHECK_EQ (find (ahead, 1), 0);
  CHECK_EQ (find (ahead, 2), 14);
  change (ahead, 15, 18);
  CHECK_EQ (find (ahead, 2), 13);
  change (ahead, 5, 6);         /* 3 pages in front of it, 9 behind */
  CHECK_EQ (find (ahead, 2), 0);
  CHECK_EQ (find (ahead, 6), 9);
  change (ahead, 12, 13);       /* 6 and 2 */
  CHECK_EQ (find (ahead, 6), 6);
  CHECK_EQ (find (ahead, 13), 0);
  load (ahead, 12, 16);         /* what was cut off can be claimed again */
  CHECK_EQ (find (ahead, 6), 10);
  change (ahead, 0, PAGES);
  CHECK (!q2_ahead_any (ahead));
  q2_ahead_free (ahead);
}

static void
small_rests_go (void)
{
  struct q2_ahead *const ahead = new_ahead (NULL);
  struct q2_ahead_change c;

  unit_context ("%s", __func__);
  load (ahead, 4, 6);
  q2_ahead_begin_change (ahead, 5 * PAGE - 1, 5 * PAGE + 1, &c);
  CHECK (!q2_ahead_any (ahead));
  q2_ahead_end_change (ahead, &c);
  q2_ahead_free (ahead);
}

static void
a_change_spoils_what_is_loading (void)
{
  struct q2_ahead *const ahead = new_ahead (NULL);
  struct q2_ahead_buf *buf;

  unit_context ("%s", __func__);
  buf = claim (ahead, 0, 8);
  REQUIRE (buf != NULL);
  read_file (buf);
  change (ahead, 7, 9);
  CHECK_EQ (find (ahead, 0), 0);        /* nobody waits for it any more */
  no_claim (ahead, 0, 8);
  q2_ahead_commit (ahead, buf, true);
  CHECK (!q2_ahead_any (ahead));
  load (ahead, 0, 8);
  CHECK_EQ (find (ahead, 0), 8);
  q2_ahead_free (ahead);
}

static void
no_claim_of_what_changes (void)
{
  struct q2_ahead *const ahead = new_ahead (NULL);
  struct q2_ahead_change a, b;

  unit_context ("%s", __func__);
  /* Nobody reads ahead: the change is only counted, and any claim fails. */
  q2_ahead_begin_change (ahead, 0, PAGE, &a);
  no_claim (ahead, 30, 32);
  /* The next ones are listed. */
  q2_ahead_begin_change (ahead, 0, PAGE, &b);
  no_claim (ahead, 30, 32);
  q2_ahead_end_change (ahead, &a);
  no_claim (ahead, 0, 2);
  load (ahead, 1, 2);
  load (ahead, 30, 32);
  q2_ahead_begin_change (ahead, 40 * PAGE, 41 * PAGE, &a);
  no_claim (ahead, 40, 42);
  q2_ahead_end_change (ahead, &b);
  load (ahead, 0, 1);
  q2_ahead_end_change (ahead, &a);
  load (ahead, 40, 42);
  /* Once all is forgotten changes are counted again. */
  q2_ahead_clear (ahead);
  q2_ahead_begin_change (ahead, 0, PAGE, &a);
  no_claim (ahead, 30, 32);
  q2_ahead_end_change (ahead, &a);
  load (ahead, 30, 32);
  q2_ahead_free (ahead);
}

static void
pinned_bytes_stay (void)
{
  struct qcow2_budget *const budget =
    qcow2_budget_new (1 << 30, "", NULL, NULL);
  struct q2_ahead *const ahead = new_ahead (budget);
  struct q2_ahead_buf *whole, *cut;
  const unsigned char *a, *b;

  unit_context ("%s", __func__);
  REQUIRE (budget != NULL);
  load (ahead, 0, 4);
  load (ahead, 8, 12);
  a = q2_ahead_pin (ahead, PAGE, 0, &whole);
  b = q2_ahead_pin (ahead, PAGE, 8 * PAGE, &cut);
  REQUIRE (a != NULL && b != NULL);
  change (ahead, 0, 9);
  CHECK_EQ (find (ahead, 0), 0);
  CHECK_EQ (find (ahead, 9), 3);
  load (ahead, 0, 4);           /* as well as the old one, which counts */
  CHECK_EQ (qcow2_budget_used (budget), 12 * PAGE);
  CHECK (a[0] == 1 && a[PAGE - 1] == 1 && b[0] == 1 && b[PAGE - 1] == 1);
  q2_ahead_unpin (ahead, whole);
  CHECK_EQ (qcow2_budget_used (budget), 8 * PAGE);
  q2_ahead_unpin (ahead, cut);
  CHECK_EQ (find (ahead, 9), 3);
  q2_ahead_free (ahead);
  CHECK_EQ (qcow2_budget_used (budget), 0);
  qcow2_budget_free (budget);
}

/* ---- Waiting ------------------------------------------------------------- */

static atomic_uint waiting;

/* [0, 8) is loading when it begins, and spoiled before that ends. */
static void
wait_for_it (void *arg, unsigned nr)
{
  struct q2_ahead *const ahead = arg;
  unsigned char page[PAGE];
  struct q2_ahead_buf *buf;

  waiting++;
  if (nr % 2 == 0)
    CHECK_EQ (q2_ahead_copy (ahead, page, PAGE, PAGE), 0);
  else
    CHECK (q2_ahead_pin (ahead, PAGE, PAGE, &buf) == NULL);
}

static void
who_waits_reads_for_himself (void)
{
  struct q2_ahead *const ahead = new_ahead (NULL);
  struct q2_ahead_buf *const buf = claim (ahead, 0, 8);
  struct threads threads;

  unit_context ("%s", __func__);
  REQUIRE (buf != NULL);
  threads_start (&threads, 4, wait_for_it, ahead);
  WAIT_UNTIL (waiting == 4);
  sleep_ms (20);                /* they wait by now, most likely */
  read_file (buf);
  change (ahead, 7, 8);
  q2_ahead_commit (ahead, buf, true);
  threads_join (&threads);
  CHECK (!q2_ahead_any (ahead));
  q2_ahead_free (ahead);
}

/* ---- All at once ---------------------------------------------------------- */

/* Each page has one writer, who must find what he has written or nothing. */
static void
hammer (void *arg, unsigned nr)
{
  struct q2_ahead *const ahead = arg;
  struct rng rng = { 77 + nr };
  unsigned char bytes[2 * PAGE];

  for (unsigned i = 0; i < unit_scaled (4000); ++i) {
    const uint64_t page = rng_below (&rng, PAGES / 8) * 8 + nr;
    const uint64_t from = rng_below (&rng, PAGES);
    const uint64_t to = from + 1 + rng_below (&rng, PAGES - from);
    struct q2_ahead_buf *buf;
    uint64_t n;

    switch (rng_below (&rng, 4)) {
    case 0:
      change (ahead, page, page + 1);
      break;
    case 1:
      buf = q2_ahead_claim (ahead, from * PAGE, to * PAGE);
      if (buf) {
        read_file (buf);
        q2_ahead_commit (ahead, buf, rng_below (&rng, 8) > 0);
      }
      break;
    case 2:
      if (rng_below (&rng, 50) == 0)
        q2_ahead_clear (ahead);
      break;
    default:
      n = q2_ahead_copy (ahead, bytes, PAGE, page * PAGE);
      CHECK (n % PAGE == 0);
      for (uint64_t k = 0; k < n; ++k)
        if (!CHECK_EQ (bytes[k], file[page * PAGE + k]))
          break;
    }
  }
}

static void
all_at_once (void)
{
  struct q2_ahead *const ahead = new_ahead (NULL);
  struct threads threads;

  unit_context ("%s", __func__);
  threads_start (&threads, 8, hammer, ahead);
  threads_join (&threads);
  q2_ahead_free (ahead);
}

int
main (void)
{
  threads_watchdog ();
  the_longer_rest_stays ();
  small_rests_go ();
  a_change_spoils_what_is_loading ();
  no_claim_of_what_changes ();
  pinned_bytes_stay ();
  who_waits_reads_for_himself ();
  all_at_once ();
  return unit_finish ();
}
