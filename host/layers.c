/* SPDX-License-Identifier: BSD-3-Clause */
/* layers.c - layers that are open, shared by all images that stand on them.
 *
 * Owns      the list of layers: backing files and data files that are open,
 *           or being opened (layer.c).
 * Method    who needs a layer that is open, in the same way, shares it: then
 *           a base with a hundred overlays is open once and has its tables in
 *           memory once.  The same way means the same file and format, and
 *           that its own references would lead to the same files.  What is
 *           written to is never shared; its claim sees to that.
 *
 *           Opening is done once: who comes meanwhile waits, and tries itself
 *           if that fails.  Opening a layer opens those below it, so threads
 *           that open chains could wait for each other in a circle; that is
 *           so only if the chains are a circle, and is noticed before waiting
 *           by following what each layer needs.
 *
 *           The last user closes a layer.
 * Locks     layers.lock guards the list and the fields marked (L); never
 *           held over I/O.
 */
#include "config.h"

#include "host/layers.h"

#include "qcow2.h"
#include "host/chain.h"
#include "host/claims.h"
#include "host/env.h"
#include "host/error.h"
#include "host/find.h"
#include "host/layer.h"
#include "host/rules.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;       /* a layer is ready, or is not going to be */
  struct layer *first;
} layers = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL };

/* ---- The list ---------------------------------------------------------- */

static bool
is_written (const struct gate *gate, const struct found *found,
            const struct qcow2_reference *reference)
{
  if (reference->kind == QCOW2_DATA_FILE)
    return reference->writing;
  return gate->write_below || (gate->write_to != NULL &&
                               identity_equal (gate->write_to, &found->id));
}

static struct layer_key
key_of (const struct gate *gate, const struct found *found,
        const struct qcow2_reference *reference)
{
  const struct rules *const rules = gate->env->rules;
  const size_t nth = gate->nr_encrypted + reference->encrypted;

  if (reference->kind == QCOW2_DATA_FILE)
    return (struct layer_key) {
      .id = found->id, .writing = is_written (gate, found, reference),
    };
  return (struct layer_key) {
    .id = found->id, .folder = found->folder, .format = found->format,
    .writing = is_written (gate, found, reference),
    .depth = rules->nr_backing > 0 || rules->nr_formats > 0
      ? gate->depth + 1 : 0,
    .passphrase = rules_nth_passphrase (rules, nth),
  };
}

static bool
same_text (const char *a, const char *b)
{
  return a == b || (a != NULL && b != NULL && strcmp (a, b) == 0);
}

static bool
key_equal (const struct layer_key *a, const struct layer_key *b)
{
  return identity_equal (&a->id, &b->id) && a->format == b->format &&
    !a->writing && !b->writing && a->depth == b->depth &&
    a->passphrase == b->passphrase && same_text (a->folder, b->folder);
}

static struct layer *
find_locked (const struct host_env *env, const struct layer_key *key)
{
  for (struct layer *l = layers.first; l; l = l->next)
    if (host_holds (l->env, l->users > 0) && l->env == env &&
        key_equal (&l->key, key))
      return l;
  return NULL;
}

static struct layer *
push_new_locked (const struct host_env *env, const struct layer_key *key,
                 const struct found *found)
{
  struct layer *l = calloc (1, sizeof *l);

  if (l == NULL || (l->name = strdup (found->name)) == NULL ||
      (found->folder && (l->folder = strdup (found->folder)) == NULL)) {
    if (l)
      free (l->name);
    free (l);
    return NULL;
  }
  l->env = env;
  l->users = 1;
  l->key = *key;
  l->key.folder = l->key.folder ? l->folder : NULL;
  l->next = layers.first;
  layers.first = l;
  return l;
}

static void
unlink_locked (struct layer *layer)
{
  struct layer **link;

  for (link = &layers.first; *link && *link != layer; link = &(*link)->next)
    ;
  if (host_holds (layer->env, *link != NULL))
    *link = layer->next;
  (void) host_holds (layer->env, layer->needs == NULL);
  for (struct layer *l = layers.first; l; l = l->next)
    if (l->needs == layer)
      l->needs = NULL;
}

/* Whether its opening can go on only after ours. */
static bool
waits_for_us_locked (const struct layer *layer, const struct gate *gate)
{
  for (; layer; layer = layer->needs)
    for (const struct gate *g = gate; g; g = g->above)
      if (g->layer == layer)
        return true;
  return false;
}

static void
set_needs_locked (const struct gate *gate, const struct layer *layer)
{
  if (gate->layer && host_holds (gate->env, !gate->layer->ready &&
                                 gate->layer != layer))
    gate->layer->needs = layer;
}

/* The image first, because its background work uses the rest. */
static void
close_layer (struct layer *l)
{
  layer_close_image (l);
  layers_release (&l->layers);
  layer_free (l);
}

/* ---- Acquire and release ----------------------------------------------- */

/* The lock is held on entry and on return, but not in between.  NULL if it
 * cannot be opened.
 */
static struct layer *
open_new_locked (struct gate *gate, const struct layer_key *key,
                 struct found *found,
                 const struct qcow2_reference *reference,
                 struct qcow2_error *err)
{
  struct layer *l = push_new_locked (gate->env, key, found);
  int r;

  if (l == NULL) {
    fail_with (err, QCOW2_ERR_NOMEM, ENOMEM, "out of memory for a layer");
    return NULL;
  }
  set_needs_locked (gate, l);
  pthread_mutex_unlock (&layers.lock);
  r = layer_open (l, gate, found, reference, err);
  pthread_mutex_lock (&layers.lock);
  (void) host_holds (l->env, !l->ready && l->users == 1);
  if (r == 0)
    l->ready = true;
  else
    unlink_locked (l);
  pthread_cond_broadcast (&layers.changed);
  if (r == 0)
    return l;
  pthread_mutex_unlock (&layers.lock);
  close_layer (l);
  pthread_mutex_lock (&layers.lock);
  return NULL;
}

struct layer *
layer_acquire (struct gate *gate, struct found *found,
               const struct qcow2_reference *reference,
               struct qcow2_error *err)
{
  const struct layer_key key = key_of (gate, found, reference);
  struct layer *l;

  pthread_mutex_lock (&layers.lock);
  while ((l = find_locked (gate->env, &key)) != NULL && !l->ready &&
         !waits_for_us_locked (l, gate)) {
    set_needs_locked (gate, l);
    pthread_cond_wait (&layers.changed, &layers.lock);
  }
  if (l == NULL)
    l = open_new_locked (gate, &key, found, reference, err);
  else if (l->ready)
    l->users++;
  else {
    fail_with (err, QCOW2_ERR_REFUSED, ELOOP,
               "the backing file %s stands on this image itself",
               found->name);
    l = NULL;
  }
  set_needs_locked (gate, NULL);
  pthread_mutex_unlock (&layers.lock);
  return l;
}

void
layer_release (struct layer *l)
{
  bool last = false;

  if (l == NULL)
    return;
  pthread_mutex_lock (&layers.lock);
  (void) host_holds (l->env, l->ready);
  if (host_holds (l->env, l->users > 0))
    last = --l->users == 0;
  if (last)
    unlink_locked (l);
  pthread_mutex_unlock (&layers.lock);
  if (last)
    close_layer (l);
}

void
layers_release (struct layers *ls)
{
  layer_release (ls->backing);
  layer_release (ls->data_file);
  *ls = (struct layers) { NULL, NULL };
}
