/* SPDX-License-Identifier: BSD-3-Clause */
/* maps.c - where the bytes of a disk are.
 *
 * Owns      how pieces of several files become one list.
 * Method    a piece that an image does not have is looked up in the one below
 *           it.  What lies past the end of that one reads as zeros, and has
 *           the depth of the image above, as qemu-img has it.
 *
 *           Of a raw file, holes are asked for; of an image, data counts as
 *           data, whatever the file system says of the file.
 * Locks     none.
 */
#include "config.h"

#include "maps.h"

#include "host/chain.h"
#include "host/other.h"

/* Bytes that the host is asked about at once. */
#define MAX_QUESTION (UINT64_C (1) << 30)

/* One image of the chain. */
struct level {
  struct qcow2_image *image;
  const struct qcow2_io *io;
  const struct layer *below;    /* or NULL */
  unsigned depth;
};

struct walk {
  const struct map *map;
  struct entry last;            /* not passed on yet; length 0: none */
  struct qcow2_error *err;
  int result;                   /* 0, or why it ended */
};

/* A walk, at one image of the chain. */
struct at {
  struct walk *walk;
  struct level level;
};

static bool
continues (const struct entry *a, const struct entry *b)
{
  return a->depth == b->depth && a->present == b->present &&
    a->zero == b->zero && a->data == b->data &&
    a->compressed == b->compressed && a->has_offset == b->has_offset &&
    (!a->has_offset || a->offset + a->length == b->offset);
}

static int
add (struct walk *w, const struct entry *e)
{
  if (w->last.length > 0 && continues (&w->last, e)) {
    w->last.length += e->length;
    return 0;
  }
  if (w->last.length > 0)
    w->result = w->map->fn (w->map->opaque, &w->last);
  w->last = *e;
  return w->result;
}

static int
finish (struct walk *w)
{
  if (w->result == 0 && w->last.length > 0)
    w->result = w->map->fn (w->map->opaque, &w->last);
  return w->result;
}

/* ---- Images ------------------------------------------------------------- */

static int map_range (struct walk *w, const struct level *level,
                      uint64_t start, uint64_t length);

static int
on_raw_extent (void *opaque, uint64_t off, uint64_t len, bool zero)
{
  const struct at *const at = opaque;

  return add (at->walk, &(struct entry) {
      .start = off, .length = len, .depth = at->level.depth, .present = true,
      .zero = zero, .data = !zero, .has_offset = true, .offset = off }) != 0;
}

/* The host itself knows of smaller holes than the engine asks for.  It says
 * nothing of a range that does not suit it: then that is data.
 */
static int
map_raw (struct at *at, uint64_t start, uint64_t length)
{
  const struct qcow2_io *const io = at->level.io;
  const uint64_t most = MAX_QUESTION - MAX_QUESTION % io->min_block;

  while (length > 0 && at->walk->result == 0) {
    const uint32_t count = (uint32_t) (length < most ? length : most);

    if (io->ops->extents == NULL || start % io->min_block != 0 ||
        count % io->min_block != 0 || start + count > io->size ||
        io->ops->extents (io->opaque, count, start, on_raw_extent,
                          at) != 0)
      on_raw_extent (at, start, count, false);
    start += count;
    length -= count;
  }
  return at->walk->result;
}

/* What no image has. */
static int
add_nothing (struct walk *w, const struct level *level, uint64_t start,
             uint64_t length)
{
  const bool unknown = w->map->unknown != NULL && !w->map->alone;

  return add (w, &(struct entry) {
      .start = start, .length = length, .depth = level->depth + unknown,
      .zero = !unknown });
}

/* Not in this image: in the one below, as far as that reaches. */
static int
map_below (struct walk *w, const struct level *level, uint64_t start,
           uint64_t length)
{
  const struct layer *const l = level->below;
  struct level next;
  uint64_t size, inside;

  if (l == NULL || w->map->unknown || w->map->alone)
    return add_nothing (w, level, start, length);
  next = (struct level) {
    .image = l->image, .io = &l->other->io, .below = l->layers.backing,
    .depth = level->depth + 1,
  };
  size = qcow2_get_info (l->image).virtual_size;
  inside = start >= size ? 0 : size - start < length ? size - start : length;
  if (inside > 0 && map_range (w, &next, start, inside) != 0)
    return w->result;
  if (inside == length)
    return 0;
  return add (w, &(struct entry) {
      .start = start + inside, .length = length - inside,
      .depth = level->depth, .zero = true });
}

static int
on_piece (void *opaque, const struct qcow2_piece *p)
{
  const struct at *const at = opaque;
  const bool data = p->kind != QCOW2_PIECE_ZERO;
  const bool offset = p->kind == QCOW2_PIECE_DATA &&
    qcow2_get_info (at->level.image).encryption == QCOW2_ENCRYPTION_NONE;

  if (p->kind == QCOW2_PIECE_UNALLOCATED)
    return map_below (at->walk, &at->level, p->guest_off, p->len) != 0;
  return add (at->walk, &(struct entry) {
      .start = p->guest_off, .length = p->len, .depth = at->level.depth,
      .present = true, .zero = !data, .data = data,
      .compressed = p->kind == QCOW2_PIECE_COMPRESSED, .has_offset = offset,
      .offset = offset ? p->host_off : 0 }) != 0;
}

static int
map_range (struct walk *w, const struct level *level, uint64_t start,
           uint64_t length)
{
  struct at at = { w, *level };
  int r;

  if (qcow2_get_info (level->image).version == 0)
    return map_raw (&at, start, length);
  r = qcow2_map (level->image, level->io, length, start, on_piece, &at,
                 w->err);
  if (r == -1 && w->result == 0)
    w->result = -1;
  return w->result;
}

const struct layer *
map_layer (const struct layers *layers, unsigned depth)
{
  const struct layer *l = layers->backing;

  while (l && --depth > 0)
    l = l->layers.backing;
  return l;
}

int
map_walk (const struct map *map, struct qcow2_error *err)
{
  const struct layer *const l =
    map->alone && map->depth > 0 ? map_layer (map->layers, map->depth) : NULL;
  struct walk w = { .map = map, .err = err };
  const struct level top = {
    .image = l ? l->image : map->image, .io = l ? &l->other->io : map->io,
    .below = map->layers->backing, .depth = map->depth,
  };
  const uint64_t size = qcow2_get_info (top.image).virtual_size;

  if (size == 0 || map_range (&w, &top, 0, size) == 0)
    return finish (&w);
  return w.result;
}

/* ---- Marks -------------------------------------------------------------- */

/* Without all files the base cannot tell what is zeros. */
struct marks {
  struct walk walk;
  uint64_t done;
};

static int
on_mark (void *opaque, uint64_t guest_off, uint64_t len,
         enum qcow2_extent_type type)
{
  struct marks *const m = opaque;
  const bool set = type != QCOW2_EXTENT_ZERO;
  const bool data = type == QCOW2_EXTENT_DATA ||
    (set && m->walk.map->incomplete);

  m->done = guest_off + len;
  return add (&m->walk, &(struct entry) {
      .start = guest_off, .length = len, .present = set, .zero = set && !data,
      .data = data }) != 0;
}

int
map_walk_marks (const struct map *map, struct qcow2_error *err)
{
  struct marks m = { .walk = { .map = map, .err = err } };
  const uint64_t size = qcow2_get_info (map->image).virtual_size;

  while (m.done < size && m.walk.result == 0)
    if (qcow2_extents (map->image, map->io, size - m.done, m.done, on_mark,
                       &m, err) == -1)
      return -1;
  return finish (&m.walk);
}
