/* SPDX-License-Identifier: BSD-3-Clause */
/* test-vm-state.c - what a virtual machine had in memory is saved with a
 * snapshot.
 *
 * Owns      nothing.
 * Method    states of many sizes in images of all kinds, read back; the file
 *           is clean for QEMU and for fsck.c, and the disk is as before.  Then
 *           what is refused, what fails half-way, and who cancels.
 */
#include "config.h"

#include "fsck.h"
#include "hooked_disk.h"
#include "host.h"
#include "qemu.h"
#include "recipe.h"
#include "unit.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define MiB (KiB << 10)
#define CAPACITY (64 * MiB)
#define MAX_STATE (9 * MiB)
#define FILE_NAME "state.qcow2"

struct scene {
  struct recipe_image made;
  struct host h;
  struct qcow2_image *image;
  struct qcow2_error err;
};

/* ---- The engine -------------------------------------------------------- */

static void
begin (struct scene *s)
{
  struct attach attach = { &s->made.layers, NULL };
  struct qcow2_options options = { .writable = true };

  attach_options (&attach, &options);
  host_reopen (&s->h);
  s->image = qcow2_open (&s->h.io, &options, &s->err);
  if (!CHECK (s->image != NULL))
    printf ("%s\n", s->err.text);
  REQUIRE (s->image != NULL);
}

/* It is clean, the disk as before, and there are so many snapshots. */
static void
end (struct scene *s, unsigned nr)
{
  const uint64_t size = s->made.disk_size;
  unsigned char *const buf = malloc (size + 1);
  char file[QEMU_IMAGE];
  struct fsck f;

  REQUIRE (buf != NULL);
  CHECK_EQ (qcow2_get_info (s->image).nr_snapshots, nr);
  if (CHECK (qcow2_pread (s->image, &s->h.io, buf, (uint32_t) size, 0, &s->err)
             == 0))
    CHECK_BYTES (buf, s->made.disk, size);
  CHECK (qcow2_end (s->image, &s->h.io, &s->err) == 0);
  qcow2_close (s->image);
  layers_close (&s->made.layers);
  fsck_image (s->h.bytes, s->h.size, &f);
  if (!CHECK_EQ (f.corruptions, 0))
    printf ("%s\n", f.text);
  if (!CHECK_EQ (f.leaks, 0))
    printf ("%s\n", f.leak_text);
  CHECK (!f.dirty);
  qemu_save (FILE_NAME, s->h.bytes, s->h.size);
  qemu_run (0, "qemu-img check -q %s",
            qemu_image (file, sizeof file, FILE_NAME, s->made.qemu_options,
                        NULL));
  free (buf);
}

static void
make (struct scene *s, const struct recipe *r)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };

  memset (s, 0, sizeof *s);
  recipe_make (&s->made, r, 1);
  host_init (&s->h, &spec, s->made.bytes, s->made.size);
}

static void
destroy (struct scene *s)
{
  host_free (&s->h);
  recipe_free (&s->made);
}

/* ---- A state ----------------------------------------------------------- */

struct source {
  uint64_t size, next;          /* it is read from the front to the back */
  uint64_t fails_at;            /* UINT64_MAX: never */
};

static unsigned char
byte_at (uint64_t off)
{
  return (unsigned char) (off / 512 * 13 + off % 251 + 1);
}

static int
read_source (void *opaque, void *buf, uint32_t count, uint64_t off,
             struct qcow2_error *err)
{
  struct source *const s = opaque;

  CHECK_EQ (off, s->next);
  CHECK (count > 0 && count <= s->size - off);
  s->next = off + count;
  if (s->next > s->fails_at) {
    /* Of another image, say. */
    *err = (struct qcow2_error) {
      .kind = QCOW2_ERR_CORRUPT, .errnum = EIO, .offset = 0x10000,
      .text = "the source has failed",
    };
    return -1;
  }
  for (uint32_t i = 0; i < count; ++i)
    ((unsigned char *) buf)[i] = byte_at (off + i);
  return 0;
}

static int
save_from (struct scene *s, struct source *source, const char *name,
           bool (*progress) (void *opaque, unsigned percent), void *opaque)
{
  const struct qcow2_vm_state state = { source->size, read_source, source };
  const struct qcow2_snapshot_options options = {
    .name = { name, strlen (name) }, .vm_state = &state,
    .progress = progress, .progress_opaque = opaque,
  };

  return qcow2_snapshot_create (s->image, &s->h.io, &options, &s->err);
}

static void
save (struct scene *s, uint64_t size, const char *name)
{
  struct source source = { size, 0, UINT64_MAX };

  if (!CHECK (save_from (s, &source, name, NULL, NULL) == 0))
    printf ("%s\n", s->err.text);
  CHECK_EQ (source.next, size);
}

static void
reads_back (struct scene *s, uint64_t size, const char *name)
{
  static unsigned char buf[MAX_STATE];
  const struct qcow2_name n = { name, strlen (name) };
  struct qcow2_image *const view =
    qcow2_open_vm_state (s->image, &s->h.io, &n, false, &s->err);
  uint64_t wrong = 0;

  if (!CHECK (view != NULL)) {
    printf ("%s\n", s->err.text);
    return;
  }
  CHECK_EQ (qcow2_get_info (view).virtual_size, size);
  CHECK (qcow2_pread (view, &s->h.io, buf, (uint32_t) size, 0, &s->err) == 0);
  for (uint64_t i = 0; i < size; ++i)
    wrong += buf[i] != byte_at (i);
  CHECK_EQ (wrong, 0);
  qcow2_close (view);
}

/* ---- Sizes ------------------------------------------------------------- */

static const struct recipe below = {
  .options = "cluster_size=8k", .cluster_bits = 13, .disk_size = 4 * MiB,
  .fill_percent = 90,
};

static const struct recipe recipes[] = {
  { .options = "compat=0.10", .cluster_bits = 16, .disk_size = MiB,
    .fill_percent = 60, .snapshots = 1 },
  { .options = "cluster_size=512,refcount_bits=4", .cluster_bits = 9,
    .disk_size = 100 * KiB, .fill_percent = 80, .snapshots = 1 },
  { .options = "cluster_size=2M", .cluster_bits = 21, .disk_size = 4 * MiB,
    .fill_percent = 60, .snapshots = 1 },
  { .options = "cluster_size=16k,extended_l2=on", .cluster_bits = 14,
    .disk_size = MiB, .fill_percent = 60, .snapshots = 1 },
  { .options = "cluster_size=4k,lazy_refcounts=on", .cluster_bits = 12,
    .disk_size = 256 * KiB, .fill_percent = 60, .snapshots = 1 },
  { .options = "cluster_size=64k", .cluster_bits = 16, .disk_size = MiB,
    .fill_percent = 60, .snapshots = 1,
    .encryption = QCOW2_ENCRYPTION_LUKS },
  { .options = "cluster_size=4k", .cluster_bits = 12, .disk_size = MiB,
    .fill_percent = 60, .snapshots = 1,
    .encryption = QCOW2_ENCRYPTION_AES },
  { .options = "cluster_size=4k", .cluster_bits = 12, .disk_size = 512 * KiB,
    .fill_percent = 40, .snapshots = 1, .below = &below },
};

static void
save_sizes (const struct recipe *r)
{
  static const uint64_t sizes[] = {
    1, 511, 4096, 64 * KiB, MiB - 1, MiB + 1, 3 * MiB + 777,
  };
  const unsigned nr = sizeof sizes / sizeof sizes[0];
  struct scene s;
  char name[] = "a";

  if (!recipe_is_possible (r))
    return;
  unit_context ("%s", r->options);
  make (&s, r);
  begin (&s);
  for (unsigned i = 0; i < nr; ++i, ++name[0])
    save (&s, sizes[i], name);
  end (&s, r->snapshots + nr);

  begin (&s);
  name[0] = 'a';
  for (unsigned i = 0; i < nr; ++i, ++name[0])
    reads_back (&s, sizes[i], name);
  name[0] = 'a';
  for (unsigned i = 0; i < nr; ++i, ++name[0]) {
    const struct qcow2_name n = { name, 1 };

    CHECK (qcow2_snapshot_delete (s.image, &s.h.io, &n, false, NULL, &s.err)
           == 0);
  }
  end (&s, r->snapshots);
  destroy (&s);
}

/* The state of the one is no part of the other. */
static void
apply_and_save_again (void)
{
  const struct qcow2_name one = { "one", 3 };
  struct scene s;

  unit_context ("again");
  make (&s, &recipes[4]);
  begin (&s);
  save (&s, 2 * MiB, "one");
  CHECK (qcow2_snapshot_apply (s.image, &s.h.io, &one, false, NULL, &s.err)
         == 0);
  qcow2_close (s.image);
  layers_close (&s.made.layers);
  begin (&s);
  save (&s, 5000, "two");
  end (&s, 3);
  begin (&s);
  reads_back (&s, 2 * MiB, "one");
  reads_back (&s, 5000, "two");
  end (&s, 3);
  destroy (&s);
}

/* ---- What does not become one ------------------------------------------ */

static void
is_refused (struct scene *s, struct source source, enum qcow2_error_kind kind,
            const char *text)
{
  CHECK (save_from (s, &source, "x", NULL, NULL) == -1);
  CHECK_EQ (s->err.kind, kind);
  if (!CHECK (strstr (s->err.text, text) != NULL))
    printf ("%s\n", s->err.text);
}

static void
refuse (void)
{
  struct scene s;

  unit_context ("refused");
  make (&s, &recipes[0]);
  begin (&s);
  is_refused (&s, (struct source) { 0, 0, 0 }, QCOW2_ERR_INVALID, "empty");
  is_refused (&s, (struct source) { UINT64_C (1) << 32, 0, 0 },
              QCOW2_ERR_UNSUPPORTED, "version 2 know of at most 4294967295");
  end (&s, 1);
  destroy (&s);

  /* 512-byte clusters: 128 GiB is all that there can be. */
  make (&s, &recipes[1]);
  begin (&s);
  is_refused (&s, (struct source) { UINT64_C (128) << 30, 0, 0 },
              QCOW2_ERR_UNSUPPORTED, "room for 137438822400");
  is_refused (&s, (struct source) { UINT64_MAX, 0, 0 },
              QCOW2_ERR_UNSUPPORTED, "room for");
  /* That fits, until the source fails. */
  is_refused (&s, (struct source) { 137438822400, 0, 0 }, QCOW2_ERR_IO,
              "source");
  end (&s, 1);
  destroy (&s);
}

static bool
cancel (void *opaque, unsigned percent)
{
  (void) percent;
  return --*(unsigned *) opaque > 0;
}

/* What was written of it is given back. */
static void
stop (void)
{
  struct scene s;

  unit_context ("stopped");
  make (&s, &recipes[4]);
  begin (&s);
  for (uint64_t at = 0; at < 9 * MiB; at += 700 * KiB)
    is_refused (&s, (struct source) { 9 * MiB, 0, at }, QCOW2_ERR_IO,
                "source");
  CHECK (!qcow2_get_info (s.image).corrupt);
  for (unsigned n = 1; n < 12; n += 3) {
    struct source source = { 9 * MiB, 0, UINT64_MAX };
    unsigned left = n;

    CHECK (save_from (&s, &source, "x", cancel, &left) == -1);
    CHECK_EQ (s.err.kind, QCOW2_ERR_CANCELLED);
    CHECK (source.next < source.size || n > 9);
  }
  end (&s, 1);
  begin (&s);
  save (&s, 9 * MiB, "now");
  reads_back (&s, 9 * MiB, "now");
  end (&s, 2);
  destroy (&s);
}

/* Only single clusters are free, and the file cannot grow. */
static void
fill_gaps (void)
{
  static struct scene s;
  const struct host_spec spec = { .capacity = CAPACITY };
  struct hooked_disk d;
  uint64_t size;

  unit_context ("gaps");
  memset (&s, 0, sizeof s);
  hooked_disk_build_apart (&d, 10, 4, MiB, 600);
  size = d.b.size;
  s.made.disk_size = MiB;
  s.made.disk = calloc (1, MiB);
  REQUIRE (s.made.disk != NULL);
  for (unsigned i = 0; i < 600; ++i)
    memset (s.made.disk + i * KiB, 'a' + (int) i, KiB);
  host_init (&s.h, &spec, d.b.bytes, size);
  s.h.size = s.h.io.size = size;
  builder_free (&d.b);
  begin (&s);
  save (&s, 500 * KiB, "gaps");
  is_refused (&s, (struct source) { 500 * KiB, 0, UINT64_MAX },
              QCOW2_ERR_NO_SPACE, "space");
  end (&s, 1);
  CHECK_EQ (s.h.size, size);
  begin (&s);
  reads_back (&s, 500 * KiB, "gaps");
  end (&s, 1);
  host_free (&s.h);
  free (s.made.disk);
}

int
main (void)
{
  qemu_init ();
  for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; ++i)
    save_sizes (&recipes[i]);
  apply_and_save_again ();
  refuse ();
  stop ();
  fill_gaps ();
  qemu_finish ();
  return unit_finish ();
}
