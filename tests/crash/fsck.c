/* SPDX-License-Identifier: BSD-3-Clause */
/* fsck.c - see fsck.h.
 *
 * Owns      the references to each cluster, and its use.
 * Method    walks all tables from the header on, and notes the use and the
 *           number of references of each cluster; then walks the refcounts.
 *           Every L1 table (the active one, and those of snapshots) counts its
 *           tables and clusters once more.
 * Does not  repair, or report more than the first error.
 */
#include "config.h"

#include "fsck.h"
#include "unit.h"

#include <endian.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPIED (UINT64_C (1) << 63)
#define COMPRESSED (UINT64_C (1) << 62)
#define OFFSET_MASK UINT64_C (0x00fffffffffffe00)
#define L1_RESERVED UINT64_C (0x7f000000000001ff)
#define L2_RESERVED UINT64_C (0x3f000000000001fe)
#define REFTABLE_RESERVED UINT64_C (0x1ff)

enum use {
  FREE, HEADER, REFTABLE, REFBLOCK, L1, L2, SNAPSHOTS, BITMAPS, CRYPT, DATA,
};

struct walk {
  const unsigned char *bytes;
  uint64_t size;
  struct fsck *ret;
  unsigned version, cluster_bits, refcount_bits;
  bool extended, data_file;
  uint64_t cluster_size, nr_clusters;
  uint64_t l1_off, l1_size, reftable_off, reftable_clusters, disk_size;
  uint64_t incompatible;
  uint32_t *refs;               /* of each cluster */
  unsigned char *use;
  bool *copied;                 /* an active entry says so */
};

__attribute__ ((__format__ (printf, 2, 3)))
static void
corrupt (struct walk *w, const char *fmt, ...)
{
  va_list args;

  if (w->ret->corruptions++ > 0)
    return;
  va_start (args, fmt);
  vsnprintf (w->ret->text, sizeof w->ret->text, fmt, args);
  va_end (args);
}

/* Bytes past the end of the file are zeros. */
static uint64_t
load (const struct walk *w, uint64_t off, unsigned len)
{
  unsigned char buf[8] = { 0 };
  uint64_t v;

  for (unsigned i = 0; i < len; ++i)
    if (off < w->size && i < w->size - off)
      buf[8 - len + i] = w->bytes[off + i];
  memcpy (&v, buf, 8);
  return be64toh (v);
}

static void
hash_range (struct walk *w, uint64_t off, uint64_t len)
{
  uint64_t h = w->ret->metadata ^ off;

  for (uint64_t i = off; i + 8 <= off + len && i + 8 <= w->size; i += 8) {
    uint64_t v;

    memcpy (&v, w->bytes + i, 8);
    h = (h ^ v) * UINT64_C (0x9fb21c651e98df25);
    h ^= h >> 32;
  }
  w->ret->metadata = h;
}

/* Count a reference to each cluster of a range; false if there is no such
 * cluster.
 */
static bool
refer (struct walk *w, uint64_t off, uint64_t len, enum use use,
       const char *from)
{
  const uint64_t end = off + len;

  if (end < off || end > w->nr_clusters << w->cluster_bits) {
    corrupt (w, "%s: 0x%" PRIx64 " is past the end of the file", from, off);
    return false;
  }
  for (uint64_t c = off >> w->cluster_bits;
       c << w->cluster_bits < end; ++c) {
    w->refs[c]++;
    if (w->use[c] != FREE && w->use[c] != use && ++w->ret->mixed > 0)
      corrupt (w, "%s: cluster 0x%" PRIx64 " has another use (%d and %d)",
               from, c << w->cluster_bits, w->use[c], use);
    w->use[c] = (unsigned char) use;
  }
  return true;
}

static uint64_t
refcount_of (struct walk *w, uint64_t cluster)
{
  const uint64_t per_block = w->cluster_size * 8 / w->refcount_bits;
  const uint64_t nr = cluster / per_block, i = cluster % per_block;
  uint64_t block;

  if (nr >= w->reftable_clusters * w->cluster_size / 8)
    return 0;
  block = load (w, w->reftable_off + nr * 8, 8) & ~REFTABLE_RESERVED;
  if (block == 0)
    return 0;
  if (w->refcount_bits >= 8)
    return load (w, block + i * w->refcount_bits / 8, w->refcount_bits / 8);
  return load (w, block + i * w->refcount_bits / 8, 1) >>
    i * w->refcount_bits % 8 & ((1u << w->refcount_bits) - 1);
}

/* In an active table, COPIED if and only if the refcount is 1. */
static void
check_copied (struct walk *w, uint64_t entry, uint64_t off, const char *what)
{
  const uint64_t refcount = refcount_of (w, off >> w->cluster_bits);

  w->copied[off >> w->cluster_bits] |= (entry & COPIED) != 0;
  if (!w->ret->dirty && (refcount == 1) != ((entry & COPIED) != 0))
    corrupt (w, "%s entry 0x%016" PRIx64 ": refcount %" PRIu64, what, entry,
             refcount);
}

/* ---- Entries ----------------------------------------------------------- */

static void
walk_compressed (struct walk *w, uint64_t entry)
{
  const unsigned x = 62 - (w->cluster_bits - 8);
  const uint64_t off = entry & ((UINT64_C (1) << x) - 1);
  const uint64_t sectors = (entry & ~(COPIED | COMPRESSED)) >> x;
  uint64_t len = (sectors + 1) * 512 - off % 512;

  if (entry & COPIED)
    corrupt (w, "compressed and COPIED: 0x%016" PRIx64, entry);
  /* The number of sectors may be too large at the end of the file. */
  if (off < w->size && len > w->size - off)
    len = w->size - off;
  refer (w, off, len, DATA, "compressed");
}

static void
check_bitmap (struct walk *w, uint64_t entry, uint64_t bitmap)
{
  const uint32_t alloc = (uint32_t) bitmap, zero = bitmap >> 32;

  if (entry & COMPRESSED ? bitmap != 0 : (alloc & zero) != 0)
    corrupt (w, "subclusters 0x%016" PRIx64 " of 0x%016" PRIx64, bitmap,
             entry);
  if (!(entry & COMPRESSED) && (entry & OFFSET_MASK) == 0 && alloc != 0 &&
      !(w->data_file && (entry & COPIED)))
    corrupt (w, "subclusters 0x%016" PRIx64 " without a cluster", bitmap);
}

/* The offset must be the guest offset; the entry refers to nothing in this
 * file.  QEMU always sets COPIED, and recognizes a cluster at offset 0 by it.
 */
static void
check_data_entry (struct walk *w, uint64_t entry, uint64_t guest_off)
{
  const uint64_t off = entry & OFFSET_MASK;

  if (entry & COMPRESSED)
    corrupt (w, "L2 entry 0x%016" PRIx64 ": compressed, with a data file",
             entry);
  else if (off != guest_off && (off != 0 || (entry & COPIED)))
    corrupt (w, "L2 entry 0x%016" PRIx64 " of 0x%" PRIx64 ": in another place "
             "of the data file", entry, guest_off);
  else if (off != 0 && !(entry & COPIED))
    corrupt (w, "L2 entry 0x%016" PRIx64 ": not COPIED", entry);
}

static void
walk_l2_entry (struct walk *w, uint64_t entry, uint64_t bitmap, bool active,
               uint64_t guest_off)
{
  const uint64_t off = entry & OFFSET_MASK;

  if (w->extended)
    check_bitmap (w, entry, bitmap);
  if (w->data_file) {
    check_data_entry (w, entry, guest_off);
    return;
  }
  if (entry & COMPRESSED) {
    walk_compressed (w, entry);
    return;
  }
  if ((entry & L2_RESERVED) != 0 || (w->version == 2 && (entry & 1)))
    corrupt (w, "L2 entry 0x%016" PRIx64 ": reserved bits", entry);
  if (off == 0) {
    if (entry & COPIED)
      corrupt (w, "L2 entry 0x%016" PRIx64 ": COPIED nothing", entry);
    return;
  }
  if (off % w->cluster_size != 0) {
    corrupt (w, "L2 entry 0x%016" PRIx64 ": not aligned", entry);
    return;
  }
  if (refer (w, off, w->cluster_size, DATA, "data") && active)
    check_copied (w, entry, off, "L2");
}

static void
walk_l2 (struct walk *w, uint64_t off, bool active, uint64_t guest_off)
{
  const unsigned step = w->extended ? 16 : 8;

  hash_range (w, off, w->cluster_size);
  for (uint64_t i = 0; i < w->cluster_size; i += step) {
    const uint64_t entry = load (w, off + i, 8);
    const uint64_t bitmap = w->extended ? load (w, off + i + 8, 8) : 0;

    if ((entry | bitmap) != 0)
      walk_l2_entry (w, entry, bitmap, active,
                     guest_off + (i / step << w->cluster_bits));
  }
}

static void
walk_l1 (struct walk *w, uint64_t l1_off, uint64_t l1_size, bool active)
{
  if (l1_off % w->cluster_size != 0 || l1_size > w->size) {
    corrupt (w, "L1 table at 0x%" PRIx64, l1_off);
    return;
  }
  if (l1_size == 0 || !refer (w, l1_off, l1_size * 8, L1, "L1 table"))
    return;
  hash_range (w, l1_off, l1_size * 8);
  for (uint64_t i = 0; i < l1_size; ++i) {
    const uint64_t entry = load (w, l1_off + i * 8, 8);
    const uint64_t off = entry & OFFSET_MASK;

    if ((entry & L1_RESERVED) != 0)
      corrupt (w, "L1 entry 0x%016" PRIx64 ": reserved bits", entry);
    if (off == 0)
      continue;
    if (off % w->cluster_size != 0)
      corrupt (w, "L1 entry 0x%016" PRIx64 ": not aligned", entry);
    else if (refer (w, off, w->cluster_size, L2, "L2 table")) {
      if (active)
        check_copied (w, entry, off, "L1");
      walk_l2 (w, off, active,
               i * (w->cluster_size / (w->extended ? 16 : 8)) <<
               w->cluster_bits);
    }
  }
}

static void
walk_snapshots (struct walk *w, uint64_t nr, uint64_t table)
{
  uint64_t off = table;

  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t len = 40 + load (w, off + 36, 4) + load (w, off + 12, 2) +
      load (w, off + 14, 2);

    if (off > w->size) {
      corrupt (w, "snapshot %" PRIu64 " is past the end of the file", i);
      return;
    }
    walk_l1 (w, load (w, off, 8), load (w, off + 8, 4), false);
    off += (len + 7) & ~UINT64_C (7);
  }
  if (nr > 0) {
    refer (w, table, off - table, SNAPSHOTS, "snapshots");
    hash_range (w, table, off - table);
  }
}

/* ---- Bitmaps ----------------------------------------------------------- */

static void
walk_bitmap (struct walk *w, uint64_t entry)
{
  const uint64_t table = load (w, entry, 8), nr = load (w, entry + 8, 4);

  if (nr > w->size || table % w->cluster_size != 0) {
    corrupt (w, "bitmap table at 0x%" PRIx64, table);
    return;
  }
  /* In use: its bits mean nothing, but its clusters are in use. */
  w->ret->trusted |= !(load (w, entry + 12, 4) & 1);
  if (nr == 0 || !refer (w, table, nr * 8, BITMAPS, "bitmap table"))
    return;
  hash_range (w, table, nr * 8);
  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t off = load (w, table + i * 8, 8) & OFFSET_MASK;

    if (off != 0)
      refer (w, off, w->cluster_size, BITMAPS, "bitmap");
  }
}

static void
walk_bitmaps (struct walk *w, uint64_t ext)
{
  const uint64_t nr = load (w, ext, 4), len = load (w, ext + 8, 8);
  const uint64_t dir = load (w, ext + 16, 8);
  uint64_t at = dir;

  if (len > w->size || !refer (w, dir, len, BITMAPS, "bitmap directory"))
    return;
  hash_range (w, dir, len);
  for (uint64_t i = 0; i < nr && at < dir + len; ++i) {
    walk_bitmap (w, at);
    at += (24 + load (w, at + 18, 2) + load (w, at + 20, 4) + 7) &
      ~UINT64_C (7);
  }
}

static void
walk_extensions (struct walk *w)
{
  const uint64_t autoclear = w->version == 3 ? load (w, 88, 8) : 0;
  uint64_t at = w->version == 3 ? load (w, 100, 4) : 72;

  w->ret->trusted |= (autoclear & ~UINT64_C (3)) != 0;
  while (at + 8 <= w->cluster_size) {
    const uint64_t type = load (w, at, 4), len = load (w, at + 4, 4);

    if (type == 0)
      break;
    if (type == 0x23852875 && (autoclear & 1))
      walk_bitmaps (w, at + 8);
    /* Its contents are ignored, since they never change. */
    if (type == 0x0537be77)
      refer (w, load (w, at + 8, 8), load (w, at + 16, 8), CRYPT,
             "encryption header");
    at += 8 + ((len + 7) & ~UINT64_C (7));
  }
}

/* ---- Refcounts --------------------------------------------------------- */

static void
walk_reftable (struct walk *w)
{
  const uint64_t len = w->reftable_clusters << w->cluster_bits;

  if (w->reftable_off % w->cluster_size != 0 || w->reftable_off == 0 ||
      len == 0) {
    corrupt (w, "refcount table at 0x%" PRIx64, w->reftable_off);
    return;
  }
  if (!refer (w, w->reftable_off, len, REFTABLE, "refcount table"))
    return;
  hash_range (w, w->reftable_off, len);
  for (uint64_t i = 0; i < len; i += 8) {
    const uint64_t entry = load (w, w->reftable_off + i, 8);

    if (entry == 0)
      continue;
    if (entry % w->cluster_size != 0)
      corrupt (w, "refcount block at 0x%" PRIx64, entry);
    else if (refer (w, entry, w->cluster_size, REFBLOCK, "refcount block")) {
      if (w->refs[entry >> w->cluster_bits] > 1)
        corrupt (w, "refcount block 0x%" PRIx64 " is used twice", entry);
      hash_range (w, entry, w->cluster_size);
    }
  }
}

/* Refcounts of clusters past the end of the file, which QEMU does not check.
 */
static void
check_past_end (struct walk *w)
{
  const uint64_t per_block = w->cluster_size * 8 / w->refcount_bits;
  uint64_t end = w->reftable_clusters * w->cluster_size / 8;

  while (end > 0 && load (w, w->reftable_off + (end - 1) * 8, 8) == 0)
    --end;
  for (uint64_t c = w->nr_clusters; c < end * per_block; ++c)
    w->ret->past_end += refcount_of (w, c) != 0;
}

static void
check_refcounts (struct walk *w)
{
  for (uint64_t c = 0; c < w->nr_clusters; ++c) {
    const uint64_t refcount = refcount_of (w, c);

    if (refcount < w->refs[c])
      corrupt (w, "cluster 0x%" PRIx64 " (use %d): refcount %" PRIu64
               ", references %" PRIu32, c << w->cluster_bits, w->use[c],
               refcount, w->refs[c]);
    else if (refcount > w->refs[c] && w->ret->leaks++ == 0)
      snprintf (w->ret->leak_text, sizeof w->ret->leak_text,
                "cluster 0x%" PRIx64 ": refcount %" PRIu64
                ", references %" PRIu32, c << w->cluster_bits, refcount,
                w->refs[c]);
  }
  check_past_end (w);
}

/* A COPIED cluster is written in place, so it must not be shared, even if the
 * image is dirty and its refcounts do not matter.
 */
static void
check_shared (struct walk *w)
{
  for (uint64_t c = 0; c < w->nr_clusters; ++c)
    if (w->copied[c] && w->refs[c] > 1)
      corrupt (w, "cluster 0x%" PRIx64 " is COPIED and has %" PRIu32
               " references", c << w->cluster_bits, w->refs[c]);
}

/* ---- The whole --------------------------------------------------------- */

static bool
read_header (struct walk *w)
{
  w->version = (unsigned) load (w, 4, 4);
  w->cluster_bits = (unsigned) load (w, 20, 4);
  if (load (w, 0, 4) != 0x514649fb || w->version < 2 || w->version > 3 ||
      w->cluster_bits < 9 || w->cluster_bits > 21) {
    corrupt (w, "%s", "no header");
    return false;
  }
  w->cluster_size = UINT64_C (1) << w->cluster_bits;
  w->nr_clusters = (w->size + w->cluster_size - 1) >> w->cluster_bits;
  w->disk_size = load (w, 24, 8);
  w->l1_size = load (w, 36, 4);
  w->l1_off = load (w, 40, 8);
  w->reftable_off = load (w, 48, 8);
  w->reftable_clusters = load (w, 56, 4);
  w->refcount_bits = 16;
  if (w->version == 3) {
    w->incompatible = load (w, 72, 8);
    w->refcount_bits = load (w, 96, 4) <= 6 ? 1u << load (w, 96, 4) : 0;
    w->extended = w->incompatible & 16;
    w->data_file = w->incompatible & 4;
    w->ret->dirty = w->incompatible & 1;
  }
  if (w->refcount_bits == 0 || w->reftable_clusters > w->nr_clusters) {
    corrupt (w, "%s", "the header has impossible values");
    return false;
  }
  if (w->incompatible & 2)
    corrupt (w, "%s", "marked as corrupt");
  return true;
}

void
fsck_image (const unsigned char *bytes, uint64_t size, struct fsck *ret)
{
  fsck_clusters (bytes, size, ret, NULL, 0);
}

void
fsck_clusters (const unsigned char *bytes, uint64_t size, struct fsck *ret,
               unsigned char *risks, uint64_t nr)
{
  struct walk w = { .bytes = bytes, .size = size, .ret = ret };

  memset (ret, 0, sizeof *ret);
  if (!read_header (&w))
    return;
  ret->metadata = size;
  w.refs = calloc (w.nr_clusters, sizeof *w.refs);
  w.use = calloc (w.nr_clusters, 1);
  w.copied = calloc (w.nr_clusters, sizeof *w.copied);
  if (w.refs == NULL || w.use == NULL || w.copied == NULL)
    abort ();
  refer (&w, 0, w.cluster_size, HEADER, "header");
  hash_range (&w, 0, w.cluster_size);
  walk_reftable (&w);
  walk_l1 (&w, w.l1_off, w.l1_size, true);
  walk_snapshots (&w, load (&w, 60, 4), load (&w, 64, 8));
  walk_extensions (&w);
  for (uint64_t c = 0; c < w.nr_clusters && c < nr; ++c)
    risks[c] =
      (refcount_of (&w, c) < w.refs[c] ? FSCK_TOO_LOW : 0) |
      (w.copied[c] && w.refs[c] > 1 ? FSCK_SHARED : 0) |
      (w.copied[c] && refcount_of (&w, c) > 1 ? FSCK_EARLY : 0);
  check_shared (&w);
  if (ret->corruptions == 0 && !ret->dirty)
    check_refcounts (&w);
  free (w.refs);
  free (w.use);
  free (w.copied);
}

bool
fsck_check (const unsigned char *bytes, uint64_t size, bool leaks_allowed)
{
  struct fsck f;
  bool ok;

  fsck_image (bytes, size, &f);
  ok = CHECK_EQ (f.corruptions, 0);
  if (!ok)
    printf ("%s\n", f.text);
  if (!leaks_allowed && !CHECK_EQ (f.leaks, 0)) {
    printf ("%s\n", f.leak_text);
    ok = false;
  }
  return ok;
}
