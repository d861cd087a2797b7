/* SPDX-License-Identifier: BSD-3-Clause */
/* test-budget.c - budgets of memory, nested, bounds of work, and turns. */
#include "config.h"

#include "threads.h"

#include "base/budget.h"
#include "meta/overlap.h"

#include <sched.h>
#include <stdatomic.h>

#define THREADS 8
#define ROUNDS 20000

static void
init_pair (struct qcow2_budget *server, struct qcow2_budget *image,
           uint64_t server_max, uint64_t image_max)
{
  q2_budget_init (server, NULL, server_max, "the server", "raise one");
  q2_budget_init (image, server, image_max, "the image", "raise two");
}

static void
test_take (void)
{
  struct qcow2_budget server, image, other;
  struct qcow2_error err = { .text = "" };

  init_pair (&server, &image, 100 << 10, 60 << 10);
  q2_budget_init (&other, &server, 60 << 10, "the image", "raise two");
  CHECK (q2_budget_try (&image, 60 << 10));
  CHECK_EQ (q2_budget_left (&image), 0);
  CHECK_EQ (q2_budget_left (&other), 40 << 10);
  CHECK (!q2_budget_try (&image, 1));
  CHECK_EQ (qcow2_budget_used (&server), 60 << 10);

  /* The image's own bound, and the server's: each is named. */
  CHECK (q2_budget_take (&image, 1, "a thing", &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET);
  CHECK (strstr (err.text, "a thing") && strstr (err.text, "the image") &&
         strstr (err.text, "raise two"));
  CHECK (q2_budget_take (&other, 41 << 10, "a thing", &err) == -1);
  CHECK (strstr (err.text, "the server") && strstr (err.text, "raise one"));

  /* What fails takes nothing, from none of them. */
  CHECK_EQ (qcow2_budget_used (&other), 0);
  CHECK_EQ (qcow2_budget_used (&server), 60 << 10);
  CHECK (!q2_budget_try (&other, UINT64_MAX));
  CHECK (q2_budget_take (&other, 40 << 10, "a thing", &err) == 0);
  q2_budget_give (&other, 40 << 10);
  q2_budget_give (&image, 60 << 10);
  CHECK_EQ (qcow2_budget_used (&server), 0);

  CHECK (q2_budget_try (NULL, UINT64_MAX));
  q2_budget_give (NULL, UINT64_MAX);
}

static void
test_take_some (void)
{
  struct qcow2_budget server, image;
  uint64_t taken[64], sum = 0;

  init_pair (&server, &image, 1 << 30, 1 << 20);
  for (size_t i = 0; i < 64; ++i) {
    taken[i] = q2_budget_take_some (&image, 1024, 1 << 19);
    CHECK (taken[i] >= 1024 && (i == 0 || taken[i] <= taken[i - 1]));
    sum += taken[i];
    CHECK_EQ (qcow2_budget_used (&image), sum);
  }
  CHECK_EQ (taken[0], 1 << 18);
  CHECK_EQ (taken[63], 1024);
  CHECK (sum <= (1 << 19) + 64 * 1024);
  /* The other half is there for what cannot shrink. */
  CHECK (q2_budget_try (&image, (1 << 20) - sum));
  CHECK (!q2_budget_try (&image, 1));
  /* More than the bound is in use then. */
  CHECK_EQ (q2_budget_take_some (&image, 1024, 1 << 19), 1024);
  CHECK_EQ (q2_budget_left (&image), 0);
  q2_budget_give (&image, (1 << 20) - sum + 1024);
  for (size_t i = 0; i < 64; ++i)
    q2_budget_give (&image, taken[i]);
  CHECK_EQ (qcow2_budget_used (&server), 0);
  CHECK_EQ (q2_budget_take_some (NULL, 1, 77), 77);
}

/* No counter ever exceeds its bound, whoever takes at once. */
static struct qcow2_budget server_budget, image_budgets[2];
static _Atomic unsigned long refused;

static void
take_and_give (void *arg, unsigned nr)
{
  struct qcow2_budget *const b = &((struct qcow2_budget *) arg)[nr % 2];

  for (unsigned i = 0; i < ROUNDS; ++i) {
    if (!q2_budget_try (b, 3)) {
      refused++;
      continue;
    }
    if (qcow2_budget_used (b) > 9 || qcow2_budget_used (&server_budget) > 12)
      CHECK (!"more than the bound");
    q2_budget_give (b, 3);
  }
}

static void
test_threads (void)
{
  struct threads threads;

  q2_budget_init (&server_budget, NULL, 12, "the server", "");
  for (size_t i = 0; i < 2; ++i)
    q2_budget_init (&image_budgets[i], &server_budget, 9, "the image", "");
  threads_start (&threads, THREADS, take_and_give, image_budgets);
  threads_join (&threads);
  CHECK_EQ (qcow2_budget_used (&server_budget), 0);
  CHECK_EQ (qcow2_budget_used (&image_budgets[0]), 0);
  CHECK_EQ (qcow2_budget_used (&image_budgets[1]), 0);
}

/* ---- Work -------------------------------------------------------------- */

struct client {
  unsigned asked, until;        /* how often; when it goes */
};

static bool
is_gone (void *opaque)
{
  struct client *const c = opaque;

  return ++c->asked > c->until;
}

static void
test_work_bound (void)
{
  struct q2_work work = q2_work_begin (NULL, 1000, "the work");
  struct qcow2_error err = { .text = "" };

  CHECK (q2_work_do (&work, 999, &err) == 0);
  CHECK (q2_work_do (&work, 2, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET);
  CHECK (strstr (err.text, "the work") != NULL);
  CHECK (q2_work_do (&work, 1, &err) == 0);
  CHECK (q2_work_do (&work, 1, &err) == -1);
  CHECK (q2_work_do (&work, UINT64_MAX, &err) == -1);
  q2_work_allow (&work, 10);
  CHECK (q2_work_do (&work, 10, &err) == 0);
  CHECK (q2_work_do (&work, 1, &err) == -1);
  q2_work_allow (&work, UINT64_MAX);
  q2_work_allow (&work, UINT64_MAX);
  CHECK (q2_work_do (&work, UINT64_MAX / 4, &err) == 0);
}

static void
test_work_abandoned (void)
{
  struct client c = { 0, 3 };
  struct qcow2_budget *const server =
    qcow2_budget_new (100, "", is_gone, &c);
  struct qcow2_budget image;
  struct qcow2_error err = { .text = "" };
  struct q2_work work;
  unsigned n = 0;

  REQUIRE (server != NULL);
  q2_budget_init (&image, server, 100, "the image", "");
  work = q2_work_begin (&image, UINT64_MAX, "the work");
  while (n < 100 && q2_work_do (&work, Q2_WORK_LOOK / 2, &err) == 0)
    ++n;
  CHECK_ERROR (&err, QCOW2_ERR_ABANDONED, QCOW2_NO_OFFSET);
  CHECK_EQ (c.asked, 4);
  CHECK (n >= 6 && n < 8);
  qcow2_budget_free (server);
}

/* ---- Turns --------------------------------------------------------------- */

static struct q2_turns *turns;
static _Atomic unsigned computing, most;
static _Atomic bool stop;

static void
compute (void)
{
  const unsigned n = atomic_fetch_add (&computing, 1) + 1;
  unsigned seen = atomic_load (&most);

  while (n > seen && !atomic_compare_exchange_weak (&most, &seen, n))
    ;
  for (volatile unsigned i = 0; i < 2000; ++i)
    ;
  atomic_fetch_sub (&computing, 1);
}

/* A part of it at a time. */
static void
take_turns (void *arg, unsigned nr)
{
  uint64_t turn = 0;

  (void) arg;
  (void) nr;
  for (unsigned i = 0; i < 500; ++i) {
    CHECK (q2_turns_take (turns, &turn, NULL, NULL));
    CHECK (turn != 0);
    compute ();
  }
  q2_turns_give (turns, &turn);
  CHECK_EQ (turn, 0);
}

/* Nobody gets more than what there is, and everybody gets to the end. */
static void
test_turns (void)
{
  uint64_t a = 0, b = 0;
  struct threads threads;

  turns = q2_turns_new (2, 1000000);
  REQUIRE (turns != NULL);
  threads_start (&threads, THREADS, take_turns, NULL);
  threads_join (&threads);
  CHECK (most >= 1 && most <= 2);
  /* As many as that there are. */
  CHECK (q2_turns_take (turns, &a, NULL, NULL));
  CHECK (q2_turns_take (turns, &b, NULL, NULL));
  CHECK (a != b);
  q2_turns_give (turns, &a);
  q2_turns_give (turns, &b);
  q2_turns_free (turns);
}

/* The same with what work does by itself. */
static void
work_on (void *arg, unsigned nr)
{
  struct q2_work work = q2_work_begin (arg, UINT64_MAX, "the work");
  struct qcow2_error err;

  (void) nr;
  /* The first of it is for all. */
  CHECK (q2_work_do (&work, 1, &err) == 0);
  CHECK_EQ (work.turn, 0);
  for (unsigned i = 0; i < 200; ++i) {
    CHECK (q2_work_do (&work, Q2_WORK_LOOK, &err) == 0);
    CHECK (work.turn != 0);
    compute ();
  }
  q2_work_end (&work);
  CHECK_EQ (work.turn, 0);
}

static void
test_work_in_parallel (void)
{
  struct qcow2_budget *const server = qcow2_budget_new (1, "", NULL, NULL);
  struct threads threads;
  struct qcow2_budget image;

  REQUIRE (server != NULL);
  q2_turns_free (server->turns);
  server->turns = q2_turns_new (3, 1000000);
  REQUIRE (server->turns != NULL);
  q2_budget_init (&image, server, 1, "the image", "");
  most = 0;
  threads_start (&threads, THREADS, work_on, &image);
  threads_join (&threads);
  CHECK (most >= 1 && most <= 3);
  qcow2_budget_free (server);
}

/* He keeps his turn until he is told to give it back. */
static void
keep_turn (void *arg, unsigned nr)
{
  uint64_t turn = 0;

  (void) nr;
  CHECK (q2_turns_take (turns, &turn, NULL, NULL));
  atomic_store ((_Atomic bool *) arg, true);
  while (!stop)
    sched_yield ();
  q2_turns_give (turns, &turn);
}

/* Who waits in vain leaves; and who does not come back loses his turn. */
static void
test_turns_lost (void)
{
  struct client c = { 0, 1 };
  _Atomic bool has_it = false;
  struct threads threads;
  uint64_t turn = 0;

  turns = q2_turns_new (1, 1000000);
  REQUIRE (turns != NULL);
  threads_start (&threads, 1, keep_turn, (void *) &has_it);
  while (!has_it)
    sched_yield ();
  CHECK (!q2_turns_take (turns, &turn, is_gone, &c));
  CHECK_EQ (turn, 0);
  CHECK_EQ (c.asked, 2);
  stop = true;
  threads_join (&threads);
  CHECK (q2_turns_take (turns, &turn, NULL, NULL));
  q2_turns_give (turns, &turn);
  q2_turns_free (turns);

  stop = has_it = false;
  turns = q2_turns_new (1, 1);
  REQUIRE (turns != NULL);
  threads_start (&threads, 1, keep_turn, (void *) &has_it);
  while (!has_it)
    sched_yield ();
  CHECK (q2_turns_take (turns, &turn, NULL, NULL));
  stop = true;
  threads_join (&threads);
  /* What was lost is not given back a second time. */
  CHECK (q2_turns_take (turns, &turn, NULL, NULL));
  q2_turns_give (turns, &turn);
  q2_turns_free (turns);
}

/* ---- Where metadata is --------------------------------------------------- */

/* The set grows as far as the budget goes, knows before, and gives all back. */
static void
test_overlap (void)
{
  struct qcow2_budget image;
  struct qcow2_error err = { .text = "" };
  struct q2_overlap *o;
  uint64_t n = 0;

  q2_budget_init (&image, NULL, 100 << 10, "the image", "raise it");
  o = q2_overlap_new (16, &image, &err);
  REQUIRE (o != NULL);
  CHECK (q2_overlap_has_room (o, 2048) && !q2_overlap_has_room (o, 4097));
  while (n < 10000 && q2_overlap_has_room (o, 1)) {
    CHECK (q2_overlap_add (o, n << 16, 1, Q2_META_L2, &err) == 0);
    ++n;
  }
  /* 64 KiB of slots, half of them full; the next step would take 128. */
  CHECK_EQ (n, 4096);
  CHECK_EQ (qcow2_budget_used (&image), 64 << 10);
  CHECK (q2_overlap_add (o, n << 16, 1, Q2_META_L2, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET);
  CHECK_EQ (q2_overlap_class (o, 4095 << 16), Q2_META_L2);
  CHECK_EQ (q2_overlap_class (o, 4096 << 16), Q2_META_NONE);
  q2_overlap_free (o);
  CHECK_EQ (qcow2_budget_used (&image), 0);
}

int
main (void)
{
  test_overlap ();
  test_turns ();
  test_work_in_parallel ();
  test_turns_lost ();
  threads_watchdog ();
  test_take ();
  test_take_some ();
  test_threads ();
  test_work_bound ();
  test_work_abandoned ();
  return unit_finish ();
}
