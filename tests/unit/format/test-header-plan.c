/* SPDX-License-Identifier: BSD-3-Clause */
/* test-header-plan.c - a crash while the header changes leaves the old one or
 * the new one.
 *
 * The test makes headers of all kinds with its own writer, changes them at
 * random, and carries out the plan: before each flush, every subset of the
 * sectors of the step (every prefix and many subsets, if there are too many)
 * has reached the disk.  Its own reader must find the old or the new header
 * there.
 */
#include "config.h"

#include "format/ext.h"
#include "format/header_plan.h"

#include "unit.h"

#define MAX_AREA (UINT32_C (1) << 21)
#define SECTOR 512u

/* ---- What a header says, by a reader of its own ------------------------- */

struct meaning {
  unsigned char bytes[16384];
  size_t len;
};

static void
say (struct meaning *m, const void *bytes, size_t len)
{
  REQUIRE (len <= sizeof m->bytes - m->len);
  memcpy (m->bytes + m->len, bytes, len);
  m->len += len;
}

static uint64_t
get (const unsigned char *p, unsigned len)
{
  uint64_t v = 0;

  for (unsigned i = 0; i < len; ++i)
    v = v << 8 | p[i];
  return v;
}

/* Extensions of one type, in their order. */
static bool
say_exts (struct meaning *m, const unsigned char *p, size_t off, size_t end,
          bool unknown, uint32_t want)
{
  while (end - off >= 8) {
    const uint32_t type = (uint32_t) get (p + off, 4);
    const uint32_t len = (uint32_t) get (p + off + 4, 4);
    const bool known = type == 0xe2792aca || type == 0x6803f857 ||
      type == 0x23852875 || type == 0x0537be77 || type == 0x44415441;

    if (type == 0)
      return true;
    if (len > end - off - 8)
      return false;
    if (type != 0x4a4d5051 && (unknown ? !known : type == want))
      say (m, p + off, 8 + (size_t) len);
    off += 8 + ((size_t) len + 7) / 8 * 8;
    if (off > end)
      return true;
  }
  return true;
}

/* False if it is no header. */
static bool
understand (struct meaning *m, const unsigned char *p, size_t cluster_size)
{
  static const uint32_t types[] = {
    0xe2792aca, 0x6803f857, 0x23852875, 0x0537be77, 0x44415441,
  };
  const unsigned version = (unsigned) get (p + 4, 4);
  const size_t length = version == 2 ? 72 : get (p + 100, 4);
  const uint64_t name_off = get (p + 8, 8);
  const size_t name_len = name_off ? get (p + 16, 4) : 0;
  const size_t end = name_off ? name_off : cluster_size;

  m->len = 0;
  if (get (p, 4) != 0x514649fb || version < 2 || version > 3 ||
      length > cluster_size || name_off > cluster_size ||
      name_len > cluster_size - name_off)
    return false;
  say (m, p + 4, 4);
  say (m, p + 20, length - 20);
  say (m, p + name_off, name_len);
  for (size_t i = 0; i < sizeof types / sizeof types[0]; ++i) {
    if (length < end && !say_exts (m, p, length, end, false, types[i]))
      return false;
  }
  return length >= end || say_exts (m, p, length, end, true, 0);
}

static bool
same (const struct meaning *a, const struct meaning *b)
{
  return a->len == b->len && memcmp (a->bytes, b->bytes, a->len) == 0;
}

/* ---- Making headers ----------------------------------------------------- */

struct maker {
  unsigned char *p;
  size_t off, cluster_size;
};

static bool
add_ext (struct maker *m, uint32_t type, const void *data, size_t len)
{
  const size_t padded = (len + 7) / 8 * 8;

  if (padded + 16 > m->cluster_size - m->off)
    return false;
  put_be (m->p + m->off, 4, type);
  put_be (m->p + m->off + 4, 4, len);
  memcpy (m->p + m->off + 8, data, len);
  memset (m->p + m->off + 8 + len, 0, padded - len);
  m->off += 8 + padded;
  return true;
}

static void
random_exts (struct maker *m, struct rng *rng, bool bitmaps)
{
  unsigned char data[2000], bitmap[24] = { 0 };

  rng_fill (rng, data, sizeof data);
  if (rng_below (rng, 2))
    add_ext (m, Q2_EXT_TYPE_BACKING_FORMAT, "qcow2", 5);
  if (rng_below (rng, 4) == 0)
    add_ext (m, 0x12345678, data, rng_below (rng, 50));
  if (rng_below (rng, 2))
    add_ext (m, Q2_EXT_TYPE_FEATURE_NAMES, data, 48 * rng_below (rng, 10));
  if (rng_below (rng, 8) == 0)
    add_ext (m, 0x11223344, data, rng_below (rng, sizeof data));
  if (bitmaps) {
    put_be (bitmap, 4, 1 + rng_below (rng, 100));
    put_be (bitmap + 8, 8, rng_below (rng, 1000));
    put_be (bitmap + 16, 8, m->cluster_size * 8);
    if (!add_ext (m, Q2_EXT_TYPE_BITMAPS, bitmap, sizeof bitmap))
      put_be (m->p + 88, 8, 0);
  }
}

static void
random_name (struct maker *m, struct rng *rng)
{
  size_t len = 1 + rng_below (rng, rng_below (rng, 2) ? 1023 : 60);
  size_t off = m->off;

  if (rng_below (rng, 3) == 0 || m->cluster_size - m->off <= len)
    return;
  if (rng_below (rng, 3) == 0)
    off = m->cluster_size - len;
  rng_fill (rng, m->p + off, len);
  put_be (m->p + 8, 8, off);
  put_be (m->p + 16, 4, len);
}

/* A valid header; what is not in use is noise.  Returns the cluster's bits. */
static unsigned
random_header (unsigned char *p, struct rng *rng)
{
  static const unsigned lengths[] = {
    104, 105, 112, 112, 112, 112, 120, 200, 496, 504, 505, 600,
  };
  const unsigned bits = 9 + (unsigned) rng_below (rng, rng_below (rng, 4) ?
                                                  5 : 13);
  struct maker m = { p, 72, (size_t) 1 << bits };
  const bool v3 = rng_below (rng, 4) != 0, bitmaps = v3 && rng_below (rng, 2);

  rng_fill (rng, p, m.cluster_size < 65536 ? m.cluster_size : 65536);
  memset (p, 0, 112);
  put_be (p, 4, 0x514649fb);
  put_be (p + 4, 4, v3 ? 3 : 2);
  put_be (p + 20, 4, bits);
  put_be (p + 24, 8, 1 << 20);
  put_be (p + 36, 4, 65536);
  put_be (p + 40, 8, m.cluster_size * 3);
  put_be (p + 48, 8, m.cluster_size);
  put_be (p + 56, 4, 1);
  if (v3) {
    do
      m.off = lengths[rng_below (rng, sizeof lengths / sizeof lengths[0])];
    while (m.off > m.cluster_size - 8);
    put_be (p + 88, 8, bitmaps);
    put_be (p + 96, 4, 4);
    put_be (p + 100, 4, m.off);
    p[104] = m.off > 104 ? 0 : p[104];
  }
  random_exts (&m, rng, bitmaps);
  put_be (p + m.off, 8, 0);
  m.off += 8;
  random_name (&m, rng);
  return bits;
}

static void
random_change (struct q2_header_parts *parts, struct rng *rng)
{
  const uint64_t cluster_size = UINT64_C (1) << parts->fields.cluster_bits;
  unsigned char name[1023];
  struct qcow2_error err;
  int r = 0;

  rng_fill (rng, name, sizeof name);
  if (rng_below (rng, 2))
    parts->fields.nr_snapshots = (uint32_t) rng_below (rng, 100);
  if (rng_below (rng, 3) == 0)
    parts->fields.l1_offset = cluster_size * (4 + rng_below (rng, 100));
  if (rng_below (rng, 3) == 0)
    r |= q2_header_set_backing_file (parts, name, rng_below (rng, 1023),
                                     &err);
  if (rng_below (rng, 3) == 0)
    r |= q2_header_set_ext (parts, Q2_EXT_BACKING_FORMAT, name,
                            rng_below (rng, 16), &err);
  if (rng_below (rng, 4) == 0)
    r |= q2_header_set_ext (parts, Q2_EXT_FEATURE_NAMES, name,
                            48 * rng_below (rng, 10), &err);
  if (rng_below (rng, 2) && parts->fields.version == 3)
    r |= q2_header_set_bitmaps (parts, (uint32_t) rng_below (rng, 3),
                                cluster_size * 7, 99, &err);
  if (rng_below (rng, 4) == 0 && parts->fields.version == 2) {
    parts->fields.version = 3;
    parts->fields.header_length = 112;
  }
  if (rng_below (rng, 4) == 0 && parts->fields.version == 3)
    parts->fields.incompatible ^= Q2_INCOMPAT_DIRTY;
  CHECK (r == 0);
}

/* ---- Carrying it out ---------------------------------------------------- */

struct disk {
  unsigned char *bytes, *torn;
  size_t cluster_size;
  struct meaning before, after, now;
  unsigned long states;
};

static void
look (struct disk *d, const struct q2_header_write *w, uint64_t subset)
{
  struct q2_header h;
  struct q2_geometry geo;
  struct qcow2_error err;

  memcpy (d->torn + w->off, d->bytes + w->off, w->len);
  for (uint32_t s = 0; s < w->len / SECTOR; ++s) {
    if (s < 64 ? subset >> s & 1 : subset & 1)
      memcpy (d->torn + w->off + s * SECTOR, w->bytes + s * SECTOR, SECTOR);
  }
  ++d->states;
  CHECK (understand (&d->now, d->torn, d->cluster_size) &&
         (same (&d->now, &d->before) || same (&d->now, &d->after)));
  CHECK (q2_header_decode (d->torn, d->cluster_size, &h, &geo, &err) == 0);
}

static void
tear (struct disk *d, const struct q2_header_write *w, struct rng *rng)
{
  const uint32_t nr = w->len / SECTOR;

  if (nr <= 8) {
    for (uint64_t subset = 0; subset < UINT64_C (1) << nr; ++subset)
      look (d, w, subset);
    return;
  }
  for (uint32_t s = 0; s < 64 && s < nr; ++s)
    look (d, w, (UINT64_C (1) << s) - 1);
  for (unsigned i = 0; i < 64; ++i)
    look (d, w, rng_next (rng));
}

static void
carry_out (struct disk *d, const struct q2_header_plan *plan,
           struct rng *rng)
{
  memcpy (d->torn, d->bytes, d->cluster_size);
  for (size_t i = 0; i < plan->nr_writes; ++i) {
    const struct q2_header_write *const w = &plan->writes[i];

    CHECK (w->len > 0 && w->off % SECTOR == 0 && w->len % SECTOR == 0);
    REQUIRE (w->off + w->len <= d->cluster_size);
    if (plan->atomic)
      tear (d, w, rng);
    memcpy (d->bytes + w->off, w->bytes, w->len);
    memcpy (d->torn + w->off, w->bytes, w->len);
  }
  REQUIRE (understand (&d->now, d->bytes, d->cluster_size));
  CHECK (same (&d->now, &d->after));
  CHECK_BYTES (d->bytes, plan->after, plan->len);
}

struct totals {
  unsigned long plans[Q2_HEADER_MAX_WRITES + 1], torn, too_large, states;
};

/* Where a header of the usual length fits twice there is always a way, and
 * where one sector decides there is one, too.
 */
static void
check_excuse (const struct q2_header_plan *plan, const struct disk *d,
              const struct q2_header_parts *parts)
{
  uint64_t bytes = 0;

  for (size_t i = 0; i < plan->nr_writes; ++i)
    bytes += plan->writes[i].len;
  CHECK (parts->fields.header_length > 480 || d->cluster_size < 8192);
  CHECK (bytes >= 2 * SECTOR);
}

static void
one_change (struct disk *d, struct rng *rng, struct totals *t)
{
  struct q2_header_parts parts;
  struct q2_header_plan plan;
  struct qcow2_error err;
  unsigned char *expected;
  uint64_t len;

  if (q2_header_parts_load (&parts, d->bytes, d->cluster_size, &err) == -1) {
    CHECK (!"loaded");
    printf ("%s\n", err.text);
    return;
  }
  REQUIRE (understand (&d->before, d->bytes, d->cluster_size));
  random_change (&parts, rng);
  len = q2_header_encoded_len (&parts, 0);
  if (q2_header_plan (&plan, d->bytes, d->cluster_size, &parts, &err) == -1) {
    CHECK_ERROR (&err, QCOW2_ERR_NO_SPACE, 0);
    CHECK (len > d->cluster_size);
    ++t->too_large;
    q2_header_parts_free (&parts);
    return;
  }
  expected = calloc (1, d->cluster_size);
  REQUIRE (expected && len <= d->cluster_size);
  q2_header_encode (&parts, 0, expected);
  REQUIRE (understand (&d->after, expected, d->cluster_size));
  free (expected);
  if (plan.atomic)
    ++t->plans[plan.nr_writes];
  else {
    ++t->torn;
    check_excuse (&plan, d, &parts);
  }
  carry_out (d, &plan, rng);
  q2_header_plan_free (&plan);
  q2_header_parts_free (&parts);
}

static void
random_changes (void)
{
  static struct disk d;
  struct totals t = { { 0 }, 0, 0, 0 };
  const unsigned nr = unit_scaled (3000);

  d.bytes = malloc (MAX_AREA);
  d.torn = malloc (MAX_AREA);
  REQUIRE (d.bytes && d.torn);
  for (unsigned seed = 0; seed < nr; ++seed) {
    struct rng rng = { seed };

    unit_context ("seed %u", seed);
    d.cluster_size = (size_t) 1 << random_header (d.bytes, &rng);
    for (unsigned i = 0; i < 4; ++i)
      one_change (&d, &rng, &t);
  }
  unit_context ("%s", "");
  printf ("%lu states; plans of 0 to 4 writes: %lu %lu %lu %lu %lu; "
          "impossible: %lu; too large: %lu\n", d.states, t.plans[0],
          t.plans[1], t.plans[2], t.plans[3], t.plans[4], t.torn,
          t.too_large);
  CHECK (t.plans[1] > 0 && t.plans[2] > 0 && t.plans[4] > 0 && t.torn > 0 &&
         t.too_large > 0);
  free (d.bytes);
  free (d.torn);
}

/* ---- Single facts ------------------------------------------------------- */

/* QEMU puts the bitmaps behind the feature names, into the second sector.
 * The first change brings them into the first, and the next is one write.
 */
static void
bitmaps_move_into_the_first_sector (void)
{
  static unsigned char p[65536];
  unsigned char names[8 * 48];
  struct maker m = { p, 112, sizeof p };
  struct q2_header_parts parts;
  struct q2_header_plan plan;
  struct qcow2_error err;

  memset (names, 'n', sizeof names);
  memset (p, 0, sizeof p);
  put_be (p, 4, 0x514649fb);
  put_be (p + 4, 4, 3);
  put_be (p + 20, 4, 16);
  put_be (p + 48, 8, 65536);
  put_be (p + 56, 4, 1);
  put_be (p + 96, 4, 4);
  put_be (p + 100, 4, 112);
  REQUIRE (add_ext (&m, Q2_EXT_TYPE_FEATURE_NAMES, names, sizeof names));
  REQUIRE (q2_header_parts_load (&parts, p, sizeof p, &err) == 0);
  for (unsigned i = 1; i <= 2; ++i) {
    REQUIRE (q2_header_set_bitmaps (&parts, i, 65536 * 9, 40 * i, &err)
             == 0);
    REQUIRE (q2_header_plan (&plan, p, sizeof p, &parts, &err) == 0);
    CHECK (plan.atomic);
    CHECK_EQ (plan.nr_writes, i == 1 ? 2 : 1);
    for (size_t w = 0; w < plan.nr_writes; ++w)
      memcpy (p + plan.writes[w].off, plan.writes[w].bytes,
              plan.writes[w].len);
    CHECK_EQ (get (p + 112, 4), Q2_EXT_TYPE_BITMAPS);
    q2_header_plan_free (&plan);
  }
  q2_header_parts_free (&parts);
}

static void
version_1_is_refused (void)
{
  unsigned char p[512] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 1 };
  struct q2_header_parts parts;
  struct qcow2_error err;

  put_be (p + 24, 8, 1 << 20);
  p[32] = 12;
  p[33] = 9;
  put_be (p + 40, 8, 48);
  CHECK (q2_header_parts_load (&parts, p, sizeof p, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_UNSUPPORTED, 4);
}

int
main (void)
{
  version_1_is_refused ();
  bitmaps_move_into_the_first_sector ();
  random_changes ();
  return unit_finish ();
}
