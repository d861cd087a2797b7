/* SPDX-License-Identifier: BSD-3-Clause */
/* edit_cases.c - which images are changed, and how: see edits.h.
 *
 * Owns      the table.  A case takes one to three seconds, most of which is
 *           QEMU's.
 */
#include "config.h"

#include "edits.h"

#include "unit.h"

#include "base/be.h"

#include <stdlib.h>
#include <string.h>

#define KiB (UINT64_C (1) << 10)
#define MAX_DISK (8192 * KiB)

/* ---- Operations -------------------------------------------------------- */

static int
resize (struct qcow2_image *image, const struct qcow2_io *io,
        const struct edit_scene *s, struct qcow2_error *err)
{
  return qcow2_resize (image, io, s->c->size, QCOW2_RESIZE_SHRINK,
                       (enum qcow2_preallocation) s->c->arg, NULL, err);
}

/* The image goes on being used: it reads as the old disk or as the new one, and
 * can be written to, with the same bytes, unless writing has stopped.
 */
static void
use (struct qcow2_image *image, const struct qcow2_io *io,
     const struct edit_scene *s, bool grown)
{
  const uint64_t size = qcow2_get_info (image).virtual_size;
  const unsigned char *const disk = grown ? s->after : s->image.disk;
  static unsigned char buf[MAX_DISK];   /* no allocation, which may fail */
  struct qcow2_error err;

  REQUIRE (size <= sizeof buf);
  CHECK_EQ (size, grown ? s->c->size : s->c->recipe.disk_size);
  if (qcow2_pread (image, io, buf, (uint32_t) size, 0, &err) == 0)
    CHECK (memcmp (buf, disk, size) == 0);
  if (grown && (qcow2_pwrite (image, io, disk + 2 * KiB, 3 * KiB, 2 * KiB,
                              false, &err)
                == -1 ||
                qcow2_pwrite (image, io, disk + size - 5 * KiB, 5 * KiB,
                              size - 5 * KiB, false, &err) == -1))
    CHECK (err.kind != QCOW2_ERR_BUG && err.kind != QCOW2_ERR_CORRUPT);
}

static int
grow (struct qcow2_image *image, const struct qcow2_io *io,
      const struct edit_scene *s, struct qcow2_error *err)
{
  unsigned char first[512];
  struct qcow2_error why;
  int r;

  /* What is changed before is kept, and so are bitmaps, with it. */
  if (qcow2_pwrite (image, io, s->image.disk, sizeof first, 0, false, err)
      == -1)
    return -1;
  r = qcow2_grow (image, io, s->c->size, NULL, err);
  use (image, io, s, qcow2_get_info (image).virtual_size == s->c->size);
  if (qcow2_end (image, io, r == 0 ? err : &why) == -1)
    r = -1;
  return r;
}

/* The image has two layers below; to name the lower one, or none. */
static int
set_backing (struct qcow2_image *image, const struct qcow2_io *io,
             const struct edit_scene *s, struct qcow2_error *err)
{
  const struct layer *const lowest = &s->image.layers.layer[0];
  const struct qcow2_name file = { lowest->name, strlen (lowest->name) };
  const struct qcow2_name format = { "qcow2", 5 };

  return qcow2_set_backing (image, io, s->c->arg ? &file : NULL,
                            s->c->arg ? &format : NULL, 0, err);
}

static bool
has_new_backing (const struct edit_scene *s, const unsigned char *bytes)
{
  const char *const name = s->image.layers.layer[0].name;
  const uint64_t at = load_be64 (bytes + 8);

  return at == 0 || (load_be32 (bytes + 16) == strlen (name) &&
                     memcmp (bytes + at, name, strlen (name)) == 0);
}

enum rebase_to { TO_NOTHING, TO_LOWEST, TO_APART };

/* The lowest layer, opened anew: it does not count as one of the chain. */
static int
rebase_apart (struct qcow2_image *image, const struct qcow2_io *io,
              const struct edit_scene *s, struct qcow2_error *err)
{
  const struct layer *const lowest = &s->image.layers.layer[0];
  const struct qcow2_name file = { lowest->name, strlen (lowest->name) };
  const struct qcow2_name format = { lowest->raw ? "raw" : "qcow2",
                                     lowest->raw ? 3 : 5 };
  const struct qcow2_options options = { .raw = lowest->raw };
  struct qcow2_file below = {
    qcow2_open (&lowest->m.io, &options, err), &lowest->m.io,
  };
  int r;

  if (below.image == NULL)
    return -1;
  r = qcow2_rebase (image, io, &file, &format, &below, 0, NULL, err);
  qcow2_close (below.image);
  return r;
}

/* And the disk must not change. */
static int
rebase (struct qcow2_image *image, const struct qcow2_io *io,
        const struct edit_scene *s, struct qcow2_error *err)
{
  const struct layer *const lowest = &s->image.layers.layer[0];
  const struct qcow2_name file = { lowest->name, strlen (lowest->name) };
  const struct qcow2_name format = { "qcow2", 5 };
  const struct qcow2_file below = { lowest->image, &lowest->m.io };

  switch ((enum rebase_to) s->c->arg) {
  case TO_NOTHING:
    return qcow2_rebase (image, io, NULL, NULL, NULL, 0, NULL, err);
  case TO_LOWEST:
    return qcow2_rebase (image, io, &file, &format, &below, 0, NULL, err);
  case TO_APART:
    break;
  }
  return rebase_apart (image, io, s, err);
}

/* It had none. */
static bool
has_backing (const struct edit_scene *s, const unsigned char *bytes)
{
  (void) s;
  return load_be64 (bytes + 8) != 0;
}

static int
make_empty (struct qcow2_image *image, const struct qcow2_io *io,
            const struct edit_scene *s, struct qcow2_error *err)
{
  (void) s;
  return qcow2_make_empty (image, io, NULL, err);
}

static int
complete_snapshots (struct qcow2_image *image, const struct qcow2_io *io,
                    const struct edit_scene *s, struct qcow2_error *err)
{
  (void) s;
  return qcow2_snapshots_complete (image, io, err);
}

static bool
has_complete_snapshots (const struct edit_scene *s,
                        const unsigned char *bytes)
{
  (void) s;
  return load_be32 (bytes + load_be64 (bytes + 64) + 36) >= 16;
}

static const struct qcow2_amend_options amends[] = {
  { .version = 2 },
  { .version = 3 },
  { .lazy_refcounts = QCOW2_SETTING_ON },
  { .lazy_refcounts = QCOW2_SETTING_OFF },
  { .refcount_bits = 64 },
  { .refcount_bits = 1 },
  { .refcount_bits = 4 },
  { .version = 3, .refcount_bits = 32,
    .lazy_refcounts = QCOW2_SETTING_ON },
  { .version = 2, .refcount_bits = 16,
    .lazy_refcounts = QCOW2_SETTING_OFF },
};
enum {
  DOWN, UP, LAZY_ON, LAZY_OFF, WIDE, NARROWEST, NARROW, UP_AND_ALL,
  DOWN_AND_ALL,
};

static int
amend (struct qcow2_image *image, const struct qcow2_io *io,
       const struct edit_scene *s, struct qcow2_error *err)
{
  return qcow2_amend (image, io, &amends[s->c->arg], NULL, err);
}

static bool
is_amended (const struct edit_scene *s, const unsigned char *bytes)
{
  const struct qcow2_amend_options *const o = &amends[s->c->arg];
  const unsigned version = load_be32 (bytes + 4);
  const unsigned bits = version < 3 ? 16 : 1u << load_be32 (bytes + 96);
  const bool lazy = version >= 3 && (bytes[87] & 1);

  return (o->version == 0 || o->version == version) &&
    (o->refcount_bits == 0 || o->refcount_bits == bits) &&
    (o->lazy_refcounts == QCOW2_SETTING_KEEP ||
     (o->lazy_refcounts == QCOW2_SETTING_ON) == lazy);
}

#define SMALL .options = "cluster_size=4k", .cluster_bits = 12
#define TINY .options = "cluster_size=512,refcount_bits=64", .cluster_bits = 9
#define ONE .options = "cluster_size=512,refcount_bits=1", .cluster_bits = 9
#define OLD .options = "compat=0.10,cluster_size=4k", .cluster_bits = 12
#define SUB .options = "cluster_size=16k,extended_l2=on", .cluster_bits = 14
#define LAZY .options = "cluster_size=4k,lazy_refcounts=on", .cluster_bits = 12

/* The only snapshot loses its extra data, and keeps its name. */
#define SHORT_SNAPSHOT                                                        \
  "at=$((0x$(od -An -tx1 -j64 -N8 $i | tr -d ' '))); "                        \
  "dd if=$i of=$i.name bs=1 skip=$((at + 64)) count=16 2>/dev/null; "         \
  "dd if=$i.name of=$i bs=1 seek=$((at + 40)) conv=notrunc 2>/dev/null; "     \
  "dd if=/dev/zero of=$i bs=1 seek=$((at + 36)) count=4 conv=notrunc "        \
  "2>/dev/null"

static const struct recipe long_base = {
  SMALL, .disk_size = 1024 * KiB, .fill_percent = 80,
};
static const struct recipe two_bases = {
  SMALL, .disk_size = 900 * KiB, .fill_percent = 50, .below = &long_base,
};
static const struct recipe raw_base_of_chain = {
  .raw = true, .cluster_bits = 12, .disk_size = 201 * KiB + 100,
  .fill_percent = 50,
};
static const struct recipe short_base = {
  SMALL, .disk_size = 155 * KiB, .fill_percent = 70,
};
static const struct recipe above_short = {
  SUB, .disk_size = 400 * KiB, .fill_percent = 50, .below = &short_base,
};
static const struct recipe above_raw = {
  TINY, .disk_size = 250 * KiB, .fill_percent = 40, .compressed = true,
  .below = &raw_base_of_chain,
};
static const struct recipe raw_base = {
  .raw = true, .cluster_bits = 12, .disk_size = 777 * KiB + 100,
  .fill_percent = 90,
};

/* QEMU reads them to the last bit, and none has become stale. */
#define LOAD_BITMAPS                                                          \
  "qemu-img convert --bitmaps -O qcow2 $i $i.copy; "                          \
  "qemu-img info $i | (! grep -q in-use); "                                   \
  "qemu-img resize -q $i 7M; qemu-img check -q $i"

#define BITMAPS_OF_TWO_KINDS                                                  \
  "qemu-img bitmap --add -g 512 $i fine; "                                    \
  "qemu-io -c 'write -P 1 0 131k' $i; qemu-io -c 'write -P 1 0 131k' $i; "    \
  "qemu-img bitmap --disable $i b0"

/* Two snapshots share tables that say so. */
#define ZEROS_IN_SNAPSHOTS                                                    \
  "qemu-io -c 'write -z 8k 60k' -c 'write -z -u 100k 60k' $i; "               \
  "qemu-img snapshot -c z $i; qemu-img snapshot -c y $i; "                    \
  "qemu-io -c 'write -z 60k 60k' -c 'write -P 9 50k 3k' $i"

/* A table of 4 KiB clusters maps 2 MiB, one of 512 bytes 32 KiB. */
const struct edit_case edit_cases[] = {
  { .name = "grow in the last table", .recipe = {
      SMALL, .disk_size = 250 * KiB, .fill_percent = 60 },
    .run = resize, .size = 600 * KiB },
  { .name = "grow by many tables", .recipe = {
      TINY, .disk_size = 100 * KiB, .fill_percent = 60 },
    .run = resize, .size = 4000 * KiB },
  { .name = "grow, a snapshot and a VM state", .recipe = {
      SMALL, .disk_size = 200 * KiB, .fill_percent = 50, .snapshots = 1,
      .vm_state = true },
    .run = resize, .size = 5000 * KiB },
  { .name = "grow after QEMU has cut it", .recipe = {
      SMALL, .disk_size = 203 * KiB, .fill_percent = 100 },
    .commands = "qemu-img resize -q $i 4M; "
    "qemu-io -c 'write -P 7 203k 3M' $i; qemu-img resize -q --shrink $i 203k",
    .run = resize, .size = 4100 * KiB },
  { .name = "grow, a longer backing image", .recipe = {
      SMALL, .disk_size = 251 * KiB, .fill_percent = 20,
      .below = &long_base },
    .run = resize, .size = 900 * KiB },
  { .name = "grow, a raw one, subclusters", .recipe = {
      SUB, .disk_size = 251 * KiB, .fill_percent = 20, .below = &raw_base },
    .run = resize, .size = 1000 * KiB },
  { .name = "grow, version 2, a longer backing image", .recipe = {
      OLD, .disk_size = 251 * KiB, .fill_percent = 20,
      .below = &long_base },
    .run = resize, .size = 700 * KiB },
  { .name = "grow, all tables", .recipe = {
      TINY, .disk_size = 64 * KiB, .fill_percent = 70, .snapshots = 1 },
    .run = resize, .size = 600 * KiB, .arg = QCOW2_PREALLOCATE_METADATA },
  { .name = "grow, all tables, the last one is shared", .recipe = {
      TINY, .disk_size = 75 * KiB, .fill_percent = 70, .snapshots = 1 },
    .run = resize, .size = 200 * KiB, .arg = QCOW2_PREALLOCATE_METADATA },
  { .name = "grow, all space", .recipe = {
      SMALL, .disk_size = 130 * KiB, .fill_percent = 70 },
    .run = resize, .size = 2600 * KiB, .arg = QCOW2_PREALLOCATE_FALLOC },
  { .name = "grow, all written", .recipe = {
      LAZY, .disk_size = 130 * KiB, .fill_percent = 70,
      .below = &long_base },
    .run = resize, .size = 600 * KiB, .arg = QCOW2_PREALLOCATE_FULL },
  { .name = "grow, encrypted", .recipe = {
      SMALL, .disk_size = 130 * KiB, .fill_percent = 70,
      .encryption = QCOW2_ENCRYPTION_LUKS },
    .run = resize, .size = 400 * KiB, .arg = QCOW2_PREALLOCATE_METADATA },
  { .name = "grow, a data file", .recipe = {
      SMALL, .disk_size = 131 * KiB, .fill_percent = 70, .data_file = true },
    .run = resize, .size = 2400 * KiB },
  { .name = "grow, a raw data file", .recipe = {
      SMALL, .disk_size = 131 * KiB, .fill_percent = 70, .data_file = true,
      .data_raw = true },
    .run = resize, .size = 2400 * KiB },
  { .name = "grow, bitmaps", .recipe = {
      TINY, .disk_size = 131 * KiB, .fill_percent = 70, .bitmap = true },
    .commands = BITMAPS_OF_TWO_KINDS, .checks = LOAD_BITMAPS,
    .run = resize, .size = 3000 * KiB },
  { .name = "grow, one bit for a refcount", .recipe = {
      ONE, .disk_size = 70 * KiB, .fill_percent = 90 },
    .run = resize, .size = 400 * KiB },

  { .name = "grow while open, in the last table", .recipe = {
      SMALL, .disk_size = 250 * KiB, .fill_percent = 60 },
    .run = grow, .size = 600 * KiB },
  { .name = "grow while open, by many tables", .recipe = {
      TINY, .disk_size = 100 * KiB, .fill_percent = 60 },
    .run = grow, .size = 4000 * KiB },
  { .name = "grow while open, a snapshot and a VM state", .recipe = {
      SMALL, .disk_size = 200 * KiB, .fill_percent = 50, .snapshots = 1,
      .vm_state = true },
    .run = grow, .size = 5000 * KiB },
  { .name = "grow while open, after QEMU has cut it", .recipe = {
      SMALL, .disk_size = 203 * KiB, .fill_percent = 100 },
    .commands = "qemu-img resize -q $i 4M; "
    "qemu-io -c 'write -P 7 203k 3M' $i; qemu-img resize -q --shrink $i 203k",
    .run = grow, .size = 4100 * KiB },
  { .name = "grow while open, a longer backing image", .recipe = {
      TINY, .disk_size = 251 * KiB, .fill_percent = 20,
      .below = &long_base },
    .run = grow, .size = 900 * KiB },
  { .name = "grow while open, encrypted", .recipe = {
      SMALL, .disk_size = 130 * KiB, .fill_percent = 70,
      .encryption = QCOW2_ENCRYPTION_LUKS },
    .run = grow, .size = 2400 * KiB },
  { .name = "grow while open, a data file", .recipe = {
      SMALL, .disk_size = 131 * KiB, .fill_percent = 70, .data_file = true },
    .run = grow, .size = 2400 * KiB },
  { .name = "grow while open, a raw data file", .recipe = {
      TINY, .disk_size = 131 * KiB, .fill_percent = 70, .data_file = true,
      .data_raw = true },
    .run = grow, .size = 2400 * KiB },
  { .name = "grow while open, a raw data file and lazy bitmaps", .recipe = {
      SMALL, .disk_size = 131 * KiB, .fill_percent = 70, .bitmap = true,
      .data_file = true, .data_raw = true },
    .bitmaps = QCOW2_BITMAPS_LAZY, .run = grow, .size = 5000 * KiB },
  { .name = "grow while open, lazy bitmaps", .recipe = {
      TINY, .disk_size = 131 * KiB, .fill_percent = 70, .bitmap = true },
    .commands = BITMAPS_OF_TWO_KINDS, .bitmaps = QCOW2_BITMAPS_LAZY,
    .checks = LOAD_BITMAPS,
    .run = grow, .size = 3000 * KiB },
  { .name = "grow while open, durable bitmaps", .recipe = {
      TINY, .disk_size = 131 * KiB, .fill_percent = 70, .bitmap = true },
    .commands = BITMAPS_OF_TWO_KINDS, .bitmaps = QCOW2_BITMAPS_DURABLE,
    .checks = LOAD_BITMAPS,
    .run = grow, .size = 3000 * KiB },

  { .name = "shrink in the last table", .recipe = {
      SMALL, .disk_size = 600 * KiB, .fill_percent = 90 },
    .run = resize, .size = 253 * KiB },
  { .name = "shrink by many tables", .recipe = {
      TINY, .disk_size = 900 * KiB, .fill_percent = 60 },
    .run = resize, .size = 100 * KiB + 256 + 256 },
  { .name = "shrink to nothing", .recipe = {
      TINY, .disk_size = 100 * KiB, .fill_percent = 60 },
    .run = resize, .size = 0 },
  { .name = "shrink, snapshots and a VM state", .recipe = {
      SMALL, .disk_size = 3000 * KiB, .fill_percent = 30, .snapshots = 2,
      .vm_state = true },
    .run = resize, .size = 201 * KiB },
  { .name = "shrink, a backing image", .recipe = {
      SMALL, .disk_size = 700 * KiB, .fill_percent = 30,
      .below = &long_base },
    .run = resize, .size = 201 * KiB },
  { .name = "shrink, compressed", .recipe = {
      SMALL, .disk_size = 700 * KiB, .fill_percent = 90, .compressed = true },
    .run = resize, .size = 201 * KiB },
  { .name = "shrink, subclusters", .recipe = {
      SUB, .disk_size = 900 * KiB, .fill_percent = 70, .below = &raw_base },
    .run = resize, .size = 401 * KiB },
  { .name = "shrink, version 2", .recipe = {
      OLD, .disk_size = 600 * KiB, .fill_percent = 70 },
    .run = resize, .size = 201 * KiB },
  { .name = "shrink, encrypted", .recipe = {
      LAZY, .disk_size = 600 * KiB, .fill_percent = 70,
      .encryption = QCOW2_ENCRYPTION_LUKS },
    .run = resize, .size = 201 * KiB },
  { .name = "shrink, a data file", .recipe = {
      SMALL, .disk_size = 600 * KiB, .fill_percent = 70, .data_file = true },
    .run = resize, .size = 201 * KiB },
  { .name = "shrink, a raw data file", .recipe = {
      SMALL, .disk_size = 600 * KiB, .fill_percent = 70, .data_file = true,
      .data_raw = true },
    .run = resize, .size = 201 * KiB },
  { .name = "shrink, bitmaps", .recipe = {
      TINY, .disk_size = 2631 * KiB, .fill_percent = 10, .bitmap = true },
    .commands = "qemu-img bitmap --add -g 512 $i fine; "
    "qemu-io -c 'discard 0 2631k' -c 'write -z 0 2631k' $i; "
    "qemu-img bitmap --disable $i b0",
    .checks = LOAD_BITMAPS,
    .run = resize, .size = 1001 * KiB },
  { .name = "shrink, one bit for a refcount", .recipe = {
      ONE, .disk_size = 400 * KiB, .fill_percent = 90 },
    .run = resize, .size = 70 * KiB },
  { .name = "shrink, a device", .recipe = {
      TINY, .disk_size = 900 * KiB, .fill_percent = 90 },
    .run = resize, .size = 51 * KiB, .device = true },
  { .name = "shrink, a device and a snapshot", .recipe = {
      TINY, .disk_size = 600 * KiB, .fill_percent = 50, .snapshots = 1 },
    .commands = "qemu-io -c 'write -P 9 0 600k' $i",
    .run = resize, .size = 40 * KiB, .device = true },

  { .name = "name another backing image", .recipe = {
      SMALL, .disk_size = 300 * KiB, .fill_percent = 100,
      .below = &two_bases },
    .run = set_backing, .size = 300 * KiB, .arg = 1,
    .is_new = has_new_backing },
  { .name = "name another, version 2", .recipe = {
      OLD, .disk_size = 300 * KiB, .fill_percent = 100,
      .below = &two_bases },
    .run = set_backing, .size = 300 * KiB, .arg = 1,
    .is_new = has_new_backing },
  { .name = "name no backing image", .recipe = {
      SUB, .disk_size = 300 * KiB, .fill_percent = 100,
      .below = &two_bases },
    .run = set_backing, .size = 300 * KiB, .is_new = has_new_backing },

  { .name = "rebase, to the lower one", .recipe = {
      SMALL, .disk_size = 1100 * KiB, .fill_percent = 20,
      .zero_percent = 10, .below = &two_bases },
    .run = rebase, .size = 1100 * KiB, .arg = TO_LOWEST,
    .is_new = has_new_backing },
  { .name = "rebase, to nothing, version 2, compressed", .recipe = {
      OLD, .disk_size = 1000 * KiB, .fill_percent = 20, .compressed = true,
      .below = &two_bases },
    .run = rebase, .size = 1000 * KiB, .is_new = has_new_backing },
  { .name = "rebase, to nothing, encrypted", .recipe = {
      SMALL, .disk_size = 303 * KiB, .fill_percent = 20,
      .encryption = QCOW2_ENCRYPTION_LUKS, .below = &two_bases },
    .run = rebase, .size = 303 * KiB, .is_new = has_new_backing },
  { .name = "rebase, subclusters, to a shorter one", .recipe = {
      SUB, .disk_size = 401 * KiB, .fill_percent = 20,
      .below = &above_short },
    .commands = "qemu-io -c 'write -P 3 60k 1k' -c 'write -z 130k 20k' $i",
    .run = rebase, .size = 401 * KiB, .arg = TO_APART,
    .is_new = has_new_backing },
  { .name = "rebase, version 2, to a longer one", .recipe = {
      OLD, .disk_size = 1000 * KiB, .fill_percent = 20,
      .below = &two_bases },
    .run = rebase, .size = 1000 * KiB, .arg = TO_APART,
    .is_new = has_new_backing },
  { .name = "rebase, many tables, to a raw one, bitmaps", .recipe = {
      TINY, .disk_size = 300 * KiB, .fill_percent = 20, .bitmap = true,
      .below = &above_raw },
    .checks = LOAD_BITMAPS,
    .run = rebase, .size = 300 * KiB, .arg = TO_APART,
    .is_new = has_new_backing },
  { .name = "rebase, from nothing", .recipe = {
      LAZY, .disk_size = 700 * KiB, .fill_percent = 20,
      .below = &long_base },
    .commands = "qemu-img rebase -u -b '' $i",
    .run = rebase, .size = 700 * KiB, .arg = TO_APART,
    .is_new = has_backing },
  { .name = "rebase, from nothing, version 2", .recipe = {
      OLD, .disk_size = 700 * KiB, .fill_percent = 20,
      .below = &long_base },
    .commands = "qemu-img rebase -u -b '' $i",
    .run = rebase, .size = 700 * KiB, .arg = TO_APART,
    .is_new = has_backing },
  { .name = "rebase, a data file", .recipe = {
      SMALL, .disk_size = 500 * KiB, .fill_percent = 20, .data_file = true,
      .below = &two_bases },
    .run = rebase, .size = 500 * KiB, .arg = TO_LOWEST,
    .is_new = has_new_backing },

  { .name = "empty, snapshots and a VM state", .recipe = {
      SMALL, .disk_size = 3000 * KiB, .fill_percent = 30, .snapshots = 2,
      .vm_state = true },
    .run = make_empty, .size = 3000 * KiB, .empty = true },
  { .name = "empty, a backing image", .recipe = {
      TINY, .disk_size = 700 * KiB, .fill_percent = 30,
      .below = &long_base },
    .run = make_empty, .size = 700 * KiB, .empty = true },
  { .name = "empty, subclusters", .recipe = {
      SUB, .disk_size = 900 * KiB, .fill_percent = 70, .below = &raw_base },
    .run = make_empty, .size = 900 * KiB, .empty = true },
  { .name = "empty, version 2, compressed", .recipe = {
      OLD, .disk_size = 900 * KiB, .fill_percent = 70, .compressed = true },
    .run = make_empty, .size = 900 * KiB, .empty = true },
  { .name = "empty, encrypted", .recipe = {
      LAZY, .disk_size = 600 * KiB, .fill_percent = 70,
      .encryption = QCOW2_ENCRYPTION_LUKS },
    .run = make_empty, .size = 600 * KiB, .empty = true },
  { .name = "empty, a data file", .recipe = {
      SMALL, .disk_size = 600 * KiB, .fill_percent = 70, .data_file = true },
    .run = make_empty, .size = 600 * KiB, .empty = true },
  { .name = "empty, one bit for a refcount", .recipe = {
      ONE, .disk_size = 400 * KiB, .fill_percent = 90 },
    .run = make_empty, .size = 400 * KiB, .empty = true },

  { .name = "version 2, zeros", .recipe = {
      SMALL, .disk_size = 303 * KiB, .fill_percent = 60, .snapshots = 1,
      .zero_percent = 30, .vm_state = true },
    .commands = ZEROS_IN_SNAPSHOTS, .snapshot = "z",
    .run = amend, .size = 303 * KiB, .arg = DOWN, .is_new = is_amended },
  { .name = "version 2, zeros above a backing image", .recipe = {
      SMALL, .disk_size = 303 * KiB, .fill_percent = 60, .snapshots = 1,
      .zero_percent = 30, .below = &long_base },
    .commands = ZEROS_IN_SNAPSHOTS, .snapshot = "z",
    .run = amend, .size = 303 * KiB, .arg = DOWN, .is_new = is_amended },
  { .name = "version 2, zeros above a shorter one, many tables", .recipe = {
      .options = "cluster_size=512", .cluster_bits = 9,
      .disk_size = 1303 * KiB, .fill_percent = 40, .below = &raw_base },
    .commands = "qemu-io -c 'write -z 0 800k' -c 'write -z -u 1000k 200k' $i",
    .run = amend, .size = 1303 * KiB, .arg = DOWN, .is_new = is_amended },
  { .name = "version 2, encrypted", .recipe = {
      SMALL, .disk_size = 303 * KiB, .fill_percent = 60, .zero_percent = 30,
      .encryption = QCOW2_ENCRYPTION_LUKS },
    .run = amend, .size = 303 * KiB, .arg = DOWN, .is_new = is_amended },
  { .name = "version 2 from lazy and narrow refcounts", .recipe = {
      .options = "cluster_size=1k,refcount_bits=2,lazy_refcounts=on",
      .cluster_bits = 10, .disk_size = 400 * KiB, .fill_percent = 60,
      .snapshots = 1, .zero_percent = 20 },
    .run = amend, .size = 400 * KiB, .arg = DOWN_AND_ALL,
    .is_new = is_amended },
  { .name = "version 3", .recipe = {
      OLD, .disk_size = 303 * KiB, .fill_percent = 60, .snapshots = 2,
      .compressed = true },
    .run = amend, .size = 303 * KiB, .arg = UP, .is_new = is_amended },
  { .name = "version 3, all at once", .recipe = {
      .options = "compat=0.10,cluster_size=512", .cluster_bits = 9,
      .disk_size = 403 * KiB, .fill_percent = 60, .snapshots = 2 },
    .run = amend, .size = 403 * KiB, .arg = UP_AND_ALL,
    .is_new = is_amended },
  { .name = "lazy refcounts", .recipe = {
      SMALL, .disk_size = 303 * KiB, .fill_percent = 60, .bitmap = true },
    .checks = LOAD_BITMAPS,
    .run = amend, .size = 303 * KiB, .arg = LAZY_ON, .is_new = is_amended },
  { .name = "no lazy refcounts", .recipe = {
      LAZY, .disk_size = 303 * KiB, .fill_percent = 60 },
    .run = amend, .size = 303 * KiB, .arg = LAZY_OFF, .is_new = is_amended },
  { .name = "wider refcounts", .recipe = {
      .options = "cluster_size=512,refcount_bits=8", .cluster_bits = 9,
      .disk_size = 1000 * KiB, .fill_percent = 70, .snapshots = 2 },
    .run = amend, .size = 1000 * KiB, .arg = WIDE, .is_new = is_amended },
  { .name = "the narrowest refcounts", .recipe = {
      TINY, .disk_size = 1000 * KiB, .fill_percent = 70, .bitmap = true },
    .checks = LOAD_BITMAPS,
    .run = amend, .size = 1000 * KiB, .arg = NARROWEST,
    .is_new = is_amended },
  { .name = "narrower refcounts, a data file", .recipe = {
      SMALL, .disk_size = 1000 * KiB, .fill_percent = 70, .data_file = true },
    .run = amend, .size = 1000 * KiB, .arg = NARROW, .is_new = is_amended },
  { .name = "complete a snapshot", .recipe = {
      SMALL, .disk_size = 303 * KiB, .fill_percent = 60, .snapshots = 1 },
    .commands = SHORT_SNAPSHOT, .run = complete_snapshots,
    .size = 303 * KiB, .is_new = has_complete_snapshots },
  { .name = "wider refcounts, compressed and shared", .recipe = {
      SUB, .disk_size = 1000 * KiB, .fill_percent = 70, .compressed = true,
      .snapshots = 3, .vm_state = true },
    .run = amend, .size = 1000 * KiB, .arg = WIDE, .is_new = is_amended },
};
const size_t nr_edit_cases = sizeof edit_cases / sizeof edit_cases[0];
