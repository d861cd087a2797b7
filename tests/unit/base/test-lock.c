/* SPDX-License-Identifier: BSD-3-Clause */
/* test-lock.c - the order of locks is checked.
 *
 * Owns      nothing.
 * Method    base/lock.c is built for this test as in a debug build.  What must
 *           abort does so in a child.
 */
#include "config.h"

#include "base/lock.h"
#include "unit.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct q2_mutex low = Q2_MUTEX_INITIALIZER (1, "low");
static struct q2_mutex middle = Q2_MUTEX_INITIALIZER (2, "middle");
static struct q2_mutex other = Q2_MUTEX_INITIALIZER (2, "other");
static struct q2_rwlock high;

static void
in_order (void)
{
  q2_mutex_lock (&low);
  q2_mutex_lock (&middle);
  q2_rwlock_rdlock (&high);
  /* Given back in any order, and taken again. */
  q2_mutex_unlock (&middle);
  q2_rwlock_unlock (&high);
  q2_mutex_lock (&other);
  q2_mutex_unlock (&low);
  q2_mutex_unlock (&other);
  q2_rwlock_wrlock (&high);
  q2_rwlock_unlock (&high);
}

/* Trying does not wait; what it got counts. */
static void
tries (void)
{
  q2_mutex_lock (&middle);
  if (q2_mutex_trylock (&low) == 0)
    q2_mutex_unlock (&low);
  q2_mutex_unlock (&middle);
}

static void
inverts (void)
{
  q2_mutex_lock (&middle);
  q2_mutex_lock (&low);
}

static void
takes_two_of_a_rank (void)
{
  q2_mutex_lock (&middle);
  q2_mutex_lock (&other);
}

static void
inverts_after_trying (void)
{
  if (q2_mutex_trylock (&middle) == 0)
    q2_mutex_lock (&low);
}

static void
inverts_for_reading (void)
{
  q2_rwlock_rdlock (&high);
  q2_mutex_lock (&other);
}

static void
gives_back_what_it_has_not (void)
{
  q2_mutex_unlock (&low);
}

/* The signal that ends a child that does it; 0: none. */
static int
signal_of (void (*fn) (void))
{
  const struct rlimit no_core = { 0, 0 };
  const pid_t pid = fork ();
  int status = 0;

  REQUIRE (pid != -1);
  if (pid == 0) {
    setrlimit (RLIMIT_CORE, &no_core);
    if (freopen ("/dev/null", "w", stderr) == NULL)
      _exit (1);
    fn ();
    _exit (0);
  }
  REQUIRE (waitpid (pid, &status, 0) == pid);
  return WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status);
}

int
main (void)
{
  q2_rwlock_init (&high, 9, "high");
  CHECK_EQ (signal_of (in_order), 0);
  CHECK_EQ (signal_of (tries), 0);
  CHECK_EQ (signal_of (inverts), SIGABRT);
  CHECK_EQ (signal_of (takes_two_of_a_rank), SIGABRT);
  CHECK_EQ (signal_of (inverts_after_trying), SIGABRT);
  CHECK_EQ (signal_of (inverts_for_reading), SIGABRT);
  CHECK_EQ (signal_of (gives_back_what_it_has_not), SIGABRT);
  q2_rwlock_destroy (&high);
  return unit_finish ();
}
