/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz-edit.c - libFuzzer target: an image file, and a change of it.
 *
 * The last byte of the input chooses the change; the rest is an image without
 * other files.  (With FUZZ_ALL all of it is the image, and each change is
 * tried.)  It is opened, changed, closed, and checked.
 *
 * Beyond what sanitizers see, and what memory_disk checks of requests, an input
 * is bad if the image was sound and is not afterwards, or if a part of its
 * disk could be read before and reads otherwise, or not at all, afterwards.
 * Of an image that is not sound nobody can promise that: two things may lie in
 * one place.
 */
#include "config.h"

#include "base/bits.h"

#include "memory_disk.h"
#include "unit.h"

#include <string.h>

extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#define KiB (UINT64_C (1) << 10)
#define MiB (UINT64_C (1) << 20)

#define PIECE (4 * KiB)
#define NR_PIECES 512u
/* Work for counting would take minutes behind that. */
#define MAX_DISK (UINT64_C (1) << 40)

static const struct qcow2_name first = { "first", 5 }, second = { "second", 6 };

/* ---- Before and after --------------------------------------------------- */

struct look {
  bool opened, sound;
  uint64_t disk_size;
  uint64_t sums[NR_PIECES];     /* 0: it could not be read */
};

static struct qcow2_image *
open_it (struct memory_disk *d, bool check, bool writable)
{
  struct qcow2_options options = {
    .check = check, .writable = writable, .passphrase = "fuzz",
    .passphrase_len = 4, .memory = 64 * MiB,
  };
  struct qcow2_error err;

  d->host.size = d->size;
  return qcow2_open (&d->host, &options, &err);
}

static bool
is_sound (struct memory_disk *d)
{
  const struct qcow2_check_options options = { .memory = 16 * MiB };
  struct qcow2_image *const image = open_it (d, true, false);
  struct qcow2_check_result r = { .corruptions = 1 };
  struct qcow2_error err;

  if (image == NULL)
    return false;
  if (qcow2_check (image, &d->host, &options, &r, &err) == -1)
    r.corruptions = 1;
  qcow2_close (image);
  return r.corruptions + r.check_errors == 0 && !r.incomplete;
}

/* Pieces near the beginning, and others all over the disk. */
static uint64_t
place_of (uint64_t disk_size, unsigned i)
{
  const uint64_t pieces = disk_size / PIECE;

  if (i < NR_PIECES / 2 || pieces == 0)
    return i * PIECE;
  return (i - NR_PIECES / 2) * (pieces / (NR_PIECES / 2)) * PIECE;
}

static uint64_t
sum_of (const unsigned char *bytes, uint64_t n)
{
  uint64_t sum = 1469598103934665603u;

  for (uint64_t i = 0; i < n; ++i)
    sum = (sum ^ bytes[i]) * 1099511628211u;
  return sum | 1;
}

/* At places that follow from 'like', the size of the disk before. */
static void
read_pieces (struct memory_disk *d, struct qcow2_image *image, uint64_t like,
             struct look *l)
{
  unsigned char buf[PIECE];
  struct qcow2_error err;

  for (unsigned i = 0; i < NR_PIECES; ++i) {
    const uint64_t pos = place_of (like, i);

    if (pos + PIECE <= l->disk_size &&
        qcow2_pread (image, &d->host, buf, PIECE, pos, &err) == 0)
      l->sums[i] = sum_of (buf, PIECE);
  }
}

static void
look_at (struct memory_disk *d, const struct look *before, struct look *ret)
{
  struct qcow2_image *const image = open_it (d, false, false);

  *ret = (struct look) { .opened = image != NULL, .sound = is_sound (d) };
  if (image == NULL)
    return;
  ret->disk_size = qcow2_get_info (image).virtual_size;
  read_pieces (d, image, before ? before->disk_size : ret->disk_size, ret);
  qcow2_close (image);
}

/* ---- The changes -------------------------------------------------------- */

enum effect {
  SAME,                         /* the disk reads as before */
  OTHER,                        /* it does not, but the image is sound */
};

/* Returns -1 if it has failed, which is fine. */
typedef int (*change_fn) (struct qcow2_image *image, const struct qcow2_io *io,
                          struct qcow2_error *err);

static int
grow (struct qcow2_image *image, const struct qcow2_io *io,
      struct qcow2_error *err)
{
  return qcow2_resize (image, io, qcow2_get_info (image).virtual_size +
                       3 * MiB + 512, 0, QCOW2_PREALLOCATE_OFF, NULL, err);
}

static int
grow_filled (struct qcow2_image *image, const struct qcow2_io *io,
             struct qcow2_error *err)
{
  return qcow2_resize (image, io, qcow2_get_info (image).virtual_size + MiB,
                       0, QCOW2_PREALLOCATE_METADATA, NULL, err);
}

static int
shrink (struct qcow2_image *image, const struct qcow2_io *io,
        struct qcow2_error *err)
{
  return qcow2_resize (image, io, qcow2_get_info (image).virtual_size / 2,
                       QCOW2_RESIZE_SHRINK, QCOW2_PREALLOCATE_OFF, NULL, err);
}

static int
empty (struct qcow2_image *image, const struct qcow2_io *io,
       struct qcow2_error *err)
{
  return qcow2_make_empty (image, io, NULL, err);
}

static int
rebase (struct qcow2_image *image, const struct qcow2_io *io,
        struct qcow2_error *err)
{
  return qcow2_rebase (image, io, NULL, NULL, NULL, 0, NULL, err);
}

static int
amend (struct qcow2_image *image, const struct qcow2_io *io,
       unsigned version, unsigned bits, enum qcow2_setting lazy,
       struct qcow2_error *err)
{
  const struct qcow2_amend_options o = {
    .version = version, .refcount_bits = bits, .lazy_refcounts = lazy,
  };

  return qcow2_amend (image, io, &o, NULL, err);
}

static int
amend_v2 (struct qcow2_image *image, const struct qcow2_io *io,
          struct qcow2_error *err)
{
  return amend (image, io, 2, 0, QCOW2_SETTING_KEEP, err);
}

static int
amend_v3 (struct qcow2_image *image, const struct qcow2_io *io,
          struct qcow2_error *err)
{
  return amend (image, io, 3, 64, QCOW2_SETTING_ON, err);
}

static int
amend_narrow (struct qcow2_image *image, const struct qcow2_io *io,
              struct qcow2_error *err)
{
  return amend (image, io, 3, 1, QCOW2_SETTING_OFF, err);
}

static int
snapshot (struct qcow2_image *image, const struct qcow2_io *io,
          struct qcow2_error *err)
{
  const struct qcow2_snapshot_options o = {
    .name = second, .icount = UINT64_MAX,
  };

  return qcow2_snapshot_create (image, io, &o, err);
}

static int
read_state (void *opaque, void *buf, uint32_t count, uint64_t off,
            struct qcow2_error *err)
{
  (void) opaque;
  (void) off;
  (void) err;
  memset (buf, 0x5e, count);
  return 0;
}

static int
save_state (struct qcow2_image *image, const struct qcow2_io *io,
            struct qcow2_error *err)
{
  const struct qcow2_vm_state state = { 70000, read_state, NULL };
  const struct qcow2_snapshot_options o = {
    .name = second, .icount = UINT64_MAX, .vm_state = &state,
  };

  return qcow2_snapshot_create (image, io, &o, err);
}

/* The id of one of them. */
struct id {
  char bytes[64];
  struct qcow2_name name;
};

static int
note_id (void *opaque, const struct qcow2_snapshot *s)
{
  struct id *const id = opaque;

  if (s->id.len == 0 || s->id.len > sizeof id->bytes)
    return 0;
  memcpy (id->bytes, s->id.bytes, s->id.len);
  id->name = (struct qcow2_name) { id->bytes, s->id.len };
  return 1;
}

static int
delete_snapshot (struct qcow2_image *image, const struct qcow2_io *io,
                 struct qcow2_error *err)
{
  struct id id = { .name = first };

  return qcow2_list_snapshots (image, io, note_id, &id, err) == -1 ? -1
    : qcow2_snapshot_delete (image, io, &id.name, true, NULL, err);
}

static int
apply_snapshot (struct qcow2_image *image, const struct qcow2_io *io,
                struct qcow2_error *err)
{
  struct id id = { .name = first };

  return qcow2_list_snapshots (image, io, note_id, &id, err) == -1 ? -1
    : qcow2_snapshot_apply (image, io, &id.name, true, NULL, err);
}

static int
complete_snapshots (struct qcow2_image *image, const struct qcow2_io *io,
                    struct qcow2_error *err)
{
  return qcow2_snapshots_complete (image, io, err);
}

static int
add_bitmap (struct qcow2_image *image, const struct qcow2_io *io,
            struct qcow2_error *err)
{
  const struct qcow2_bitmap_action actions[] = {
    { .verb = QCOW2_BITMAP_ADD, .name = second },
    { .verb = QCOW2_BITMAP_ADD, .name = first, .disabled = true },
    { .verb = QCOW2_BITMAP_REMOVE, .name = second },
  };

  return qcow2_edit_bitmaps (image, io, actions, 3, NULL, NULL, err);
}

static int
remove_broken (struct qcow2_image *image, const struct qcow2_io *io,
               struct qcow2_error *err)
{
  return qcow2_remove_broken_bitmaps (image, io, false, NULL, NULL, err);
}

static int
write_some (struct qcow2_image *image, const struct qcow2_io *io,
            struct qcow2_error *err)
{
  unsigned char buf[PIECE];
  const uint64_t size = qcow2_get_info (image).virtual_size;

  memset (buf, 0x5a, sizeof buf);
  if (size < 2 * PIECE)
    return 0;
  if (qcow2_pwrite (image, io, buf, PIECE, 512, false, err) == -1 ||
      qcow2_pwrite (image, io, buf, PIECE, size / 2, false, err) == -1 ||
      qcow2_trim (image, io, size, 0, false, err) == -1)
    return -1;
  return qcow2_end (image, io, err);
}

static const struct {
  change_fn fn;
  enum effect effect;
} changes[] = {
  { grow, SAME }, { shrink, SAME }, { empty, OTHER },
  { rebase, SAME }, { amend_v2, SAME }, { amend_v3, SAME },
  { amend_narrow, SAME }, { snapshot, SAME }, { delete_snapshot, SAME },
  { apply_snapshot, OTHER }, { complete_snapshots, SAME },
  { add_bitmap, SAME }, { remove_broken, SAME }, { write_some, OTHER },
  { grow_filled, SAME }, { save_state, SAME },
};
#define NR_CHANGES (sizeof changes / sizeof changes[0])
#define NR_REPAIRS 3u           /* follow in the numbering */

static void
repair (struct memory_disk *d, unsigned which)
{
  static const enum qcow2_repair repairs[NR_REPAIRS] = {
    QCOW2_REPAIR_LEAKS, QCOW2_REPAIR_ALL, QCOW2_REPAIR_REBUILD,
  };
  const struct qcow2_check_options options = {
    .memory = 16 * MiB, .repair = repairs[which],
  };
  struct qcow2_image *const image = open_it (d, true, true);
  struct qcow2_check_result r;
  struct qcow2_error err;

  if (image == NULL)
    return;
  if (qcow2_check (image, &d->host, &options, &r, &err) == -1)
    CHECK (err.text[0] != '\0');
  qcow2_close (image);
}

/* Returns what becomes of the disk. */
static enum effect
change (struct memory_disk *d, unsigned which)
{
  struct qcow2_image *image;
  struct qcow2_error err;

  if (which >= NR_CHANGES) {
    repair (d, which - NR_CHANGES);
    return SAME;
  }
  image = open_it (d, false, true);
  if (image == NULL)
    return SAME;
  if (changes[which].fn (image, &d->host, &err) == -1)
    CHECK (err.text[0] != '\0');
  qcow2_close (image);
  return changes[which].effect;
}

static void
compare (const struct look *before, const struct look *after,
         enum effect effect)
{
  CHECK (after->opened);
  CHECK (after->sound);
  for (unsigned i = 0; effect == SAME && i < NR_PIECES; ++i)
    if (before->sums[i] != 0 &&
        place_of (before->disk_size, i) + PIECE <= after->disk_size)
      CHECK_EQ (after->sums[i], before->sums[i]);
}

static void
try_change (const uint8_t *data, size_t size, unsigned which)
{
  struct memory_disk d;
  struct look before, after;

  memory_disk_init (&d, data, size);
  look_at (&d, NULL, &before);
  if (before.disk_size <= MAX_DISK) {
    const enum effect effect = change (&d, which);

    look_at (&d, &before, &after);
    if (before.opened && before.sound)
      compare (&before, &after, effect);
  }
  memory_disk_free (&d);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  const unsigned nr = NR_CHANGES + NR_REPAIRS;

#ifdef FUZZ_ALL                 /* a file of the corpus, and every change */
  for (unsigned which = 0; which < nr; ++which)
    try_change (data, size, which);
#else
  if (size > 1)
    try_change (data, size - 1, data[size - 1] % nr);
#endif
  if (unit_failures () > 0)
    abort ();
  return 0;
}
