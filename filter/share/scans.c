/* SPDX-License-Identifier: BSD-3-Clause */
/* scans.c - what was found out about refcounts of images, by much work.
 *
 * Owns      a list of it, the latest first.
 * Method    an image that was not closed is scanned when it is opened for
 *           writing, and again whenever it is opened after all clients have
 *           gone; clients probe, leave and come back.  So a scan that took
 *           long is remembered for ten times as long as it took.  If it failed
 *           the same is said again, without a scan; if not, the next one waits
 *           until somebody writes.  Whatever anybody changes in the file makes
 *           it another one: size and times tell.  Of what is no local file
 *           nothing tells, so nothing is remembered.
 * Locks     scans.lock guards the list; nothing is called with it held.
 */
#include "config.h"

#include "share/scans.h"

#include "qcow2.h"
#include "host/fileid.h"
#include "exports.h"
#include "report.h"
#include "settings.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_ENTRIES 64
#define SECOND UINT64_C (1000000000)
#define LONG (SECOND / 2)
#define TIMES_AS_LONG 10
#define MAX_TIME (600 * SECOND)

struct entry {
  struct entry *next;
  char *key;                    /* export name */
  struct file_id id;
  struct qcow2_scan scan;
  uint64_t until;               /* ns */
};

static struct {
  pthread_mutex_t lock;
  struct entry *first;
} scans = { PTHREAD_MUTEX_INITIALIZER, NULL };

static uint64_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * SECOND + (uint64_t) ts.tv_nsec;
}

static void
entry_free (struct entry *e)
{
  if (e == NULL)
    return;
  free (e->key);
  free (e);
}

/* One file is one image under any name, where names are files. */
static bool
is_match (const struct entry *e, const char *key, const struct file_id *id)
{
  return file_id_equal (&e->id, id) &&
    (config.names == NAMES_ARE_FILES || strcmp (e->key, key) == 0);
}

/* Take out the first one that is out of date, one too many, or matches. */
static struct entry *
take_locked (const char *key, const struct file_id *id)
{
  const uint64_t time = now ();
  unsigned n = 0;

  for (struct entry **link = &scans.first, *e; (e = *link) != NULL;
       link = &e->next)
    if (time >= e->until || ++n >= MAX_ENTRIES || is_match (e, key, id)) {
      *link = e->next;
      return e;
    }
  return NULL;
}

static struct entry *
entry_new (const char *key, const struct file_id *id,
           const struct qcow2_scan *scan)
{
  struct entry *const e = calloc (1, sizeof *e);
  uint64_t time = MAX_TIME;

  if (e == NULL || (e->key = strdup (key)) == NULL) {
    free (e);
    return NULL;
  }
  if (scan->ns < MAX_TIME / TIMES_AS_LONG)
    time = scan->ns * TIMES_AS_LONG;
  e->id = *id;
  e->scan = *scan;
  e->until = now () + time;
  return e;
}

bool
scans_find (const char *key, const struct file_id *id,
            struct qcow2_scan *ret_scan)
{
  const uint64_t time = now ();
  bool found = false;

  if (!id->known || id->changing || id->perishable)
    return false;
  pthread_mutex_lock (&scans.lock);
  for (const struct entry *e = scans.first; e != NULL && !found; e = e->next)
    if (time < e->until && is_match (e, key, id)) {
      (void) holds (e->scan.ns >= LONG && !e->id.perishable);
      *ret_scan = e->scan;
      found = true;
    }
  pthread_mutex_unlock (&scans.lock);
  return found;
}

void
scans_note (const char *key, const struct file_id *id,
            const struct qcow2_scan *scan)
{
  struct entry *e, *old;

  if (scan->ns < LONG || !id->known || id->changing || id->perishable)
    return;
  e = entry_new (key, id, scan);
  if (e == NULL)
    return;
  do {
    pthread_mutex_lock (&scans.lock);
    old = take_locked (key, id);
    if (old == NULL) {
      e->next = scans.first;
      scans.first = e;
    }
    pthread_mutex_unlock (&scans.lock);
    entry_free (old);
  } while (old != NULL);
}

void
scans_unload (void)
{
  while (scans.first != NULL) {
    struct entry *const e = scans.first;

    scans.first = e->next;
    entry_free (e);
  }
}
