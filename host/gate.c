/* SPDX-License-Identifier: BSD-3-Clause */
/* gate.c - every reference of an image to another file comes through here.
 *
 * Owns      struct gate, one for each image that is being opened: on the
 *           stack of who opens it, linked to that of the image which refers
 *           to it, up to the one that a client has asked for.
 * Method    find.c says which file it is; then it must not be one that the
 *           chain already has, under whatever name: not the image itself, nor
 *           one above or below it, nor a data file of one of these.  So no
 *           chain is endless, and no data file is anything else.  layers.c
 *           opens it.
 * Locks     none: a gate belongs to one thread.
 */
#include "config.h"

#include "host/gate.h"

#include "qcow2.h"
#include "host/chain.h"
#include "host/claims.h"
#include "host/env.h"
#include "host/error.h"
#include "host/find.h"
#include "host/layer.h"
#include "host/layers.h"
#include "host/names.h"
#include "host/rules.h"

#include <errno.h>

static unsigned
most_layers (const struct gate *gate)
{
  const unsigned given = gate->env->chain_depth;

  return given == 0 ? MAX_LAYERS : given < MOST_LAYERS ? given : MOST_LAYERS;
}

static int
fail_too_deep (const struct gate *gate, struct qcow2_error *err)
{
  const struct host_words *const words = gate->env->words;
  const unsigned most = most_layers (gate);
  const bool more = words->chain_depth != NULL && most < MOST_LAYERS;

  return fail_with (err, QCOW2_ERR_UNSUPPORTED, ENOTSUP,
                    "the image has more than %u backing files below each "
                    "other; %s%s%s'qemu-img rebase' or 'qemu-img commit' "
                    "makes the chain shorter", most,
                    more ? words->chain_depth : "", more ? words->sep : "",
                    more ? "N allows more, and " : "");
}

/* ---- The same file twice ----------------------------------------------- */

static bool
layers_contain (const struct layers *layers, const struct identity *id)
{
  return (layers->backing && layer_contains (layers->backing, id)) ||
    (layers->data_file && layer_contains (layers->data_file, id));
}

/* Whether the file is one of the image's, or of the chain that leads to it. */
static bool
gate_contains (const struct gate *gate, const struct identity *id)
{
  for (; gate; gate = gate->above)
    if (identity_equal (&gate->id, id) || layers_contain (&gate->layers, id))
      return true;
  return false;
}

/* Whether it, or what it stands on, is one of these images or their other
 * files.
 */
static bool
layer_clashes (const struct layer *l, const struct gate *gate)
{
  for (; l; l = l->layers.backing)
    if (gate_contains (gate, &l->key.id) ||
        (l->layers.data_file &&
         gate_contains (gate, &l->layers.data_file->key.id)))
      return true;
  return false;
}

static int
fail_twice (const struct gate *gate, const struct qcow2_reference *reference,
            const struct found *found, struct qcow2_error *err)
{
  const char *const kind = reference_kind (reference);

  if (identity_equal (&gate->id, &found->id))
    return fail_with (err, QCOW2_ERR_REFUSED, ELOOP,
                      "the image is its own %s (%s)", kind, found->name);
  return fail_with (err, QCOW2_ERR_REFUSED, ELOOP,
                    "the %s %s is already in use in the chain of files of "
                    "this image, which so would never end, or destroy "
                    "itself", kind, found->name);
}

/* Where the reference leads: an image has one of each kind. */
static struct layer **
slot_of (struct gate *gate, const struct qcow2_reference *reference)
{
  return reference->kind == QCOW2_DATA_FILE ? &gate->layers.data_file
    : &gate->layers.backing;
}

static int
check_layer (const struct gate *gate, const struct qcow2_reference *reference,
             const struct found *found, const struct layer *layer,
             struct qcow2_error *err)
{
  if (layer_clashes (layer, gate))
    return fail_twice (gate, reference, found, err);
  if (gate->depth + 1 + layer_depth (layer) > most_layers (gate))
    return fail_too_deep (gate, err);
  return 0;
}

/* ---- Opening ----------------------------------------------------------- */

void
gate_init (struct gate *gate, const struct host_env *env,
           const struct identity *id, const char *folder)
{
  *gate = (struct gate) {
    .env = env, .open_file = gate_open_file, .id = *id, .folder = folder,
  };
}

int
gate_open_file (void *opaque, const struct qcow2_reference *reference,
                struct qcow2_file *ret_file, struct qcow2_error *err)
{
  struct gate *const gate = opaque;
  struct layer **const slot = slot_of (gate, reference);
  struct layer *layer = NULL;
  struct found found;

  if (reference->kind == QCOW2_BACKING_FILE &&
      (!host_holds (gate->env, gate->depth <= most_layers (gate)) ||
       gate->depth == most_layers (gate)))
    return fail_too_deep (gate, err);
  if (!host_holds (gate->env, *slot == NULL))
    return fail_with (err, QCOW2_ERR_REFUSED, EINVAL,
                      "the image's %s is open already",
                      reference_kind (reference));
  if (find_file (gate, reference, &found, err) == -1)
    return -1;
  if (gate_contains (gate, &found.id))
    fail_twice (gate, reference, &found, err);
  else
    layer = layer_acquire (gate, &found, reference, err);
  if (layer != NULL &&
      check_layer (gate, reference, &found, layer, err) == -1) {
    layer_release (layer);
    layer = NULL;
  }
  found_free (&found);
  if (layer == NULL)
    return -1;
  *slot = layer;
  layer_get_file (layer, ret_file);
  return 0;
}

static bool
is_encrypted (const struct gate *gate, const struct qcow2_image *image)
{
  const struct layer *l = gate->layers.backing;

  if (qcow2_get_info (image).encryption != QCOW2_ENCRYPTION_NONE)
    return true;
  for (; l && host_holds (l->env, l->image != NULL); l = l->layers.backing)
    if (qcow2_get_info (l->image).encryption != QCOW2_ENCRYPTION_NONE)
      return true;
  return false;
}

int
gate_check_unused (const struct gate *gate, const struct qcow2_image *image,
                   struct qcow2_error *err)
{
  const struct rules *const rules = gate->env->rules;
  const struct host_words *const words = gate->env->words;
  const unsigned depth = layers_depth (&gate->layers);

  /* With many images, what is not for this one is for another. */
  if (!gate->env->one_image)
    return 0;
  if (rules->data_file != NULL && gate->layers.data_file == NULL)
    return fail_with (err, QCOW2_ERR_REFUSED, EINVAL,
                      "the image has no data file, but %s was given",
                      words->data_file);
  if (rules->nr_backing > 0 && depth == 0)
    return fail_with (err, QCOW2_ERR_REFUSED, EINVAL,
                      "the image has no backing file, but %s was given",
                      words->backing);
  if (rules->nr_passphrases > 0 && !is_encrypted (gate, image))
    return fail_with (err, QCOW2_ERR_REFUSED, EINVAL,
                      "neither the image nor a backing file is encrypted, "
                      "but %s was given", words->passphrase);
  if (rules->nr_backing > depth)
    return fail_with (err, QCOW2_ERR_REFUSED, EINVAL,
                      "the chain has %u backing file%s, but %s was given %zu "
                      "times", depth, depth == 1 ? "" : "s", words->backing,
                      rules->nr_backing);
  return 0;
}
