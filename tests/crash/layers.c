/* SPDX-License-Identifier: BSD-3-Clause */
/* layers.c - see layers.h.
 *
 * Owns      the bytes of backing files, and the images that were opened from
 *           them: each once, even if overlays are opened several times.
 * Method    a struct memory_io has no functions for writing; here it gets ones
 *           that fail a check, so that a write is noticed.
 * Locks     none: images are opened by one thread.
 */
#include "config.h"

#include "layers.h"

#include "unit.h"

#include <errno.h>

static uint64_t
hash_bytes (const unsigned char *bytes, uint64_t size)
{
  uint64_t h = size;

  for (uint64_t i = 0; i < size; ++i)
    h = (h ^ bytes[i]) * UINT64_C (0x100000001b3);
  return h;
}

/* ---- Functions that must not be called --------------------------------- */

static int
must_not_write (void *opaque, const void *buf, uint32_t count,
                uint64_t host_off, enum qcow2_io_class io_class)
{
  (void) opaque;
  (void) buf;
  (void) count;
  (void) host_off;
  (void) io_class;
  CHECK (!"a layer below was written to");
  return EROFS;
}

static int
must_not_flush (void *opaque)
{
  (void) opaque;
  CHECK (!"a layer below was flushed");
  return EROFS;
}

static int
must_not_zero (void *opaque, uint32_t count, uint64_t host_off,
               bool may_punch, enum qcow2_io_class io_class)
{
  (void) opaque;
  (void) count;
  (void) host_off;
  (void) may_punch;
  (void) io_class;
  CHECK (!"a layer below was zeroed");
  return EROFS;
}

static int
must_not_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  (void) opaque;
  (void) count;
  (void) host_off;
  CHECK (!"a layer below was trimmed");
  return EROFS;
}

static int
must_not_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  (void) opaque;
  (void) min_size;
  (void) ret_size;
  CHECK (!"a layer below was to grow");
  return EROFS;
}

static int
must_not_cut (void *opaque, uint64_t size)
{
  (void) opaque;
  (void) size;
  CHECK (!"a layer below was cut");
  return EROFS;
}

/* ---- Layers ------------------------------------------------------------ */

void
layers_add (struct layers *l, const char *name, bool raw,
            unsigned char *bytes, uint64_t size)
{
  struct layer *const top = &l->layer[l->nr++];

  REQUIRE (l->nr <= LAYERS_MAX);
  snprintf (top->name, sizeof top->name, "%s", name);
  top->raw = raw;
  top->bytes = bytes;
  top->size = size;
  top->hash = hash_bytes (bytes, size);
  memory_io_init (&top->m, bytes, size);
  top->ops = *top->m.io.ops;
  top->ops.pwrite = must_not_write;
  top->ops.flush = must_not_flush;
  top->ops.zero = must_not_zero;
  top->ops.trim = must_not_trim;
  top->ops.grow = must_not_grow;
  top->ops.cut = must_not_cut;
  top->m.io.ops = &top->ops;
  top->m.io.concurrent = true;
}

void
layers_close (struct layers *l)
{
  for (unsigned i = l->nr; i-- > 0;) {
    qcow2_close (l->layer[i].image);
    l->layer[i].image = NULL;
  }
}

void
layers_free (struct layers *l)
{
  layers_close (l);
  for (unsigned i = 0; i < l->nr; ++i) {
    struct layer *const layer = &l->layer[i];

    unit_check (hash_bytes (layer->bytes, layer->size) == layer->hash,
                __FILE__, __LINE__, "%s has changed", layer->name);
    free (layer->bytes);
  }
  l->nr = 0;
}

unsigned long
layers_reads (const struct layers *l)
{
  unsigned long nr = 0;

  for (unsigned i = 0; i < l->nr; ++i)
    nr += memory_io_total_reads (&l->layer[i].m);
  return nr;
}

/* ---- Opening ----------------------------------------------------------- */

static struct layer *
find (struct layers *l, const struct qcow2_reference *ref)
{
  for (unsigned i = 0; i < l->nr; ++i)
    if (strlen (l->layer[i].name) == ref->name_len &&
        memcmp (l->layer[i].name, ref->name, ref->name_len) == 0)
      return &l->layer[i];
  return NULL;
}

static int
open_backing (struct attach *a, const struct qcow2_reference *ref,
              struct qcow2_file *ret, struct qcow2_error *err)
{
  struct layer *const layer = find (a->layers, ref);
  struct qcow2_options options = { .cache_size = 1 << 20 };
  /* Backing images have no data files. */
  struct attach below = { .layers = a->layers };

  REQUIRE (layer != NULL);
  if (layer->image == NULL) {
    attach_options (&below, &options);
    options.raw = layer->raw;
    layer->image = qcow2_open (&layer->m.io, &options, err);
    if (layer->image == NULL)
      return -1;
  }
  *ret = (struct qcow2_file) { .image = layer->image, .io = &layer->m.io };
  return 0;
}

static int
open_file (void *opaque, const struct qcow2_reference *ref,
           struct qcow2_file *ret, struct qcow2_error *err)
{
  struct attach *const a = opaque;

  if (ref->kind == QCOW2_BACKING_FILE)
    return open_backing (a, ref, ret, err);
  REQUIRE (a->data != NULL);
  *ret = (struct qcow2_file) { .io = a->data };
  return 0;
}

void
attach_options (struct attach *a, struct qcow2_options *options)
{
  options->open_file = open_file;
  options->open_file_opaque = a;
  if (a->layers != NULL && a->layers->passphrase != NULL) {
    options->passphrase = a->layers->passphrase;
    options->passphrase_len = strlen (a->layers->passphrase);
  }
}
