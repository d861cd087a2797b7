/* SPDX-License-Identifier: BSD-3-Clause */
/* test-ahead.c - read-ahead buffers.
 *
 * Linked with wrappers: the test controls the clock, counts threads that start
 * to wait, and makes allocations fail.
 */
#include "config.h"

#include "threads.h"

#include "io/ahead.h"

#include <limits.h>
#include <stdatomic.h>

extern int __real_pthread_cond_wait (pthread_cond_t *, pthread_mutex_t *);
extern int __wrap_pthread_cond_wait (pthread_cond_t *, pthread_mutex_t *);
extern int __wrap_clock_gettime (clockid_t, struct timespec *);
extern void *__real_malloc (size_t);
extern void *__wrap_malloc (size_t);
extern void *__real_calloc (size_t, size_t);
extern void *__wrap_calloc (size_t, size_t);

#define SECOND UINT64_C (1000000000)

static _Atomic uint64_t clock_ns = 100 * SECOND;
static atomic_uint waits;       /* calls of pthread_cond_wait */
static atomic_bool slow_to_wake;
static atomic_int allocations_left = INT_MAX;

int
__wrap_pthread_cond_wait (pthread_cond_t *cond, pthread_mutex_t *lock)
{
  int r;

  waits++;
  r = __real_pthread_cond_wait (cond, lock);
  if (slow_to_wake) {
    pthread_mutex_unlock (lock);
    sleep_ms (20);
    pthread_mutex_lock (lock);
  }
  return r;
}

int
__wrap_clock_gettime (clockid_t clock, struct timespec *ts)
{
  const uint64_t ns = clock_ns;

  CHECK (clock != CLOCK_REALTIME);
  ts->tv_sec = (time_t) (ns / SECOND);
  ts->tv_nsec = (long) (ns % SECOND);
  return 0;
}

void *
__wrap_malloc (size_t size)
{
  return allocations_left-- > 0 ? __real_malloc (size) : NULL;
}

void *
__wrap_calloc (size_t n, size_t size)
{
  return allocations_left-- > 0 ? __real_calloc (n, size) : NULL;
}

/* The file's bytes. */
static unsigned char
byte_at (uint64_t off)
{
  return (unsigned char) ((off * 0x9e3779b1) >> 13);
}

static void
fill_bytes (unsigned char *bytes, uint64_t start, uint64_t end)
{
  while (start < end)
    *bytes++ = byte_at (start++);
}

static struct q2_ahead *
new_ahead (uint64_t max_bytes)
{
  struct qcow2_error err;
  struct q2_ahead *const ahead = q2_ahead_new (max_bytes, NULL, &err);

  REQUIRE (ahead != NULL);
  return ahead;
}

/* Claim, expecting exactly [want_start, want_end), or nothing if those are
 * equal.
 */
static struct q2_ahead_buf *
claim (struct q2_ahead *ahead, uint64_t start, uint64_t end,
       uint64_t want_start, uint64_t want_end)
{
  struct q2_ahead_buf *const buf = q2_ahead_claim (ahead, start, end);

  unit_context ("claim of [%" PRIu64 ", %" PRIu64 ")", start, end);
  REQUIRE ((buf != NULL) == (want_start < want_end));
  if (buf) {
    CHECK_EQ (buf->start, want_start);
    CHECK_EQ (buf->end, want_end);
    fill_bytes (buf->bytes, buf->start, buf->end);
  }
  unit_context ("%s", "");
  return buf;
}

static void
load (struct q2_ahead *ahead, uint64_t start, uint64_t end)
{
  q2_ahead_commit (ahead, claim (ahead, start, end, start, end), true);
}

static void
no_claim (struct q2_ahead *ahead, uint64_t start, uint64_t end)
{
  claim (ahead, start, end, 0, 0);
}

#define MAX_COPY 4096

static uint64_t
copy_any (struct q2_ahead *ahead, uint64_t start, uint64_t end)
{
  unsigned char out[MAX_COPY + 1], expected[MAX_COPY + 1];
  uint64_t n;

  REQUIRE (end - start <= MAX_COPY);
  memset (out, 0xee, sizeof out);
  memset (expected, 0xee, sizeof expected);
  n = q2_ahead_copy (ahead, out, end - start, start);
  if (CHECK (n <= end - start)) {
    fill_bytes (expected, start, start + n);
    CHECK_BYTES (out, expected, sizeof out);
  }
  return n;
}

static void
copy (struct q2_ahead *ahead, uint64_t start, uint64_t end, uint64_t want)
{
  unit_context ("copy of [%" PRIu64 ", %" PRIu64 ")", start, end);
  CHECK_EQ (copy_any (ahead, start, end), want);
  unit_context ("%s", "");
}

static struct q2_ahead_buf *
pin (struct q2_ahead *ahead, uint64_t start, uint64_t end)
{
  struct q2_ahead_buf *buf = NULL;
  const unsigned char *const bytes =
    q2_ahead_pin (ahead, end - start, start, &buf);
  unsigned char expected[MAX_COPY];

  if (bytes == NULL)
    return NULL;
  fill_bytes (expected, start, end);
  CHECK_BYTES (bytes, expected, end - start);
  return buf;
}

/* ---- One thread ------------------------------------------------------ */

static void
test_nothing (void)
{
  struct q2_ahead *ahead = new_ahead (100);

  CHECK (!q2_ahead_any (ahead));
  copy (ahead, 0, 10, 0);
  copy (ahead, 0, 0, 0);
  CHECK (pin (ahead, 0, 10) == NULL);
  no_claim (ahead, 50, 50);
  no_claim (ahead, 60, 50);
  CHECK (!q2_ahead_any (ahead));
  q2_ahead_free (ahead);

  ahead = new_ahead (0);
  no_claim (ahead, 0, 10);
  q2_ahead_free (ahead);
  q2_ahead_free (NULL);
}

static void
test_gaps (void)
{
  struct q2_ahead *const ahead = new_ahead (1000);

  load (ahead, 300, 400);
  load (ahead, 100, 200);
  CHECK (q2_ahead_any (ahead));
  no_claim (ahead, 100, 200);
  no_claim (ahead, 120, 180);
  copy (ahead, 150, 350, 50);
  copy (ahead, 50, 150, 0);
  copy (ahead, 200, 250, 0);
  copy (ahead, 199, 200, 1);
  CHECK (pin (ahead, 99, 101) == NULL);
  CHECK (pin (ahead, 150, 201) == NULL);

  q2_ahead_commit (ahead, claim (ahead, 0, 500, 0, 100), true);
  q2_ahead_commit (ahead, claim (ahead, 0, 500, 200, 300), true);
  q2_ahead_commit (ahead, claim (ahead, 150, 450, 400, 450), true);
  q2_ahead_commit (ahead, claim (ahead, 0, 500, 450, 500), true);
  no_claim (ahead, 0, 500);
  copy (ahead, 0, 500, 500);
  copy (ahead, 1, 1000, 499);
  CHECK (pin (ahead, 99, 101) == NULL);
  q2_ahead_unpin (ahead, pin (ahead, 100, 200));
  q2_ahead_unpin (ahead, pin (ahead, 199, 200));
  q2_ahead_free (ahead);
}

static void
test_limit (void)
{
  struct q2_ahead *const ahead = new_ahead (100);
  struct q2_ahead_buf *buf;

  buf = claim (ahead, 50, 5000, 50, 150);
  CHECK (q2_ahead_any (ahead));
  no_claim (ahead, 1000, 1001); /* what is being read counts */
  q2_ahead_commit (ahead, buf, false);
  CHECK (!q2_ahead_any (ahead));
  copy (ahead, 50, 150, 0);
  load (ahead, 0, 60);
  no_claim (ahead, 1000, 1041);
  load (ahead, 1000, 1040);
  no_claim (ahead, 2000, 2001);
  q2_ahead_free (ahead);
}

/* What has been read once goes when its room is needed. */
static void
test_consumed_goes (void)
{
  struct q2_ahead *const ahead = new_ahead (300);
  struct q2_ahead_buf *a, *b;

  load (ahead, 0, 100);
  load (ahead, 100, 200);
  load (ahead, 200, 300);
  no_claim (ahead, 1000, 1100);
  copy (ahead, 100, 199, 99);
  copy (ahead, 0, 50, 50);
  no_claim (ahead, 1000, 1100);
  copy (ahead, 199, 200, 1);
  /* Not enough for this one: nothing is thrown out. */
  no_claim (ahead, 1000, 1101);
  copy (ahead, 100, 101, 1);
  load (ahead, 1000, 1100);
  copy (ahead, 100, 101, 0);
  copy (ahead, 50, 51, 1);

  /* Pinned counts as read, but stays for as long as it is. */
  a = pin (ahead, 200, 300);
  b = pin (ahead, 250, 260);
  CHECK (a != NULL && a == b);
  no_claim (ahead, 2000, 2100);
  q2_ahead_unpin (ahead, a);
  no_claim (ahead, 2000, 2100);
  q2_ahead_unpin (ahead, b);
  load (ahead, 2000, 2100);
  copy (ahead, 200, 201, 0);
  copy (ahead, 1000, 1100, 100);
  copy (ahead, 2000, 2050, 50);
  q2_ahead_free (ahead);
}

static void
test_age (void)
{
  struct q2_ahead *const ahead = new_ahead (300);
  struct q2_ahead_buf *buf;

  load (ahead, 200, 300);
  clock_ns += SECOND / 4;
  load (ahead, 100, 200);
  clock_ns += SECOND / 4;
  load (ahead, 0, 100);
  clock_ns += SECOND / 2 - 1;
  no_claim (ahead, 1000, 1100);
  clock_ns++;
  load (ahead, 1000, 1100);     /* in place of 200 */
  copy (ahead, 200, 201, 0);
  copy (ahead, 100, 101, 1);    /* makes it younger than 0 */
  clock_ns += SECOND / 2;
  load (ahead, 1100, 1200);     /* in place of 0 */
  copy (ahead, 0, 1, 0);
  no_claim (ahead, 3000, 3001);

  /* Long unused, but read in full beats it. */
  clock_ns += 10 * SECOND;
  copy (ahead, 1100, 1200, 100);
  load (ahead, 1200, 1300);
  copy (ahead, 1100, 1101, 0);

  /* An old one that is pinned stays, then counts as just used. */
  buf = pin (ahead, 100, 150);
  clock_ns += 10 * SECOND;
  load (ahead, 2000, 2200);
  copy (ahead, 1000, 1001, 0);
  copy (ahead, 1200, 1201, 0);
  clock_ns += 10 * SECOND;
  q2_ahead_unpin (ahead, buf);
  no_claim (ahead, 3000, 3300);
  clock_ns += SECOND;
  load (ahead, 3000, 3300);
  CHECK_EQ (copy_any (ahead, 100, 101), 0);
  q2_ahead_free (ahead);
}

/* How long a read takes does not make its bytes old. */
static void
test_slow_read (void)
{
  struct q2_ahead *const ahead = new_ahead (100);
  struct q2_ahead_buf *const buf = claim (ahead, 0, 100, 0, 100);

  clock_ns += 10 * SECOND;
  no_claim (ahead, 200, 300);
  q2_ahead_commit (ahead, buf, true);
  no_claim (ahead, 200, 300);
  q2_ahead_free (ahead);
}

/* Most of it read: the rest has less time. */
static void
test_rest (void)
{
  struct q2_ahead *const ahead = new_ahead (100);

  load (ahead, 0, 100);
  copy (ahead, 0, 74, 74);
  clock_ns += SECOND / 2;
  no_claim (ahead, 200, 300);
  copy (ahead, 74, 75, 1);
  clock_ns += SECOND / 25 - 1;
  no_claim (ahead, 200, 300);
  clock_ns++;
  load (ahead, 200, 300);
  q2_ahead_free (ahead);
}

#define MIB (UINT64_C (1) << 20)

/* Read on in steps of a MiB, which is all there is room for, until reading
 * ahead is (or is not) useful.  Returns how many steps that took.
 */
static unsigned
read_on (struct q2_ahead *ahead, uint64_t *host_off, bool consume,
         bool until_useful)
{
  unsigned n;

  for (n = 0; n < 100 && q2_ahead_is_useful (ahead) != until_useful; ++n) {
    load (ahead, *host_off, *host_off + MIB);
    for (uint64_t i = 0; consume && i < MIB; i += MAX_COPY)
      copy (ahead, *host_off + i, *host_off + i + MAX_COPY, MAX_COPY);
    clock_ns += SECOND;
    *host_off += MIB;
  }
  return n;
}

/* Reading ahead is judged by what came of the bytes thrown out lately. */
static void
test_usefulness (void)
{
  struct q2_ahead *const ahead = new_ahead (MIB);
  uint64_t host_off = 0;

  CHECK (q2_ahead_is_useful (ahead));
  /* Four have been thrown out for the fifth. */
  CHECK_EQ (read_on (ahead, &host_off, false, false), 5);
  /* Five in vain, then as many of use, the last of which is still there. */
  CHECK_EQ (read_on (ahead, &host_off, true, true), 6);
  /* A long good past (until it is not useful: never) is soon forgotten. */
  CHECK_EQ (read_on (ahead, &host_off, true, false), 100);
  CHECK (read_on (ahead, &host_off, false, false) < 30);
  q2_ahead_free (ahead);
}

/* A claim throws out nothing of its own range. */
static void
test_own_range_stays (void)
{
  struct q2_ahead *const ahead = new_ahead (100);

  load (ahead, 0, 50);
  load (ahead, 50, 100);
  clock_ns += 10 * SECOND;
  copy (ahead, 0, 50, 50);
  no_claim (ahead, 0, 150);
  no_claim (ahead, 0, 101);
  no_claim (ahead, 49, 101);
  q2_ahead_commit (ahead, claim (ahead, 50, 150, 100, 150), true);
  copy (ahead, 0, 1, 0);
  copy (ahead, 50, 150, 100);
  q2_ahead_free (ahead);
}

static void
test_no_memory (void)
{
  struct qcow2_error err = { .errnum = 0 };
  struct q2_ahead *ahead;

  allocations_left = 0;
  CHECK (q2_ahead_new (100, NULL, &err) == NULL);
  allocations_left = INT_MAX;
  CHECK_ERROR (&err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET);

  ahead = new_ahead (100);
  for (int i = 0; i < 2; ++i) {
    allocations_left = i;
    no_claim (ahead, 0, 100);
    allocations_left = INT_MAX;
    CHECK (!q2_ahead_any (ahead));
  }
  load (ahead, 0, 100);
  copy (ahead, 0, 100, 100);
  q2_ahead_free (ahead);
}

/* ---- A model --------------------------------------------------------- */

#define FILE_SIZE 2000
#define MODEL_MAX 600
#define MAX_HELD 4

struct model_buf {
  uint64_t start, end, consumed, last_use;
  unsigned pins;
  bool loading;
};

struct model {
  struct model_buf bufs[FILE_SIZE];
  unsigned nr;
  uint64_t requests, read, used;
};

static struct model_buf *
model_at (struct model *m, uint64_t off)
{
  for (unsigned i = 0; i < m->nr; ++i)
    if (m->bufs[i].start <= off && off < m->bufs[i].end)
      return &m->bufs[i];
  return NULL;
}

static uint64_t
model_bytes (const struct model *m)
{
  uint64_t sum = 0;

  for (unsigned i = 0; i < m->nr; ++i)
    sum += m->bufs[i].end - m->bufs[i].start;
  return sum;
}

static void
model_remove (struct model *m, struct model_buf *buf)
{
  *buf = m->bufs[--m->nr];
}

static bool
model_older (const struct model_buf *a, const struct model_buf *b)
{
  return b == NULL || a->last_use < b->last_use ||
    (a->last_use == b->last_use && a->start < b->start);
}

/* The next one to go. */
static struct model_buf *
model_victim (struct model *m, uint64_t start, uint64_t end)
{
  struct model_buf *oldest[2] = { NULL, NULL };

  for (unsigned i = 0; i < m->nr; ++i) {
    struct model_buf *const b = &m->bufs[i];
    const uint64_t len = b->end - b->start, age = clock_ns - b->last_use;
    const bool fresh = b->consumed < len &&
      (b->consumed < len / 4 * 3 || age < SECOND / 25);

    if (b->pins > 0 || b->loading || (b->start < end && start < b->end) ||
        (fresh && age < SECOND))
      continue;
    if (model_older (b, oldest[fresh]))
      oldest[fresh] = b;
  }
  return oldest[0] ? oldest[0] : oldest[1];
}

static bool
model_claim (struct model *m, uint64_t *start, uint64_t *end)
{
  const struct model old = *m;
  const uint64_t asked_start = *start, asked_end = *end;
  struct model_buf *victim;

  while (*start < asked_end && model_at (m, *start))
    ++*start;
  if (*start >= asked_end)
    return false;
  *end = *start;
  while (*end < asked_end && *end - *start < MODEL_MAX &&
         !model_at (m, *end))
    ++*end;
  while (model_bytes (m) + (*end - *start) > MODEL_MAX) {
    victim = model_victim (m, asked_start, asked_end);
    if (victim == NULL) {
      *m = old;
      return false;
    }
    model_remove (m, victim);
  }
  m->bufs[m->nr++] =
    (struct model_buf) { .start = *start, .end = *end, .loading = true };
  return true;
}

static void
model_use (struct model *m, struct model_buf *b, uint64_t count)
{
  const uint64_t left = b->end - b->start - b->consumed;

  if (count > left)
    count = left;
  b->consumed += count;
  m->used += count;
  b->last_use = clock_ns;
}

static uint64_t
model_copy (struct model *m, uint64_t start, uint64_t end)
{
  uint64_t off = start;

  while (off < end) {
    struct model_buf *const b = model_at (m, off);
    const uint64_t stop = b && b->end < end ? b->end : end;

    if (b == NULL)
      break;
    model_use (m, b, stop - off);
    off = stop;
  }
  return off - start;
}

static bool
model_loading (struct model *m, uint64_t start, uint64_t end)
{
  for (unsigned i = 0; i < m->nr; ++i)
    if (m->bufs[i].loading && m->bufs[i].start < end &&
        start < m->bufs[i].end)
      return true;
  return false;
}

struct model_test {
  struct q2_ahead *ahead;
  struct model m;
  struct q2_ahead_buf *claims[MAX_HELD], *pins[MAX_HELD];
  unsigned nr_claims, nr_pins;
  unsigned evictions, refusals;
};

static void
model_step_claim (struct model_test *t, uint64_t start, uint64_t end)
{
  const unsigned before = t->m.nr;
  uint64_t want_start = start, want_end = end;

  if (t->nr_claims == MAX_HELD)
    return;
  if (!model_claim (&t->m, &want_start, &want_end)) {
    t->refusals++;
    no_claim (t->ahead, start, end);
    return;
  }
  t->evictions += before + 1 - t->m.nr;
  t->claims[t->nr_claims++] =
    claim (t->ahead, start, end, want_start, want_end);
}

static void
model_step_commit (struct model_test *t, struct rng *rng)
{
  const bool ok = rng_below (rng, 5) > 0;
  struct q2_ahead_buf *buf;
  struct model_buf *b;

  if (t->nr_claims == 0)
    return;
  buf = t->claims[--t->nr_claims];
  b = model_at (&t->m, buf->start);
  b->loading = false;
  b->last_use = clock_ns;
  if (ok) {
    t->m.requests++;
    t->m.read += b->end - b->start;
  }
  else
    model_remove (&t->m, b);
  q2_ahead_commit (t->ahead, buf, ok);
}

static void
model_step_pin (struct model_test *t, uint64_t start, uint64_t end)
{
  struct model_buf *const b = model_at (&t->m, start);
  struct q2_ahead_buf *buf;

  if (t->nr_pins == MAX_HELD || start == end)
    return;
  buf = pin (t->ahead, start, end);
  if (b && end <= b->end) {
    REQUIRE (buf != NULL);
    CHECK_EQ (buf->start, b->start);
    CHECK_EQ (buf->end, b->end);
    b->pins++;
    model_use (&t->m, b, end - start);
    t->pins[t->nr_pins++] = buf;
  }
  else
    CHECK (buf == NULL);
}

static void
model_step_unpin (struct model_test *t)
{
  struct q2_ahead_buf *buf;
  struct model_buf *b;

  if (t->nr_pins == 0)
    return;
  buf = t->pins[--t->nr_pins];
  b = model_at (&t->m, buf->start);
  b->pins--;
  b->last_use = clock_ns;
  q2_ahead_unpin (t->ahead, buf);
}

static void
check_stats (struct q2_ahead *ahead, const struct model *m)
{
  uint64_t requests, read, used;

  q2_ahead_get_stats (ahead, &requests, &read, &used);
  CHECK_EQ (requests, m->requests);
  CHECK_EQ (read, m->read);
  CHECK_EQ (used, m->used);
}

static void
test_model (uint64_t seed)
{
  static struct model_test t;
  struct rng rng = { seed };

  t = (struct model_test) { .ahead = new_ahead (MODEL_MAX) };
  for (unsigned i = 0; i < unit_scaled (20000); ++i) {
    const uint64_t start = rng_below (&rng, FILE_SIZE);
    const uint64_t len = rng_below (&rng, rng_below (&rng, 8) ? 150 : 900);
    const uint64_t end = start + len < FILE_SIZE ? start + len : FILE_SIZE;

    clock_ns += 1 + (rng_below (&rng, 4) ? 0 : rng_below (&rng, SECOND / 4));
    switch (rng_below (&rng, 6)) {
    case 0: case 1:
      model_step_claim (&t, start, end);
      break;
    case 2:
      model_step_commit (&t, &rng);
      break;
    case 3:
      model_step_unpin (&t);
      break;
    case 4:
      if (!model_loading (&t.m, start, end))
        model_step_pin (&t, start, end);
      break;
    default:
      if (!model_loading (&t.m, start, end))
        copy (t.ahead, start, end, model_copy (&t.m, start, end));
    }
    CHECK_EQ (q2_ahead_any (t.ahead), t.m.nr > 0);
    check_stats (t.ahead, &t.m);
  }
  CHECK (t.evictions > 0 && t.refusals > 0);
  while (t.nr_claims > 0)
    model_step_commit (&t, &rng);
  while (t.nr_pins > 0)
    model_step_unpin (&t);
  q2_ahead_free (t.ahead);
}

/* ---- Waiting --------------------------------------------------------- */

#define WAITERS 8

struct waiters {
  struct q2_ahead *ahead;
  bool ok;
};

/* [0, 100) is there, [100, 200) being read, [200, 300) there. */
static void
wait_for_it (void *arg, unsigned nr)
{
  const struct waiters *const w = arg;

  if (nr % 2)
    copy (w->ahead, 50, 250, w->ok ? 200 : 50);
  else {
    struct q2_ahead_buf *const buf = pin (w->ahead, 110, 190);

    CHECK ((buf != NULL) == w->ok);
    if (buf)
      q2_ahead_unpin (w->ahead, buf);
  }
}

static void
test_waiting (bool ok)
{
  struct waiters w = { new_ahead (1000), ok };
  struct q2_ahead_buf *buf;
  struct threads threads;

  load (w.ahead, 0, 100);
  load (w.ahead, 200, 300);
  buf = claim (w.ahead, 0, 300, 100, 200);
  waits = 0;
  threads_start (&threads, WAITERS, wait_for_it, &w);
  WAIT_UNTIL (waits == WAITERS);
  /* Neither of these has to wait. */
  CHECK (pin (w.ahead, 150, 250) == NULL);
  copy (w.ahead, 0, 100, 100);
  no_claim (w.ahead, 50, 250);

  slow_to_wake = true;
  q2_ahead_commit (w.ahead, buf, ok);
  if (!ok) {
    /* The next try is not for those who waited for the first. */
    buf = claim (w.ahead, 0, 300, 100, 200);
    threads_join (&threads);
    q2_ahead_commit (w.ahead, buf, true);
  }
  else
    threads_join (&threads);
  slow_to_wake = false;
  copy (w.ahead, 0, 300, 300);
  q2_ahead_free (w.ahead);
}

/* A buffer that somebody waits for is not thrown out before he got it. */
static void
test_waiters_keep_it (void)
{
  struct waiters w = { new_ahead (300), true };
  struct q2_ahead_buf *buf;
  struct threads threads;

  load (w.ahead, 0, 100);
  load (w.ahead, 200, 300);
  buf = claim (w.ahead, 0, 300, 100, 200);
  waits = 0;
  threads_start (&threads, WAITERS, wait_for_it, &w);
  WAIT_UNTIL (waits == WAITERS);
  slow_to_wake = true;
  q2_ahead_commit (w.ahead, buf, true);
  clock_ns += 10 * SECOND;
  no_claim (w.ahead, 1000, 1300);
  /* Held until then: nobody else's claim gets it. */
  threads_join (&threads);
  slow_to_wake = false;
  copy (w.ahead, 0, 300, 300);
  load (w.ahead, 1000, 1300);
  q2_ahead_free (w.ahead);
}

/* ---- All at once ----------------------------------------------------- */

static void
hammer (void *arg, unsigned nr)
{
  struct q2_ahead *const ahead = arg;
  struct rng rng = { 1000 + nr };
  uint64_t served = 0;

  for (unsigned i = 0; i < unit_scaled (10000); ++i) {
    const uint64_t start = rng_below (&rng, FILE_SIZE);
    const uint64_t end = start + rng_below (&rng, 200);
    struct q2_ahead_buf *buf;

    clock_ns += rng_below (&rng, SECOND / 10);
    switch (rng_below (&rng, 3)) {
    case 0:
      buf = q2_ahead_claim (ahead, start, end);
      if (buf) {
        CHECK (start <= buf->start && buf->start < buf->end &&
               buf->end <= end);
        fill_bytes (buf->bytes, buf->start, buf->end);
        q2_ahead_commit (ahead, buf, rng_below (&rng, 4) > 0);
      }
      break;
    case 1:
      buf = pin (ahead, start, end);
      if (buf) {
        served++;
        q2_ahead_unpin (ahead, buf);
      }
      break;
    default:
      if (q2_ahead_any (ahead))
        served += copy_any (ahead, start, end);
    }
  }
  CHECK (served > 0);
}

static void
test_hammer (void)
{
  struct q2_ahead *const ahead = new_ahead (MODEL_MAX);
  struct threads threads;

  threads_start (&threads, 8, hammer, ahead);
  threads_join (&threads);
  q2_ahead_free (ahead);
}

int
main (void)
{
  threads_watchdog ();
  test_nothing ();
  test_gaps ();
  test_limit ();
  test_consumed_goes ();
  test_age ();
  test_slow_read ();
  test_rest ();
  test_usefulness ();
  test_own_range_stays ();
  test_no_memory ();
  for (uint64_t seed = 1; seed <= 5; ++seed)
    test_model (seed);
  test_waiting (true);
  test_waiting (false);
  test_waiters_keep_it ();
  test_hammer ();
  return unit_finish ();
}
