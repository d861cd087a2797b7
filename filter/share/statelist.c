/* SPDX-License-Identifier: BSD-3-Clause */
/* statelist.c - which of the images that are open serves a connection.
 *
 * Owns      the rules: what fits, what is in the way, what is kept that nobody
 *           uses.
 * Method    see state.c.
 * Locks     states.lock is the caller's.
 */
#include "config.h"

#include "share/statelist.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "report.h"
#include "settings.h"
#include "below/nbdkit_io.h"
#include "share/disk.h"

#include <string.h>

#define MAX_IDLE 4

void
states_unlink_locked (struct state **first, struct state *s)
{
  struct state **link;

  for (link = first; *link && *link != s; link = &(*link)->next)
    ;
  if (holds (*link != NULL))
    *link = s->next;
}

void
states_push_locked (struct state **first, struct state *s)
{
  (void) holds (*first != s);
  s->next = *first;
  *first = s;
}

/* While it is being opened, or ended, this has to be assumed. */
static bool
is_written_to (const struct state *s)
{
  return s->disk ? s->disk->writable : !s->readonly;
}

static bool
same_image (const struct state *s, const struct wanted *want)
{
  const bool same_name = strcmp (s->key, want->key) == 0;
  const bool files = s->id.known || s->id.device || want->id.known ||
    want->id.device;

  /* In a directory the same file is the same image under any name. */
  if (files)
    return file_id_same_file (&s->id, &want->id) &&
      (same_name || config.names == NAMES_ARE_FILES);
  return same_name;
}

bool
state_has_size (const struct state *s, const struct below *own)
{
  return own == NULL || s->disk == NULL || s->disk->size == own->io.size;
}

static bool
same_content (const struct state *s, const struct wanted *want)
{
  if (s->stale || want->id.changing || !state_has_size (s, want->own) ||
      !file_id_equal (&s->id, &want->id))
    return false;
  return strcmp (s->key, want->key) == 0 ||
    (config.names == NAMES_ARE_FILES && want->id.known);
}

/* While it is being opened, assume the best. */
static bool
is_complete (const struct state *s)
{
  return s->disk == NULL || !qcow2_get_info (s->disk->image).backing_missing;
}

struct state *
states_find_locked (struct state *first, const struct wanted *want)
{
  for (struct state *s = first; s; s = s->next) {
    (void) holds (s->ready ? s->disk != NULL : s->users > 0);
    if (!want->alone && !is_complete (s))
      continue;
    if (is_written_to (s) ? same_image (s, want)
        : (want->readonly || !s->readonly) && same_content (s, want))
      return s;
  }
  return NULL;
}

struct state *
states_find_conflict_locked (struct state *first, const struct wanted *want)
{
  for (struct state *s = first; s; s = s->next) {
    if (s->users == 0)
      continue;
    if (config.names == NAMES_UNKNOWN && is_written_to (s))
      return s;
    if (!want->readonly && s->readonly && same_image (s, want))
      return s;
  }
  return NULL;
}

void
states_mark_stale_locked (struct state *first, const struct wanted *want)
{
  for (struct state *s = first; s; s = s->next)
    if (strcmp (s->key, want->key) == 0 &&
        (is_complete (s) || !same_content (s, want)))
      s->stale = true;
}

static bool
memory_is_short (void)
{
  return qcow2_budget_used (config.budget) > config.memory / 4 * 3;
}

struct state *
states_take_surplus_locked (struct state **first)
{
  unsigned idle = 0;

  for (struct state *s = *first; s; s = s->next) {
    if (s->users > 0)
      continue;
    (void) holds (s->ready && s->disk != NULL);
    if (s->stale || s->id.perishable || ++idle > MAX_IDLE ||
        memory_is_short ()) {
      states_unlink_locked (first, s);
      return s;
    }
  }
  return NULL;
}
