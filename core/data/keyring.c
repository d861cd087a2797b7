/* SPDX-License-Identifier: BSD-3-Clause */
/* keyring.c - keys of LUKS images that were unlocked before.
 *
 * Owns      a list of keys, each with its header and passphrase, the most
 *           recently used first.
 * Method    a lookup compares header and passphrase byte by byte. Beyond
 *           MAX_ENTRIES the least recently used key is forgotten.  Failures
 *           that took long are kept for a while, in another list, so that they
 *           evict no key.  A thread that needs a key which another thread is
 *           looking for waits for it; if that one is abandoned, one of the
 *           waiting threads goes on.
 * Locks     keyring->lock guards the lists and their entries; it is not held
 *           while keys are computed or clients are checked.
 *
 * Each entry is secret memory (base/secret.h), with the passphrase at its end.
 */
#include "config.h"

#include "data/keyring.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/secret.h"
#include "format/cipher_spec.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* As many as a chain may have layers.  Each takes a page of locked memory. */
#define MAX_ENTRIES 64

struct entry {
  struct entry *next;
  unsigned char header[Q2_LUKS_HEADER];
  unsigned char key[Q2_MAX_KEY_BYTES];
  uint64_t until;               /* of a failure: forget it at this time, ns */
  struct qcow2_error error;     /* of a failure */
  size_t len;
  char passphrase[];
};

struct qcow2_keyring {
  struct q2_mutex lock;
  pthread_cond_t ended;         /* a try has ended */
  struct entry *keys, *failures;
  struct q2_keyring_try *trying;
};

#define ROUNDS_PER_SECOND_SHIFT 18
#define MAX_SECONDS UINT64_C (600)
#define SECOND UINT64_C (1000000000)

struct qcow2_keyring *
qcow2_keyring_new (void)
{
  struct qcow2_keyring *const k = calloc (1, sizeof *k);
  pthread_condattr_t attr;

  if (k == NULL)
    return NULL;
  q2_mutex_init (&k->lock, 3, "keyring.lock");
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&k->ended, &attr);
  pthread_condattr_destroy (&attr);
  return k;
}

static void
entry_free (struct entry *e)
{
  q2_secret_free (e, sizeof *e + e->len);
}

static void
free_list (struct entry *e)
{
  while (e != NULL) {
    struct entry *const next = e->next;

    entry_free (e);
    e = next;
  }
}

void
qcow2_keyring_free (struct qcow2_keyring *k)
{
  if (k == NULL)
    return;
  (void) q2_check (k->trying == NULL);
  free_list (k->keys);
  free_list (k->failures);
  pthread_cond_destroy (&k->ended);
  q2_mutex_destroy (&k->lock);
  free (k);
}

static bool
is_match (const struct entry *e, const struct q2_keyring_query *query)
{
  return memcmp (e->header, query->header, sizeof e->header) == 0 &&
    e->len == query->len &&
    memcmp (e->passphrase, query->passphrase, e->len) == 0;
}

static bool
is_tried_locked (const struct qcow2_keyring *k,
                 const struct q2_keyring_query *query)
{
  const struct q2_keyring_try *t = k->trying;

  q2_mutex_check_held (&k->lock);
  while (t != NULL &&
         (memcmp (t->query->header, query->header, Q2_LUKS_HEADER) != 0 ||
          t->query->len != query->len ||
          memcmp (t->query->passphrase, query->passphrase, query->len) != 0))
    t = t->next;
  return t != NULL;
}

static void
push (struct entry **list, struct entry *e)
{
  e->next = *list;
  *list = e;
}

/* Find the entry and move it to the front of the list; or NULL. */
static struct entry *
find (struct entry **list, const struct q2_keyring_query *query)
{
  for (struct entry **link = list, *e; (e = *link) != NULL; link = &e->next)
    if (is_match (e, query)) {
      *link = e->next;
      push (list, e);
      return e;
    }
  return NULL;
}

static uint64_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * SECOND + (uint64_t) ts.tv_nsec;
}

/* Returns what q2_keyring_begin does. */
static int
look_up_locked (struct qcow2_keyring *k, const struct q2_keyring_query *query,
                unsigned char *ret_key, struct qcow2_error *err)
{
  const struct entry *e = find (&k->keys, query);

  q2_mutex_check_held (&k->lock);
  if (e != NULL) {
    memcpy (ret_key, e->key, sizeof e->key);
    return 1;
  }
  e = find (&k->failures, query);
  if (e == NULL || now () >= e->until)
    return 0;
  *err = e->error;
  return -1;
}

/* Wait until a try has ended, or for a while; false if the call has been
 * abandoned.  The lock is held on entry and on return, but not in between.
 */
static bool
wait_locked (struct qcow2_keyring *k, const struct qcow2_budget *budget)
{
  const uint64_t until = now () + SECOND / 10;
  const struct timespec ts = {
    .tv_sec = (time_t) (until / SECOND), .tv_nsec = (long) (until % SECOND),
  };
  bool in_vain;

  q2_mutex_check_held (&k->lock);
  if (q2_cond_timedwait (&k->ended, &k->lock, &ts) == 0)
    return true;
  q2_mutex_unlock (&k->lock);
  in_vain = q2_budget_is_abandoned (budget);
  q2_mutex_lock (&k->lock);
  return !in_vain;
}

int
q2_keyring_begin (struct qcow2_keyring *k, struct q2_keyring_try *try,
                  const struct qcow2_budget *budget, unsigned char *ret_key,
                  struct qcow2_error *err)
{
  bool goes_on = true;
  int r;

  q2_mutex_lock (&k->lock);
  while (goes_on && is_tried_locked (k, try->query))
    goes_on = wait_locked (k, budget);
  if (!goes_on) {
    q2_mutex_unlock (&k->lock);
    return q2_fail (err, QCOW2_ERR_ABANDONED, QCOW2_NO_OFFSET,
                    "waiting for a key was given up, because nobody waits "
                    "for the image any more");
  }
  r = look_up_locked (k, try->query, ret_key, err);
  if (r == 0) {
    (void) q2_check (!is_tried_locked (k, try->query));
    try->next = k->trying;
    k->trying = try;
  }
  q2_mutex_unlock (&k->lock);
  return r;
}

/* Remove an entry if there is one too many, and return it; else NULL. */
static struct entry *
take_surplus (struct entry **link)
{
  struct entry *e;

  for (unsigned i = 0; i < MAX_ENTRIES && *link != NULL; ++i)
    link = &(*link)->next;
  e = *link;
  *link = NULL;
  (void) q2_check (e == NULL || e->next == NULL);       /* only ever one */
  return e;
}

/* The entry to be remembered; NULL if none is, or if there is no memory. */
static struct entry *
entry_new (const struct q2_keyring_query *query, const unsigned char *key,
           uint64_t rounds, const struct qcow2_error *err)
{
  struct entry *e;

  if (key == NULL &&
      (err->kind != QCOW2_ERR_AUTH || rounds < Q2_KEYRING_COSTLY))
    return NULL;
  e = q2_secret_alloc (sizeof *e + query->len);
  if (e == NULL)
    return NULL;
  memcpy (e->header, query->header, sizeof e->header);
  e->len = query->len;
  memcpy (e->passphrase, query->passphrase, query->len);
  if (key != NULL)
    memcpy (e->key, key, sizeof e->key);
  else {
    e->error = *err;
    e->until = now () +
      q2_min (rounds >> ROUNDS_PER_SECOND_SHIFT, MAX_SECONDS) * SECOND;
  }
  return e;
}

void
q2_keyring_end (struct qcow2_keyring *k, struct q2_keyring_try *try,
                const unsigned char *key, uint64_t rounds,
                const struct qcow2_error *err)
{
  struct entry *const e = entry_new (try->query, key, rounds, err);
  struct entry **const list = key != NULL ? &k->keys : &k->failures;
  struct entry *old = NULL, *surplus = NULL;
  struct q2_keyring_try **link;

  q2_mutex_lock (&k->lock);
  for (link = &k->trying; *link != NULL && *link != try;
       link = &(*link)->next)
    ;
  if (q2_check (*link != NULL))
    *link = try->next;
  if (e != NULL) {
    old = find (list, try->query);
    if (old != NULL)
      *list = old->next;
    push (list, e);
    surplus = take_surplus (list);
  }
  pthread_cond_broadcast (&k->ended);
  q2_mutex_unlock (&k->lock);
  if (old != NULL)
    entry_free (old);
  if (surplus != NULL)
    entry_free (surplus);
}
