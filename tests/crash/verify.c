/* SPDX-License-Identifier: BSD-3-Clause */
/* verify.c - see verify.h.
 *
 * Owns      the states seen before: a state that comes again is checked only
 *           if there are new guarantees since, and QEMU checks the same
 *           metadata only once.
 * Method    the engine opens each state read-only, through a struct memory_io
 *           without functions for writing.
 */
#include "config.h"

#include "verify.h"

#include "memory_io.h"
#include "qemu.h"
#include "tag.h"
#include "unit.h"

#include <stdarg.h>

/* ---- A set of hashes --------------------------------------------------- */

struct seen {
  uint64_t *slots;              /* 0: free */
  size_t nr, room;
};

static struct seen *
seen_new (void)
{
  struct seen *const s = calloc (1, sizeof *s);

  REQUIRE (s != NULL);
  s->room = 4096;
  s->slots = calloc (s->room, sizeof *s->slots);
  REQUIRE (s->slots != NULL);
  return s;
}

static void
seen_free (struct seen *s)
{
  free (s->slots);
  free (s);
}

static bool
insert (uint64_t *slots, size_t room, uint64_t hash)
{
  size_t i = hash % room;

  while (slots[i] != 0 && slots[i] != hash)
    i = (i + 1) % room;
  if (slots[i] == hash)
    return false;
  slots[i] = hash;
  return true;
}

/* True if it is new. */
static bool
seen_add (struct seen *s, uint64_t hash)
{
  if (hash == 0)
    hash = 1;
  if (s->nr * 2 >= s->room) {
    uint64_t *const slots = calloc (2 * s->room, sizeof *slots);

    REQUIRE (slots != NULL);
    for (size_t i = 0; i < s->room; ++i)
      if (s->slots[i] != 0)
        insert (slots, 2 * s->room, s->slots[i]);
    free (s->slots);
    s->slots = slots;
    s->room *= 2;
  }
  if (!insert (s->slots, s->room, hash))
    return false;
  s->nr++;
  return true;
}

/* ---- Failures ---------------------------------------------------------- */

static void
keep (const char *path, const void *bytes, uint64_t size)
{
  FILE *const f = fopen (path, "wb");

  REQUIRE (f != NULL);
  fwrite (bytes, 1, size, f);
  fclose (f);
  fprintf (stderr, "    it is in %s\n", path);
}

__attribute__ ((__format__ (printf, 3, 4)))
static bool
failed (struct verifier *v, const struct state *state, const char *fmt, ...)
{
  const char *const dir = getenv ("CRASH_KEEP");
  char text[400], path[300];
  va_list args;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  if (v->failures++ > 0)
    return false;
  snprintf (v->first, sizeof v->first, "%s: %s: %s", v->name, state->how,
            text);
  if (v->quiet)
    return false;
  unit_check (false, __FILE__, __LINE__, "%s", v->first);
  if (dir != NULL) {
    snprintf (path, sizeof path - 5, "%s/%.80s-%016" PRIx64 ".qcow2", dir,
              v->name, state->hash);
    keep (path, state->bytes, state->size);
    strcat (path, ".data");
    if (state->data != NULL)
      keep (path, state->data, state->data_size);
  }
  return false;
}

/* ---- Checking ---------------------------------------------------------- */

static bool
look_at_structure (struct verifier *v, const struct state *state,
                   struct fsck *fsck)
{
  fsck_image (state->bytes, state->size, fsck);
  if (fsck->corruptions == 0)
    return true;
  return failed (v, state, "%u corruptions: %s", fsck->corruptions,
                 fsck->text);
}

/* Read the disk with the engine into v->disk. */
static bool
read_disk (struct verifier *v, const struct state *state)
{
  struct qcow2_options options = { .cache_size = 1 << 20 };
  const uint64_t len = v->cut.l->nr_sectors * SECTOR;
  struct attach attach = { .layers = v->layers };
  struct qcow2_error err;
  struct qcow2_image *image;
  struct memory_io m, data;
  bool ok;

  memory_io_init (&m, state->bytes, state->size);
  if (state->data != NULL) {
    memory_io_init (&data, state->data, state->data_size);
    data.io.concurrent = true;
    attach.data = &data.io;
  }
  attach_options (&attach, &options);
  image = qcow2_open (&m.io, &options, &err);
  if (image == NULL)
    return failed (v, state, "cannot be opened: %s", err.text);
  ok = qcow2_get_info (image).virtual_size == len;
  if (!ok)
    failed (v, state, "%s", "the disk has another size");
  else {
    ok = qcow2_pread (image, &m.io, v->disk, (uint32_t) len, 0, &err) == 0;
    if (!ok)
      failed (v, state, "cannot be read: %s", err.text);
  }
  qcow2_close (image);
  return ok;
}

static bool
look_at_sector (struct verifier *v, const struct state *state, uint64_t i,
                uint32_t id, const char *where)
{
  char text[300];

  if (id != TAG_FOREIGN && ledger_cut_allows (&v->cut, i, id))
    return true;
  ledger_cut_explain (&v->cut, i, text, sizeof text);
  return failed (v, state, "sector %" PRIu64 " %sholds %s%" PRIu32 "; %s", i,
                 where, id == TAG_FOREIGN ? "FOREIGN BYTES " :
                 id == TAG_ZERO ? "zeros " : "write ", id, text);
}

static bool
look_at_disk (struct verifier *v, const struct state *state)
{
  if (!read_disk (v, state))
    return false;
  for (uint64_t i = 0; i < v->cut.l->nr_sectors; ++i)
    if (!look_at_sector (v, state, i, tag_read (v->disk + i * SECTOR, i), ""))
      return false;
  /* The data file may be used without the image. */
  for (uint64_t i = 0; v->data_raw && i < v->cut.l->nr_sectors; ++i)
    if (!look_at_sector (v, state, i, (i + 1) * SECTOR <= state->data_size ?
                         tag_read (state->data + i * SECTOR, i) : TAG_ZERO,
                         "of the data file "))
      return false;
  return true;
}

/* At the end a raw data file equals the disk in v->disk.  If it did not at the
 * start, after a crash, it does where the guest has written.
 */
static bool
look_at_data (struct verifier *v, const struct state *state)
{
  const uint64_t len = v->cut.l->nr_sectors * SECTOR;

  for (uint64_t i = 0; v->data_raw && i < len; ++i)
    if (v->disk[i] != (i < state->data_size ? state->data[i] : 0) &&
        !ledger_is_open (v->cut.l, i / SECTOR))
      return failed (v, state, "the data file differs from the disk at %"
                     PRIu64, i);
  return true;
}

/* ---- Asking QEMU ------------------------------------------------------- */

static void
submit (struct verifier *v, const struct state *state, enum qemu_want want,
        bool read, const char *what)
{
  const struct qemu_files files = {
    .options = v->qemu_options, .data = state->data,
    .data_size = state->data_size,
  };

  qemu_submit (state->bytes, state->size, &files, want,
               read ? v->disk : NULL, v->cut.l->nr_sectors * SECTOR, what);
}

/* If a bitmap is not marked as in use, or an unknown autoclear bit is still
 * set, nothing may have been written yet.
 */
static bool
look_at_trust (struct verifier *v, const struct state *state,
               const struct fsck *fsck)
{
  for (uint64_t i = 0; fsck->trusted && i < v->cut.l->nr_sectors; ++i)
    if (tag_read (v->disk + i * SECTOR, i) != ledger_first (v->cut.l, i))
      return failed (v, state, "sector %" PRIu64 " has changed, and a bitmap "
                     "or feature bit says that nothing has", i);
  return true;
}

static void
ask_qemu (struct verifier *v, const struct state *state,
          const struct fsck *fsck)
{
  struct rng rng = { v->random };
  const bool read = rng_below (&rng, 100) < v->read_percent;
  const bool check = rng_below (&rng, 100) < v->qemu_percent;
  char what[300];

  v->random = rng.state;
  if (!check || v->quiet)
    return;
  snprintf (what, sizeof what, "%s: %s", v->name, state->how);
  submit (v, state, fsck->dirty ? QEMU_REPAIRED : QEMU_SOUND, read, what);
}

bool
verifier_look (void *opaque, const struct state *state)
{
  struct verifier *const v = opaque;
  struct fsck fsck;
  bool new_state;

  ledger_cut_move (&v->cut, state->tick);
  new_state = seen_add (v->states_seen, state->hash);
  if (!new_state &&
      !seen_add (v->states_seen, state->hash + v->cut.generation *
                 UINT64_C (0x9e3779b97f4a7c15)))
    return true;
  v->looks++;
  v->states += new_state;
  if (new_state && !look_at_structure (v, state, &fsck))
    return false;
  if (!look_at_disk (v, state) ||
      (new_state && !look_at_trust (v, state, &fsck)))
    return false;
  if (new_state && seen_add (v->metadata_seen, fsck.metadata))
    ask_qemu (v, state, &fsck);
  return true;
}

bool
verifier_look_at_end (struct verifier *v, const struct state *state,
                      const struct fsck *before)
{
  struct fsck fsck;

  ledger_cut_move (&v->cut, state->tick);
  v->looks++;
  if (!look_at_structure (v, state, &fsck))
    return false;
  if (fsck.leaks + fsck.past_end > before->leaks + before->past_end)
    return failed (v, state, "%u clusters are leaked, %u past the end (before "
                   "%u and %u): %s", fsck.leaks, fsck.past_end, before->leaks,
                   before->past_end, fsck.leak_text);
  if (fsck.dirty && !before->dirty)
    return failed (v, state, "%s", "still dirty");
  if (!look_at_disk (v, state) || !look_at_data (v, state))
    return false;
  if (!v->quiet)
    submit (v, state, fsck.dirty ? QEMU_REPAIRED :
            fsck.leaks > 0 ? QEMU_SOUND : QEMU_CLEAN, true, v->name);
  return true;
}

/* ---- Life -------------------------------------------------------------- */

void
verifier_init (struct verifier *v, const struct ledger *l, const char *name,
               struct recipe_image *image, const struct recipe *r)
{
  memset (v, 0, sizeof *v);
  v->layers = &image->layers;
  v->qemu_options = image->qemu_options;
  v->data_raw = r->data_raw;
  ledger_cut_init (&v->cut, l);
  v->name = name;
  v->qemu_percent = 100;
  v->read_percent = 10;
  v->states_seen = seen_new ();
  v->metadata_seen = seen_new ();
  v->disk = malloc (l->nr_sectors * SECTOR);
  REQUIRE (v->disk != NULL);
}

void
verifier_free (struct verifier *v)
{
  ledger_cut_free (&v->cut);
  seen_free (v->states_seen);
  seen_free (v->metadata_seen);
  free (v->disk);
}
