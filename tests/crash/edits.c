/* SPDX-License-Identifier: BSD-3-Clause */
/* edits.c - see edits.h.
 *
 * Owns      the making of the images, and the judge of what a crash leaves.
 * Method    a state is opened for reading; its size says whether it is the old
 *           or the new image, and all of its disk and of each snapshot must
 *           read as that demands.
 */
#include "config.h"

#include "edits.h"

#include "fsck.h"
#include "memory_io.h"
#include "qemu.h"
#include "unit.h"

#define CAPACITY (UINT64_C (16) << 20)

/* ---- Making ------------------------------------------------------------ */

/* What unallocated clusters of the new disk read as. */
static void
read_below (struct edit_scene *s, unsigned char *disk, uint64_t size)
{
  const struct layer *const top = s->image.layers.nr == 0 ? NULL
    : &s->image.layers.layer[s->image.layers.nr - 1];
  struct attach attach = { .layers = &s->image.layers };
  struct qcow2_options options = { .raw = top != NULL && top->raw };
  struct qcow2_image *below;
  struct qcow2_error err;
  uint64_t n;

  memset (disk, 0, size);
  if (top == NULL)
    return;
  attach_options (&attach, &options);
  below = qcow2_open (&top->m.io, &options, &err);
  REQUIRE (below != NULL);
  n = qcow2_get_info (below).virtual_size;
  if (n > size)
    n = size;
  REQUIRE (n == 0 || qcow2_pread (below, &top->m.io, disk, (uint32_t) n, 0,
                                  &err) == 0);
  qcow2_close (below);
}

static void
change_by_qemu (struct edit_scene *s)
{
  char path[300], command[2048];
  uint64_t size;

  if (s->c->commands == NULL)
    return;
  qemu_save ("edit.qcow2", s->image.bytes, s->image.size);
  qemu_path (path, sizeof path, "edit.qcow2");
  snprintf (command, sizeof command, "set -e; i=%s; %s", path,
            s->c->commands);
  qemu_save ("edit.sh", command, strlen (command));
  qemu_run (0, "sh edit.sh >/dev/null");
  qemu_run (0, "qemu-img convert -O raw %s %s.raw", path, path);
  free (s->image.bytes);
  s->image.bytes = qemu_load ("edit.qcow2", &s->image.size);
  free (s->image.disk);
  s->image.disk = qemu_load ("edit.qcow2.raw", &size);
  REQUIRE (size == s->c->recipe.disk_size);
  if (s->c->snapshot == NULL)
    return;
  qemu_run (0, "qemu-img convert -l snapshot.name=%s -O raw %s %s.raw",
            s->c->snapshot, path, path);
  s->frozen = qemu_load ("edit.qcow2.raw", &size);
  REQUIRE (size == s->c->recipe.disk_size);
}

void
edit_scene_init (struct edit_scene *s, const struct edit_case *c,
                 uint64_t seed)
{
  const uint64_t old = c->recipe.disk_size;
  const uint64_t kept = old < c->size ? old : c->size;

  memset (s, 0, sizeof *s);
  s->c = c;
  recipe_make (&s->image, &c->recipe, seed);
  change_by_qemu (s);
  s->after = calloc (1, c->size + 1);
  REQUIRE (s->after != NULL);
  if (c->empty)
    read_below (s, s->after, c->size);
  else
    memcpy (s->after, s->image.disk, kept);
}

void
edit_scene_reset (struct edit_scene *s)
{
  const struct host_spec spec = {
    .capacity = CAPACITY, .grows = !s->c->device, .trim = HOST_TRIM_GARBAGE,
    .no_trim = s->no_trim,
  };

  if (s->h.bytes != NULL)
    host_free (&s->h);
  if (s->data.bytes != NULL)
    host_free (&s->data);
  host_init (&s->h, &spec, s->image.bytes, s->image.size);
  if (s->image.data == NULL)
    return;
  host_init (&s->data, &spec, s->image.data, s->image.data_size);
  host_join (&s->h, &s->data);
}

void
edit_scene_free (struct edit_scene *s)
{
  if (s->h.bytes != NULL)
    host_free (&s->h);
  if (s->data.bytes != NULL)
    host_free (&s->data);
  free (s->after);
  free (s->frozen);
  recipe_free (&s->image);
}

/* ---- The operation ----------------------------------------------------- */

int
edit_scene_run (struct edit_scene *s, struct qcow2_error *err)
{
  struct attach attach = {
    .layers = &s->image.layers,
    .data = s->data.bytes != NULL ? &s->data.io : NULL,
  };
  struct qcow2_options options = {
    .writable = true, .bitmaps = s->c->bitmaps,
    .overlap_check = QCOW2_OVERLAP_ALL,
  };
  struct qcow2_image *image;
  int r;

  attach_options (&attach, &options);
  host_reopen (&s->h);
  image = qcow2_open (&s->h.io, &options, err);
  if (image == NULL) {
    layers_close (&s->image.layers);
    return -1;
  }
  r = s->c->run (image, &s->h.io, s, err);
  qcow2_close (image);
  layers_close (&s->image.layers);
  return r;
}

/* ---- The judge --------------------------------------------------------- */

static const char *
judge_snapshot (struct qcow2_image *image, const struct qcow2_io *io,
                const char *text, const unsigned char *disk, uint64_t size,
                unsigned char *buf)
{
  const struct qcow2_name name = { text, strlen (text) };
  struct qcow2_image *view;
  struct qcow2_error err;
  bool same;

  view = qcow2_open_view (image, io, QCOW2_VIEW_SNAPSHOT, &name, &err);
  if (view == NULL)
    return "a snapshot cannot be opened";
  same = qcow2_get_info (view).virtual_size == size &&
    qcow2_pread (view, io, buf, (uint32_t) size, 0, &err) == 0 &&
    memcmp (buf, disk, size) == 0;
  qcow2_close (view);
  return same ? NULL : "a snapshot has changed";
}

static const char *
judge_snapshots (struct edit_scene *s, struct qcow2_image *image,
                 const struct qcow2_io *io, unsigned char *buf)
{
  const uint64_t size = s->c->recipe.disk_size;
  const char *problem = NULL;

  for (unsigned i = 0; problem == NULL && i < s->c->recipe.snapshots; ++i) {
    char text[16];

    snprintf (text, sizeof text, "s%u", i);
    problem = judge_snapshot (image, io, text, s->image.snapshot, size, buf);
  }
  if (problem == NULL && s->frozen != NULL)
    problem = judge_snapshot (image, io, s->c->snapshot, s->frozen, size, buf);
  return problem;
}

static const char *
judge_disk (struct edit_scene *s, struct qcow2_image *image,
            const struct qcow2_io *io, const unsigned char *bytes,
            unsigned char *buf, bool *ret_new)
{
  const uint64_t old = s->c->recipe.disk_size;
  const uint64_t size = qcow2_get_info (image).virtual_size;
  struct qcow2_error err;

  *ret_new = size == s->c->size && size != old;
  if (size != old && size != s->c->size)
    return "the disk has neither its old size nor the new one";
  if (size > 0 &&
      qcow2_pread (image, io, buf, (uint32_t) size, 0, &err) == -1)
    return "the disk cannot be read";
  if (s->c->is_new != NULL) {
    *ret_new = s->c->is_new (s, bytes);
    return memcmp (buf, s->image.disk, size) != 0 ? "the disk has changed"
      : NULL;
  }
  if (old == s->c->size) {
    *ret_new = memcmp (buf, s->image.disk, size) != 0;
    return *ret_new && memcmp (buf, s->after, size) != 0
      ? "the disk is neither the old one nor the new one" : NULL;
  }
  if (memcmp (buf, *ret_new ? s->after : s->image.disk, size) != 0)
    return *ret_new ? "the disk has its new size, and wrong bytes"
      : "the disk has its old size, and wrong bytes";
  return NULL;
}

const char *
edit_scene_judge (struct edit_scene *s, const unsigned char *bytes,
                  uint64_t size, const unsigned char *data,
                  uint64_t data_size, bool *ret_new)
{
  const uint64_t most = s->c->size > s->c->recipe.disk_size ? s->c->size
    : s->c->recipe.disk_size;
  unsigned char *const buf = malloc (most + 1);
  struct qcow2_options options = { .raw = false };
  struct memory_io m, d;
  struct attach attach = { .layers = &s->image.layers };
  struct qcow2_image *image;
  struct qcow2_error err;
  const char *problem = "it cannot be opened";

  REQUIRE (buf != NULL);
  memory_io_init (&m, (void *) (uintptr_t) bytes, size);
  if (data != NULL) {
    memory_io_init (&d, (void *) (uintptr_t) data, data_size);
    attach.data = &d.io;
  }
  attach_options (&attach, &options);
  image = qcow2_open (&m.io, &options, &err);
  if (image != NULL) {
    problem = judge_disk (s, image, &m.io, bytes, buf, ret_new);
    if (problem == NULL)
      problem = judge_snapshots (s, image, &m.io, buf);
  }
  qcow2_close (image);
  layers_close (&s->image.layers);
  free (buf);
  return problem;
}
