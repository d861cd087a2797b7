/* SPDX-License-Identifier: BSD-3-Clause */
/* test-live-between.c - what others do in the middle of a check of an image.
 *
 * Owns      nothing.
 * Method    a check tells of its progress from its own thread, while it holds
 *           nothing; there, at a chosen moment, somebody changes the disk or
 *           the image.
 */
#include "config.h"

#include "fsck.h"
#include "hooked_disk.h"

#include "base/be.h"

#include <string.h>

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)
#define GROWS { .capacity = 64 * MiB, .grows = true }

/* Percent up to which a check with a repair only looks; and where it has seen
 * what it may have to lower, and begins to count that.
 */
#define LOOKS 50
#define REPAIR_COUNTS 85

struct between {
  struct hooked_disk d;         /* first: its hooks get a pointer to it */
  void (*act) (struct between *b, unsigned percent);
  unsigned nr;                  /* how often that did something */
  bool armed;
  uint64_t leaks_told;
};

static bool
progress (void *opaque, unsigned percent)
{
  struct between *const b = opaque;

  if (b->act != NULL)
    b->act (b, percent);
  return true;
}

static void
note (void *opaque, const struct qcow2_finding *f)
{
  struct between *const b = opaque;

  b->leaks_told += f->severity == QCOW2_FINDING_LEAK;
}

static bool
repair (struct between *b, struct qcow2_check_result *ret)
{
  const struct qcow2_check_options options = {
    .repair = QCOW2_REPAIR_LEAKS, .progress = progress, .finding = note,
    .opaque = b,
  };
  const int r = qcow2_check_live (b->d.image, &b->d.host.io, &options, ret,
                                  &b->d.err);

  return unit_check (r == 0, __FILE__, __LINE__, "%s", b->d.err.text);
}

/* While the image is being built: 'n' more references than there are, and the
 * entry of the cluster says that it is shared.
 */
static void
leak (struct between *b, uint64_t guest_cluster, unsigned n)
{
  struct hooked_disk *const d = &b->d;
  const uint64_t off = builder_entry_off (&d->b, guest_cluster);
  const uint64_t entry = hooked_disk_get (d, off) & ~HOOKED_COPIED;
  unsigned char *const count =
    d->b.bytes + hooked_disk_refcount_off (d, entry & HOOKED_OFFSET);

  hooked_disk_put (d, off, entry);
  store_be16 (count, (uint16_t) (load_be16 (count) + n));
}

static void
end (struct between *b, unsigned leaks)
{
  struct fsck f;

  b->act = NULL;
  b->d.after_read = NULL;
  unit_check (qcow2_end (b->d.image, &b->d.host.io, &b->d.err) == 0, __FILE__,
              __LINE__, "%s", b->d.err.text);
  fsck_image (b->d.host.bytes, b->d.host.size, &f);
  unit_check (f.corruptions == 0 && f.leaks == leaks, __FILE__,
              __LINE__, "%s %s", f.text, f.leak_text);
  hooked_disk_free (&b->d);
}

/* ---- Decided late ------------------------------------------------------- */

#define FIRST_ALIAS 20u
#define NR_ALIASES 60u

static void
trim_aliases (struct between *b, unsigned percent)
{
  if (percent <= LOOKS && b->nr < NR_ALIASES &&
      CHECK (hooked_disk_trim (&b->d, FIRST_ALIAS + b->nr)))
    b->nr++;
}

/* Of a cluster nothing can be said as long as its users come and go; when the
 * repair looks they do not any more, and it is a leak that nobody was told of.
 */
static void
decided_late (void)
{
  static struct between b;
  struct qcow2_check_result result;
  uint64_t entry;

  unit_context ("a leak that only the repair can see");
  b = (struct between) { .act = trim_aliases };
  hooked_disk_build (&b.d, 12, 4, 1 * MiB, 8);
  leak (&b, 5, 1);
  leak (&b, 3, 1 + NR_ALIASES);
  entry = hooked_disk_get (&b.d, builder_entry_off (&b.d.b, 3));
  for (unsigned i = 0; i < NR_ALIASES; ++i)
    hooked_disk_put (&b.d, builder_entry_off (&b.d.b, FIRST_ALIAS + i),
                     entry);
  hooked_disk_serve (&b.d, &(struct host_spec) GROWS);
  hooked_disk_open (&b.d);
  if (repair (&b, &result)) {
    CHECK (b.nr > 6 && b.nr < NR_ALIASES);
    CHECK_EQ (result.undecided, 1);
    CHECK_EQ (b.leaks_told, 1);
    CHECK_EQ (result.leaks_fixed, 2);
    CHECK_EQ (result.leaks, 0);
    CHECK_EQ (result.corruptions, 0);
  }
  end (&b, 0);
}

/* ---- Edited while a repair counts --------------------------------------- */

#define BITS 9
#define PER_TABLE 64u
#define NR_TABLES 30u

/* From now on a repair counts what it is going to lower. */
static void
arm (struct between *b, unsigned percent)
{
  b->armed |= percent >= REPAIR_COUNTS;
}

/* It has read which tables the snapshot has; they become data. */
static void
delete_snapshot (struct hooked_disk *d, uint32_t count, uint64_t host_off,
                 enum qcow2_io_class io_class)
{
  static const struct qcow2_name name = { "s", 1 };
  struct between *const b = (struct between *) d;

  (void) count, (void) host_off;
  if (!b->armed || b->nr > 0 || io_class != QCOW2_IO_L1)
    return;
  b->nr++;
  unit_check (qcow2_snapshot_delete (d->image, &d->host.io, &name, false,
                                     NULL, &d->err) == 0,
              __FILE__, __LINE__, "%s", d->err.text);
  for (unsigned i = 0; i < 6 * NR_TABLES; ++i)
    CHECK (hooked_disk_write (d, i / 6 * PER_TABLE + 20 + i % 6, 0xff));
}

static void
edited (void)
{
  static struct between b;
  const struct qcow2_snapshot_options options = { .name = { "s", 1 } };
  struct qcow2_check_result result;

  unit_context ("a snapshot is deleted while a repair counts");
  b = (struct between) { .act = arm };
  hooked_disk_build (&b.d, BITS, 4, 1 * MiB, 8);
  leak (&b, 5, 1);
  hooked_disk_serve (&b.d, &(struct host_spec) GROWS);
  hooked_disk_open (&b.d);
  for (unsigned i = 0; i < NR_TABLES; ++i)
    CHECK (hooked_disk_write (&b.d, i * PER_TABLE + 9, 1));
  unit_check (qcow2_snapshot_create (b.d.image, &b.d.host.io, &options,
                                     &b.d.err) == 0,
              __FILE__, __LINE__, "%s", b.d.err.text);
  for (unsigned i = 0; i < NR_TABLES; ++i)
    CHECK (hooked_disk_write (&b.d, i * PER_TABLE + 12, 2));
  CHECK (hooked_disk_flush (&b.d));
  b.d.after_read = delete_snapshot;
  if (repair (&b, &result)) {
    CHECK_EQ (b.nr, 1);
    CHECK_EQ (result.leaks_fixed, 1);
    CHECK_EQ (result.leaks + result.corruptions + result.check_errors, 0);
    CHECK (!result.incomplete);
  }
  end (&b, 0);
}

/* ---- What cannot be the disk's own -------------------------------------- */

/* An L2 table that counts as shared, with such an entry: neither can get the
 * flag that it would need with a lower refcount.
 */
static void
keep_shared (void)
{
  static struct between b;
  struct qcow2_check_result result;
  uint64_t off, entry;
  unsigned char *count;

  unit_context ("a leak in a table that leaks");
  b = (struct between) { .act = NULL };
  hooked_disk_build (&b.d, 12, 4, 1 * MiB, 8);
  leak (&b, 3, 1);
  off = load_be64 (b.d.b.bytes + 40);
  entry = hooked_disk_get (&b.d, off) & ~HOOKED_COPIED;
  hooked_disk_put (&b.d, off, entry);
  count = b.d.b.bytes + hooked_disk_refcount_off (&b.d, entry & HOOKED_OFFSET);
  store_be16 (count, 2);
  hooked_disk_serve (&b.d, &(struct host_spec) GROWS);
  hooked_disk_open (&b.d);
  for (unsigned i = 0; i < 2; ++i)
    if (repair (&b, &result)) {
      CHECK_EQ (result.leaks, 2);
      CHECK_EQ (result.leaks_fixed, 0);
      CHECK_EQ (result.corruptions, 0);
    }
  end (&b, 2);
}

int
main (void)
{
  keep_shared ();
  decided_late ();
  edited ();
  return unit_finish ();
}
