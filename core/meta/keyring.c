/* SPDX-License-Identifier: BSD-3-Clause */
/* keyring.c - keys of LUKS images that were unlocked before.
 *
 * Owns      a list of keys, each with the header and the passphrase that it
 *           was found with, the last one used in front.
 * Method    a key is found again if header and passphrase are the same, byte
 *           by byte.  When there are too many, the one that was not used for
 *           the longest time goes.  Failures are not remembered: key
 *           material may be restored without a trace in the header.
 * Locks     keyring->lock guards the list and all that is in it; nothing is
 *           called with it held.  Two who unlock the same image at the same
 *           time both do the work, and both keys are kept.
 *
 * Each entry is memory for secrets, with the passphrase at its end.
 */
#include "config.h"

#include "meta/keyring.h"

#include "base/secret.h"
#include "format/cipher_spec.h"

#include <pthread.h>
#include <stdlib.h>

/* As many as a chain may have layers.  A page of locked memory each. */
#define MAX_ENTRIES 64

struct entry {
  struct entry *next;
  unsigned char header[Q2_LUKS_HEADER];
  unsigned char key[Q2_MAX_KEY_BYTES];
  size_t len;
  char passphrase[];
};

struct qcow2_keyring {
  pthread_mutex_t lock;
  struct entry *first;
};

struct qcow2_keyring *
qcow2_keyring_new (void)
{
  struct qcow2_keyring *const k = calloc (1, sizeof *k);

  if (k != NULL)
    pthread_mutex_init (&k->lock, NULL);
  return k;
}

static void
entry_free (struct entry *e)
{
  q2_secret_free (e, sizeof *e + e->len);
}

void
qcow2_keyring_free (struct qcow2_keyring *k)
{
  struct entry *e;

  if (k == NULL)
    return;
  while ((e = k->first) != NULL) {
    k->first = e->next;
    entry_free (e);
  }
  pthread_mutex_destroy (&k->lock);
  free (k);
}

static bool
is_match (const struct entry *e, const struct q2_keyring_query *query)
{
  return memcmp (e->header, query->header, sizeof e->header) == 0 &&
    e->len == query->len &&
    memcmp (e->passphrase, query->passphrase, e->len) == 0;
}

static void
push_locked (struct qcow2_keyring *k, struct entry *e)
{
  e->next = k->first;
  k->first = e;
}

bool
q2_keyring_find (struct qcow2_keyring *k,
                 const struct q2_keyring_query *query, unsigned char *ret_key)
{
  struct entry **link, *e;

  pthread_mutex_lock (&k->lock);
  for (link = &k->first; (e = *link) != NULL; link = &e->next)
    if (is_match (e, query)) {
      memcpy (ret_key, e->key, sizeof e->key);
      *link = e->next;
      push_locked (k, e);
      break;
    }
  pthread_mutex_unlock (&k->lock);
  return e != NULL;
}

/* Take out what is one too many; NULL if nothing is. */
static struct entry *
take_surplus_locked (struct qcow2_keyring *k)
{
  struct entry **link = &k->first, *e;

  for (unsigned i = 0; i < MAX_ENTRIES && *link != NULL; ++i)
    link = &(*link)->next;
  e = *link;
  *link = NULL;
  return e;
}

void
q2_keyring_add (struct qcow2_keyring *k,
                const struct q2_keyring_query *query,
                const unsigned char *key)
{
  struct entry *const e = q2_secret_alloc (sizeof *e + query->len);
  struct entry *surplus;

  if (e == NULL)
    return;
  memcpy (e->header, query->header, sizeof e->header);
  memcpy (e->key, key, sizeof e->key);
  e->len = query->len;
  memcpy (e->passphrase, query->passphrase, query->len);

  pthread_mutex_lock (&k->lock);
  push_locked (k, e);
  surplus = take_surplus_locked (k);
  pthread_mutex_unlock (&k->lock);
  if (surplus != NULL)
    entry_free (surplus);
}
