/* SPDX-License-Identifier: BSD-3-Clause */
/* claims.c - which files this process reads, and which it writes.
 *
 * Owns      the list of claims.
 * Method    images that are served and the files they stand on each claim
 *           their file while they are in use: all may read it, or one may
 *           write.  So what lies below an image does not change under it, and
 *           no two images write to one data file.  Locks (locks.c) see to
 *           the same between processes, but can be off or not there.
 *
 *           Within one image's connections its server decides.
 * Locks     claims.lock guards the list, and 'writing' of what is in it;
 *           held for a few instructions.
 */
#include "config.h"

#include "host/claims.h"

#include "host/env.h"

#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

static struct {
  pthread_mutex_t lock;
  struct claim *first;
} claims = { PTHREAD_MUTEX_INITIALIZER, NULL };

bool
identity_of_file (const struct stat *st, struct identity *ret)
{
  if (S_ISREG (st->st_mode))
    *ret = (struct identity) {
      .kind = ID_FILE, .dev = st->st_dev, .ino = st->st_ino,
    };
  else if (S_ISBLK (st->st_mode))
    *ret = (struct identity) { .kind = ID_DEVICE, .dev = st->st_rdev };
  else
    return false;
  return true;
}

bool
identity_equal (const struct identity *a, const struct identity *b)
{
  if (a->kind != b->kind)
    return false;
  switch (a->kind) {
  case ID_UNKNOWN:
    return false;
  case ID_FILE:
    return a->dev == b->dev && a->ino == b->ino;
  case ID_DEVICE:
    return a->dev == b->dev;
  case ID_URI:
  case ID_EXPORT:
    return strcmp (a->text, b->text) == 0;
  }
  return false;
}

/* What points to the claim in the list; or the end of it. */
static struct claim **
find_locked (const struct claim *claim)
{
  struct claim **link = &claims.first;

  while (*link != NULL && *link != claim)
    link = &(*link)->next;
  return link;
}

/* What is in the list has a file, and all of one file agree. */
static bool
is_free_locked (const struct claim *claim, bool writing)
{
  for (const struct claim *c = claims.first; c; c = c->next) {
    (void) host_holds (c->env, c->id.kind != ID_UNKNOWN);
    if (c != claim && (writing || c->writing) &&
        identity_equal (&c->id, &claim->id))
      return false;
  }
  return true;
}

bool
claim_take (const struct host_env *env, struct claim *claim,
            const struct identity *id, bool writing)
{
  bool free;

  if (!host_holds (env, claim->id.kind == ID_UNKNOWN))
    return false;
  if (id->kind == ID_UNKNOWN)
    return true;
  if (!host_holds (env, id->text != NULL || id->kind == ID_FILE ||
                   id->kind == ID_DEVICE))
    return false;
  pthread_mutex_lock (&claims.lock);
  claim->id = *id;
  free = is_free_locked (claim, writing);
  if (free) {
    claim->env = env;
    claim->writing = writing;
    claim->next = claims.first;
    claims.first = claim;
  }
  else
    claim->id.kind = ID_UNKNOWN;
  pthread_mutex_unlock (&claims.lock);
  return free;
}

bool
claim_upgrade (struct claim *claim)
{
  bool free;

  if (claim->id.kind == ID_UNKNOWN)
    return true;
  pthread_mutex_lock (&claims.lock);
  free = host_holds (claim->env, *find_locked (claim) != NULL) &&
    is_free_locked (claim, true);
  if (free)
    claim->writing = true;
  pthread_mutex_unlock (&claims.lock);
  return free;
}

void
claim_release (struct claim *claim)
{
  struct claim **link;

  if (claim->id.kind == ID_UNKNOWN)
    return;
  pthread_mutex_lock (&claims.lock);
  link = find_locked (claim);
  if (host_holds (claim->env, *link != NULL))
    *link = claim->next;
  pthread_mutex_unlock (&claims.lock);
  claim->id.kind = ID_UNKNOWN;
}
