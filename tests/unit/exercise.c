/* SPDX-License-Identifier: BSD-3-Clause */
/* exercise.c - uses an untrusted image, for tests of hostile images and for
 * fuzzing.
 *
 * Method    memory_io checks every request of the engine; this file checks
 *           every error and extent that it returns.  Work is bounded: at most
 *           MAX_READ bytes, MAX_EXTENTS extents, and ranges of 4 GiB as NBD
 *           has; of snapshots and bitmaps the first MAX_NAMES.
 *
 *           A backing file or a data file has the very same bytes: so the
 *           author of the image makes all of the chain, which ends in a raw
 *           layer.
 * Locks     none.
 */
#include "config.h"

#include "exercise.h"
#include "memory_io.h"
#include "unit.h"

#include <errno.h>

#define MAX_READ (256 << 10)
#define MAX_EXTENTS 2000
#define MAX_NAMES 2
#define MAX_NAME 80
#define MAX_FILES 6             /* besides the image's own */
#define MAX_LAYERS 3            /* below each other */

/* Encrypted images of the corpus have it. */
#define PASSPHRASE "fuzz"

static void
check_error (const struct qcow2_error *err)
{
  CHECK (err->errnum > 0);
  CHECK (err->text[0] != '\0');
  CHECK (strnlen (err->text, sizeof err->text) < sizeof err->text);
  for (const char *p = err->text; *p; ++p)
    if ((unsigned char) *p < ' ' || (unsigned char) *p > '~') {
      CHECK (!"a control character in an error");
      break;
    }
}

struct seen {
  uint64_t next, end;
  unsigned calls;
  int last_type;
};

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct seen *const seen = opaque;

  CHECK_EQ (guest_off, seen->next);
  CHECK (len > 0 && len <= seen->end - guest_off);
  CHECK ((int) type != seen->last_type);
  seen->last_type = (int) type;
  seen->next = guest_off + len;
  return ++seen->calls == MAX_EXTENTS;
}

static void
read_at (struct qcow2_image *image, struct memory_io *m, uint64_t guest_off)
{
  static unsigned char buf[MAX_READ];
  const uint64_t size = qcow2_get_info (image).virtual_size;
  struct qcow2_error err;
  uint64_t count = MAX_READ;

  if (guest_off >= size)
    return;
  if (count > size - guest_off)
    count = size - guest_off;
  if (qcow2_pread (image, &m->io, buf, (uint32_t) count, guest_off, &err)
      == 0)
    return;
  check_error (&err);
  /* Past the broken place: bit by bit. */
  for (uint64_t at = 0; at < count; at += 4096) {
    const uint64_t n = count - at < 1000 ? count - at : 1000;

    if (qcow2_pread (image, &m->io, buf, (uint32_t) n, guest_off + at, &err)
        == -1)
      check_error (&err);
  }
}

static void
extents_at (struct qcow2_image *image, struct memory_io *m,
            uint64_t guest_off)
{
  const uint64_t size = qcow2_get_info (image).virtual_size;
  struct qcow2_error err;
  struct seen seen = { .next = guest_off, .end = guest_off + UINT32_MAX,
                       .last_type = -1 };

  if (guest_off >= size)
    return;
  if (seen.end > size)
    seen.end = size;
  if (qcow2_extents (image, &m->io, seen.end - guest_off, guest_off,
                     see_extent, &seen, &err) == -1) {
    CHECK_EQ (seen.calls, 0);
    check_error (&err);
  }
  else
    CHECK (seen.calls > 0);
}

/* What a sequential reader sees to it that is read ahead. */
static void
read_in_order (struct qcow2_image *image, struct memory_io *m)
{
  static unsigned char buf[16 << 10];
  const uint64_t size = qcow2_get_info (image).virtual_size;
  struct qcow2_error err;

  for (uint64_t at = 0; at < size && at < 8 * sizeof buf; at += sizeof buf) {
    const uint64_t n = size - at < sizeof buf ? size - at : sizeof buf;

    if (qcow2_pread (image, &m->io, buf, (uint32_t) n, at, &err) == -1)
      check_error (&err);
  }
}

static void
use_disk (struct qcow2_image *image, struct memory_io *m, bool in_order)
{
  const uint64_t disk = qcow2_get_info (image).virtual_size;
  struct qcow2_error err;

  if (in_order)
    read_in_order (image, m);
  read_at (image, m, 0);
  read_at (image, m, disk / 2);
  read_at (image, m, disk > MAX_READ ? disk - MAX_READ : disk - disk / 3);
  for (uint64_t at = 512; at < disk && at < UINT64_C (1) << 62; at *= 16)
    read_at (image, m, at - 7);
  extents_at (image, m, 0);
  extents_at (image, m, disk / 2 + 1);
  if (disk > 0 &&
      qcow2_cache (image, &m->io, disk < 1 << 20 ? (uint32_t) disk : 1 << 20,
                   0, &err) == -1)
    check_error (&err);
}

/* ---- What is inside ---------------------------------------------------- */

/* Names that are not too long. */
struct names {
  unsigned nr, seen;
  char text[MAX_NAMES][MAX_NAME];
  size_t len[MAX_NAMES];
};

static void
keep_name (struct names *names, const struct qcow2_name *name)
{
  names->seen++;
  if (names->nr == MAX_NAMES || name->len > MAX_NAME)
    return;
  memcpy (names->text[names->nr], name->bytes, name->len);
  names->len[names->nr++] = name->len;
}

struct snapshots {
  struct names names, ids;
};

static int
see_snapshot (void *opaque, const struct qcow2_snapshot *s)
{
  struct snapshots *const all = opaque;

  keep_name (&all->names, &s->name);
  keep_name (&all->ids, &s->id);
  return 0;
}

static int
see_bitmap (void *opaque, const struct qcow2_bitmap *b)
{
  CHECK (b->granularity >= 512 && b->granularity <= UINT32_C (1) << 31);
  keep_name (opaque, &b->name);
  return 0;
}

static void
use_view (struct qcow2_image *image, struct memory_io *m, bool in_order,
          enum qcow2_view_kind kind, const char *text, size_t len)
{
  const struct qcow2_name name = { text, len };
  struct qcow2_error err;
  struct qcow2_image *const view =
    qcow2_open_view (image, &m->io, kind, &name, &err);

  if (view == NULL) {
    check_error (&err);
    return;
  }
  use_disk (view, m, in_order);
  qcow2_close (view);
}

static void
use_snapshots (struct qcow2_image *image, struct memory_io *m, bool in_order)
{
  struct snapshots all = { { 0 }, { 0 } };
  const struct names *const names = &all.names;
  struct qcow2_error err;
  char pair[2 * MAX_NAME + 2];
  size_t len;

  if (qcow2_list_snapshots (image, &m->io, see_snapshot, &all, &err) == -1)
    check_error (&err);
  else
    CHECK_EQ (names->seen, qcow2_get_info (image).nr_snapshots);
  for (unsigned i = 0; i < all.ids.nr; ++i)
    use_view (image, m, in_order, QCOW2_VIEW_SNAPSHOT_ID, all.ids.text[i],
              all.ids.len[i]);
  for (unsigned i = 0; i < qcow2_count_layers (image); ++i)
    use_view (image, m, in_order, QCOW2_VIEW_LAYER, i == 0 ? "0" : "1", 1);
  if (names->nr == 0)
    return;
  for (unsigned i = 0; i < names->nr; ++i)
    use_view (image, m, in_order, QCOW2_VIEW_SNAPSHOT, names->text[i],
              names->len[i]);
  len = names->len[0];
  memcpy (pair, names->text[0], len);
  memcpy (pair + len, "..", 2);
  use_view (image, m, in_order, QCOW2_VIEW_DIFF, pair, len + 2);
  memcpy (pair + len + 2, names->text[names->nr - 1], names->len[names->nr - 1]);
  use_view (image, m, in_order, QCOW2_VIEW_DIFF, pair,
            len + 2 + names->len[names->nr - 1]);
}

static void
use_bitmaps (struct qcow2_image *image, struct memory_io *m, bool in_order)
{
  struct names names = { 0 };
  struct qcow2_error err;

  if (qcow2_list_bitmaps (image, &m->io, see_bitmap, &names, &err) == -1)
    check_error (&err);
  else
    CHECK_EQ (names.seen, qcow2_get_info (image).nr_bitmaps);
  for (unsigned i = 0; i < names.nr; ++i)
    use_view (image, m, in_order, QCOW2_VIEW_BITMAP, names.text[i],
              names.len[i]);
}

/* ---- Other files ------------------------------------------------------- */

struct file {
  struct memory_io m;
  struct qcow2_image *image;
};

struct files {
  const struct memory_io *top;
  struct qcow2_options options;
  unsigned depth, nr;
  struct file file[MAX_FILES];  /* who refers to one comes before it */
};

static int
open_file (void *opaque, const struct qcow2_reference *reference,
           struct qcow2_file *ret_file, struct qcow2_error *err)
{
  struct files *const files = opaque;
  struct file *const f = &files->file[files->nr];
  struct qcow2_options options = files->options;

  CHECK (reference->name_len <= 1023 || reference->kind == QCOW2_DATA_FILE);
  CHECK (!reference->writing);
  if (files->nr == MAX_FILES) {
    *err = (struct qcow2_error) {
      .kind = QCOW2_ERR_REFUSED, .errnum = EPERM, .offset = QCOW2_NO_OFFSET,
      .text = "too many files",
    };
    return -1;
  }
  files->nr++;
  memory_io_init (&f->m, files->top->bytes, files->top->io.size);
  f->m.io.max_block = files->top->io.max_block;
  f->m.io.concurrent = true;
  f->m.delay_us = files->top->delay_us;
  f->image = NULL;
  if (files->top->io.ops->borrow)
    memory_io_lend (&f->m, 0);
  *ret_file = (struct qcow2_file) { .io = &f->m.io };
  if (reference->kind == QCOW2_DATA_FILE)
    return 0;
  options.raw = files->depth + 1 == MAX_LAYERS;
  files->depth++;
  f->image = qcow2_open (&f->m.io, &options, err);
  files->depth--;
  ret_file->image = f->image;
  return f->image ? 0 : -1;
}

static void
close_files (struct files *files)
{
  for (unsigned i = 0; i < files->nr; ++i)
    qcow2_close (files->file[i].image);
  for (unsigned i = 0; i < files->nr; ++i)
    CHECK_EQ (files->file[i].m.borrowed, 0);
}

static bool
exercise (struct memory_io *m, const struct qcow2_options *options)
{
  struct files files = { .top = m, .options = *options };
  struct qcow2_image *image;
  struct qcow2_error err;

  files.options.open_file = open_file;
  files.options.open_file_opaque = &files;
  files.options.passphrase = PASSPHRASE;
  files.options.passphrase_len = sizeof PASSPHRASE - 1;
  image = qcow2_open (&m->io, &files.options, &err);
  if (image == NULL)
    check_error (&err);
  else {
    use_disk (image, m, options->readahead > 0);
    use_snapshots (image, m, options->readahead > 0);
    use_bitmaps (image, m, options->readahead > 0);
    qcow2_close (image);
  }
  close_files (&files);
  CHECK_EQ (m->borrowed, 0);
  return image != NULL;
}

bool
exercise_image (const void *bytes, size_t size)
{
  const struct qcow2_options options = { .cache_size = 1 << 20 };
  struct memory_io m;

  memory_io_init (&m, bytes, size);
  return exercise (&m, &options);
}

/* Small images cost one slow request, for the head of the file; it is kept,
 * and what is read ahead comes from there.
 */
bool
exercise_slow_image (const void *bytes, size_t size, unsigned kind)
{
  const struct qcow2_options options = {
    .cache_size = 1 << 20, .readahead = 16 << 20,
    .cluster_cache_size = kind & 8 ? 1 << 20 : 0,
  };
  struct memory_io m;

  memory_io_init (&m, bytes, size);
  m.io.concurrent = kind & 1;
  if (kind & 2)
    memory_io_lend (&m, kind & 1 ? 0 : 3);
  if (kind & 4)
    m.io.max_block = 4096;
  m.delay_us = 260;
  return exercise (&m, &options);
}
