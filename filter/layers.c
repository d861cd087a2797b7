/* SPDX-License-Identifier: BSD-3-Clause */
/* layers.c - open layers, shared by all images that stand on them.
 *
 * Owns      struct layer: a backing file or a data file that is open, with
 *           its locks, the way to its bytes and, if it is an image, that
 *           image and the layers that it stands on itself; and the list of
 *           them.
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
 *           The last user closes a layer, image first, because the image's
 *           background work uses the rest.
 * Locks     layers.lock guards the list and the fields marked (L); never
 *           held over I/O.
 */
#include "config.h"

#include "layers.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What must be the same for a layer to be shared. */
struct key {
  struct identity id;
  const char *folder;           /* or NULL */
  enum layer_format format;     /* FORMAT_UNKNOWN: a data file */
  bool writing;
  size_t depth;                 /* 0 where it makes no difference */
  size_t passphrase;            /* likewise */
};

struct layer {
  struct layer *next;           /* (L) */
  unsigned users;               /* (L) */
  bool ready;                   /* (L) false: being opened */
  const struct layer *needs;    /* (L) what its opening waits for */
  struct key key;               /* constant, as all else once it is ready */
  char *name, *folder;
  struct claim claim;
  int lock_fd;                  /* of another export's local file, or -1 */
  struct other *other;
  struct qcow2_image *image;    /* NULL: a data file */
  struct layers layers;
};

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;       /* a layer is ready, or is not going to be */
  struct layer *first;
} layers = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL };

/* ---- The list ---------------------------------------------------------------- */

static struct key
key_of (const struct gate *gate, const struct found *found,
        const struct qcow2_reference *reference)
{
  const size_t nr = places.nr_passphrases;
  size_t nth = gate->nr_encrypted + reference->encrypted;

  if (reference->kind == QCOW2_DATA_FILE)
    return (struct key) { .id = found->id, .writing = reference->writing };
  nth = nr == 0 ? 0 : nth < nr ? nth : nr - 1;
  return (struct key) {
    .id = found->id, .folder = found->folder, .format = found->format,
    .depth = places.nr_backing > 0 || places.nr_formats > 0
      ? gate->depth + 1 : 0,
    .passphrase = nth,
  };
}

static bool
same_text (const char *a, const char *b)
{
  return a == b || (a != NULL && b != NULL && strcmp (a, b) == 0);
}

static bool
key_equal (const struct key *a, const struct key *b)
{
  return identity_equal (&a->id, &b->id) && a->format == b->format &&
    !a->writing && !b->writing && a->depth == b->depth &&
    a->passphrase == b->passphrase && same_text (a->folder, b->folder);
}

static struct layer *
find_locked (const struct key *key)
{
  for (struct layer *l = layers.first; l; l = l->next)
    if (key_equal (&l->key, key))
      return l;
  return NULL;
}

static struct layer *
push_new_locked (const struct key *key, const struct found *found)
{
  struct layer *l = calloc (1, sizeof *l);

  if (l == NULL || (l->name = strdup (found->name)) == NULL ||
      (found->folder && (l->folder = strdup (found->folder)) == NULL)) {
    if (l)
      free (l->name);
    free (l);
    return NULL;
  }
  l->users = 1;
  l->key = *key;
  l->key.folder = l->key.folder ? l->folder : NULL;
  l->lock_fd = -1;
  l->next = layers.first;
  layers.first = l;
  return l;
}

static void
unlink_locked (struct layer *layer)
{
  struct layer **link;

  for (link = &layers.first; *link != layer; link = &(*link)->next)
    assert (*link != NULL);
  *link = layer->next;
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
  if (gate->layer)
    gate->layer->needs = layer;
}

/* ---- Opening and closing ------------------------------------------------------- */

static int
fail_claim (const struct layer *l, struct qcow2_error *err)
{
  if (l->key.writing)
    return fail_with (err, QCOW2_ERR_REFUSED, EBUSY,
                      "%s cannot be opened for writing, because this server "
                      "has it open for another image", l->name);
  return fail_with (err, QCOW2_ERR_REFUSED, EBUSY,
                    "%s is open for writing in this server", l->name);
}

static int
lock_file (int fd, const char *name, bool writing, struct qcow2_error *err)
{
  if (!config.lock ||
      (writing ? lock_for_writing (fd, name)
       : lock_for_reading (fd, name)) == 0)
    return 0;
  return fail_with (err, QCOW2_ERR_IO, EBUSY,
                    "%s is in use by another process", name);
}

static struct other *
open_local (struct layer *l, const struct found *found,
            struct qcow2_error *err)
{
  bool writing = l->key.writing;
  int fd = follow_open (found->fd, writing ? O_RDWR : O_RDONLY);

  if (fd == -1 && writing &&
      (errno == EACCES || errno == EROFS || errno == EPERM)) {
    warning (l->name, "cannot be written to: %m");
    writing = false;
    fd = follow_open (found->fd, O_RDONLY);
  }
  if (fd == -1) {
    fail_with (err, QCOW2_ERR_IO, errno, "%s cannot be opened: %s", l->name,
               strerror (errno));
    return NULL;
  }
  if (lock_file (fd, l->name, writing, err) == -1) {
    close (fd);
    return NULL;
  }
  return localfile_new (fd, l->name, writing, err);
}

static struct other *
open_export (struct layer *l, const struct place *place,
             struct qcow2_error *err)
{
  struct file_id id;

  file_id_get (&id, place->text);
  l->lock_fd = file_id_open (&id, place->text, O_RDONLY);
  if (l->lock_fd != -1 && lock_file (l->lock_fd, l->name, false, err) == -1)
    return NULL;
  return exportfile_open (place, err);
}

static struct other *
open_other (struct layer *l, const struct found *found,
            struct qcow2_error *err)
{
  if (found->fd != -1)
    return open_local (l, found, err);
  if (found->place->kind == PLACE_EXPORT)
    return open_export (l, found->place, err);
  return nbdfile_open (found->place, l->key.writing, err);
}

/* The image that a backing file is. */
static int
open_image (struct layer *l, const struct gate *gate, size_t nr_encrypted,
            struct qcow2_error *err)
{
  struct gate own = {
    .above = gate, .layer = l, .id = l->key.id, .folder = l->folder,
    .depth = gate->depth + 1, .nr_encrypted = nr_encrypted,
  };
  const struct passphrase passphrase = places_passphrase (nr_encrypted);
  struct qcow2_options options = disk_options (l->name);

  options.raw = l->key.format == FORMAT_RAW;
  options.open_file = gate_open_file;
  options.open_file_opaque = &own;
  options.passphrase = passphrase.bytes;
  options.passphrase_len = passphrase.len;
  l->image = qcow2_open (&l->other->io, &options, err);
  l->layers = own.layers;
  if (l->image == NULL) {
    if (!own.blamed)
      fail_in (err, "backing file %s: ", l->name);
    return -1;
  }
  nbdkit_debug ("qcow2: %s: opened: version %u, disk of %llu bytes, as a "
                "backing file", l->name, qcow2_get_info (l->image)->version,
                (unsigned long long)
                qcow2_get_info (l->image)->virtual_size);
  return 0;
}

static int
layer_open (struct layer *l, struct gate *gate, const struct found *found,
            const struct qcow2_reference *reference, struct qcow2_error *err)
{
  if (!claim_take (&l->claim, &l->key.id, l->key.writing))
    return fail_claim (l, err);
  l->other = open_other (l, found, err);
  if (l->other == NULL)
    return -1;
  if (reference->kind == QCOW2_BACKING_FILE &&
      open_image (l, gate, gate->nr_encrypted + reference->encrypted, err)
      == -1) {
    gate->blamed = true;
    return -1;
  }
  return 0;
}

static void
layer_close (struct layer *l)
{
  if (l->image) {
    log_stats (l->name, l->image, false);
    qcow2_close (l->image);
  }
  layers_release (&l->layers);
  if (l->other)
    l->other->close (l->other);
  if (l->lock_fd != -1)
    close (l->lock_fd);
  claim_release (&l->claim);
  free (l->name);
  free (l->folder);
  free (l);
}

/* ---- Acquire and release --------------------------------------------------------- */

/* The lock is held on entry and on return, but not in between.  NULL if it
 * cannot be opened.
 */
static struct layer *
open_new_locked (struct gate *gate, const struct key *key,
                 const struct found *found,
                 const struct qcow2_reference *reference,
                 struct qcow2_error *err)
{
  struct layer *l = push_new_locked (key, found);
  int r;

  if (l == NULL) {
    fail_with (err, QCOW2_ERR_NOMEM, ENOMEM, "out of memory for a layer");
    return NULL;
  }
  set_needs_locked (gate, l);
  pthread_mutex_unlock (&layers.lock);
  r = layer_open (l, gate, found, reference, err);
  pthread_mutex_lock (&layers.lock);
  if (r == 0)
    l->ready = true;
  else
    unlink_locked (l);
  pthread_cond_broadcast (&layers.changed);
  if (r == 0)
    return l;
  pthread_mutex_unlock (&layers.lock);
  layer_close (l);
  pthread_mutex_lock (&layers.lock);
  return NULL;
}

struct layer *
layer_acquire (struct gate *gate, const struct found *found,
               const struct qcow2_reference *reference,
               struct qcow2_error *err)
{
  const struct key key = key_of (gate, found, reference);
  struct layer *l;

  pthread_mutex_lock (&layers.lock);
  while ((l = find_locked (&key)) != NULL && !l->ready &&
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
  bool last;

  if (l == NULL)
    return;
  pthread_mutex_lock (&layers.lock);
  assert (l->users > 0);
  last = --l->users == 0;
  if (last)
    unlink_locked (l);
  pthread_mutex_unlock (&layers.lock);
  if (last)
    layer_close (l);
}

void
layers_release (struct layers *ls)
{
  layer_release (ls->backing);
  layer_release (ls->data_file);
  *ls = (struct layers) { NULL, NULL };
}

/* ---- Questions ------------------------------------------------------------------- */

void
layer_get_file (const struct layer *l, struct qcow2_file *ret_file)
{
  *ret_file = (struct qcow2_file) {
    .image = l->image, .io = &l->other->io,
  };
}

bool
layer_contains (const struct layer *l, const struct identity *id)
{
  for (; l; l = l->layers.backing)
    if (identity_equal (&l->key.id, id) ||
        (l->layers.data_file &&
         identity_equal (&l->layers.data_file->key.id, id)))
      return true;
  return false;
}

bool
layer_clashes (const struct layer *l, const struct gate *gate)
{
  for (; l; l = l->layers.backing)
    if (gate_contains (gate, &l->key.id) ||
        (l->layers.data_file &&
         gate_contains (gate, &l->layers.data_file->key.id)))
      return true;
  return false;
}

unsigned
layers_depth (const struct layers *ls)
{
  return ls->backing ? 1 + layer_depth (ls->backing) : 0;
}

unsigned
layer_depth (const struct layer *l)
{
  return layers_depth (&l->layers);
}
