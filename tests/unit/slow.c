/* SPDX-License-Identifier: BSD-3-Clause */
/* slow.c - images on slow hosts; see slow.h.
 *
 * Owns      the layouts, and comparing the engine with the model of
 *           random_image.
 * Locks     none: sector counts are atomic; all else is constant while the
 *           image is open.
 */
#include "config.h"

#include "slow.h"
#include "threads.h"

#define SECTOR 512

const char *
slow_mode_name (enum slow_mode mode)
{
  static const char *const names[] = {
    "concurrent", "serial", "nothing lent",
  };

  return names[mode];
}

const char *
slow_layout_name (enum slow_layout layout)
{
  static const char *const names[] = {
    "plain", "scattered", "holes", "packed", "packed scattered", "mixed",
  };

  return names[layout];
}

/* ---- Images ------------------------------------------------------------- */

static void
describe (struct random_image *r, uint64_t cluster, enum sector_kind kind,
          uint64_t host_off, uint64_t csize)
{
  const uint64_t n = SLOW_CLUSTER / SECTOR;

  for (uint64_t i = 0; i < n; ++i)
    r->sectors[cluster * n + i] = (struct sector) {
      .kind = kind, .csize = csize,
      .host_off = kind == SECTOR_DATA ? host_off + i * SECTOR : host_off,
    };
}

/* 'random' of 8 parts of the cluster cannot be compressed. */
static void
add_cluster (struct random_image *r, struct rng *rng, uint64_t cluster,
             bool compress, unsigned random)
{
  unsigned char *const bytes = r->disk + cluster * SLOW_CLUSTER;
  uint64_t host_off, csize;

  memset (bytes, (int) cluster, SLOW_CLUSTER);
  rng_fill (rng, bytes, SLOW_CLUSTER / 8 * random);
  if (compress && builder_compressed (&r->b, cluster, bytes, &host_off,
                                      &csize)) {
    describe (r, cluster, SECTOR_COMPRESSED, host_off, csize);
    return;
  }
  describe (r, cluster, SECTOR_DATA,
            builder_data (&r->b, cluster, bytes), 0);
}

static void
lay_out_cluster (struct random_image *r, struct rng *rng, uint64_t cluster,
                 enum slow_layout layout)
{
  switch (layout) {
  case SLOW_PLAIN:
  case SLOW_SCATTERED:
    add_cluster (r, rng, cluster, false, 8);
    return;
  case SLOW_HOLES:
    if (cluster % 16 < 6)
      add_cluster (r, rng, cluster, false, 8);
    else if (cluster % 16 < 11) {
      builder_zero (&r->b, cluster, cluster % 2);
      describe (r, cluster, SECTOR_ZERO, 0, 0);
    }
    return;
  case SLOW_PACKED:
  case SLOW_PACKED_SCATTERED:
    add_cluster (r, rng, cluster, true, 4);
    return;
  case SLOW_MIXED:
    add_cluster (r, rng, cluster, true, cluster % 5 == 3 ? 8 : 5);
    return;
  }
}

static void
shuffle (struct rng *rng, uint64_t *order, uint64_t nr)
{
  for (uint64_t i = nr; i > 1; --i) {
    const uint64_t k = rng_below (rng, i);
    const uint64_t t = order[k];

    order[k] = order[i - 1];
    order[i - 1] = t;
  }
}

static void
watch_sectors (struct slow *s, enum slow_mode mode)
{
  const uint64_t nr = s->r.b.size / SECTOR + 1;

  s->sector_reads = calloc (nr, sizeof *s->sector_reads);
  s->sector_faults = calloc (nr, sizeof *s->sector_faults);
  REQUIRE (s->sector_reads && s->sector_faults);
  slow_set_mode (s, mode);
}

void
slow_set_mode (struct slow *s, enum slow_mode mode)
{
  REQUIRE (s->image == NULL);
  s->mode = mode;
  slow_way_init (s, &s->m);
  slow_forget (s);
}

void
slow_init_layout (struct slow *s, enum slow_layout layout,
                  enum slow_mode mode, uint64_t nr_clusters)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4,
    .virtual_size = nr_clusters * SLOW_CLUSTER,
  };
  uint64_t *const order = calloc (nr_clusters, sizeof *order);
  struct rng rng = { nr_clusters };

  memset (s, 0, sizeof *s);
  builder_init (&s->r.b, &spec);
  s->r.len = spec.virtual_size;
  s->r.disk = calloc (1, s->r.len);
  s->r.sectors = calloc (s->r.len / SECTOR, sizeof *s->r.sectors);
  REQUIRE (order && s->r.disk && s->r.sectors);
  for (uint64_t i = 0; i < nr_clusters; ++i)
    order[i] = i;
  if (layout == SLOW_SCATTERED || layout == SLOW_PACKED_SCATTERED)
    shuffle (&rng, order, nr_clusters);
  for (uint64_t i = 0; i < nr_clusters; ++i)
    lay_out_cluster (&s->r, &rng, order[i], layout);
  free (order);
  builder_finish (&s->r.b);
  watch_sectors (s, mode);
}

void
slow_init_random (struct slow *s, struct rng *rng, enum slow_mode mode,
                  uint64_t max_len)
{
  const struct image_spec spec = random_spec (rng);

  memset (s, 0, sizeof *s);
  random_image_init (&s->r, rng, &spec, max_len);
  watch_sectors (s, mode);
}

void
slow_free (struct slow *s)
{
  if (s->image)
    slow_close (s);
  random_image_free (&s->r);
  free (s->sector_reads);
  free (s->sector_faults);
}

/* ---- Ways --------------------------------------------------------------- */

void
slow_way_init (struct slow *s, struct memory_io *m)
{
  memory_io_init (m, s->r.b.bytes, s->r.b.size);
  m->delay_us = SLOW_DELAY_US;
  m->in_turn = true;
  m->sector_reads = s->sector_reads;
  m->sector_faults = s->sector_faults;
  m->io.concurrent = s->mode == SLOW_CONCURRENT;
  if (s->mode != SLOW_NOTHING_LENT)
    memory_io_lend (m, s->mode == SLOW_SERIAL ? 3 : 0);
}

void
slow_way_end (struct memory_io *m)
{
  WAIT_UNTIL (m->borrowed == 0);
}

void
slow_open (struct slow *s, uint64_t readahead)
{
  const struct qcow2_options options = {
    .cluster_cache_size = 1 << 20, .readahead = readahead, .count = true,
  };
  struct qcow2_error err = { .text = "" };
  struct qcow2_stats stats;

  s->image = qcow2_open (&s->m.io, &options, &err);
  if (s->image == NULL)
    fprintf (stderr, "%s\n", err.text);
  REQUIRE (s->image != NULL);
  qcow2_get_stats (s->image, &stats);
  CHECK (stats.latency_us >= 250); /* else this tests nothing */
}

void
slow_close (struct slow *s)
{
  qcow2_close (s->image);
  s->image = NULL;
  CHECK_EQ (s->m.borrowed, 0);
}

void
slow_settle (struct slow *s)
{
  slow_way_end (&s->m);
}

void
slow_forget (struct slow *s)
{
  slow_settle (s);
  memory_io_reset (&s->m);
  for (uint64_t i = 0; i <= s->r.b.size / SECTOR; ++i)
    s->sector_reads[i] = s->sector_faults[i] = 0;
}

/* ---- Requests ----------------------------------------------------------- */

int
slow_read (struct slow *s, struct memory_io *m, uint64_t at, uint64_t len)
{
  unsigned char *const buf = malloc (len + 1);
  struct qcow2_error err;
  int ret = 0;

  REQUIRE (buf != NULL);
  memset (buf, 0x77, len + 1);
  if (qcow2_pread (s->image, &m->io, buf, (uint32_t) len, s->r.base + at,
                   &err) == 0) {
    if (!CHECK_BYTES (buf, s->r.disk + at, len))
      fprintf (stderr, "%" PRIu64 " bytes at 0x%" PRIx64 "\n", len, at);
  }
  else {
    CHECK_EQ (err.kind, QCOW2_ERR_IO);
    CHECK (err.errnum > 0);
    ret = err.errnum;
  }
  CHECK_EQ (buf[len], 0x77);
  free (buf);
  return ret;
}

void
slow_copy (struct slow *s, struct memory_io *m, uint64_t step)
{
  for (uint64_t at = 0; at < s->r.len; at += step)
    CHECK_EQ (slow_read (s, m, at, s->r.len - at < step ? s->r.len - at
                         : step), 0);
}

struct walk {
  const struct random_image *r;
  uint64_t next, end;
};

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct walk *const w = opaque;
  const struct random_image *const r = w->r;

  CHECK_EQ (guest_off, w->next);
  CHECK (len > 0 && len <= w->end - guest_off);
  w->next = guest_off + len;
  while (len > 0) {
    const uint64_t at = guest_off - r->base;
    const uint64_t n = len < SECTOR - at % SECTOR ? len
      : SECTOR - at % SECTOR;
    const enum sector_kind kind = r->sectors[at / SECTOR].kind;
    const bool data = kind == SECTOR_DATA || kind == SECTOR_COMPRESSED;

    if (!CHECK (type == QCOW2_EXTENT_ZERO ? !data
                : type == QCOW2_EXTENT_DATA ? data : kind == SECTOR_DATA))
      return 0;
    if (type == QCOW2_EXTENT_ZERO_ALLOCATED)
      for (uint64_t i = at; i < at + n; ++i)
        if (!CHECK_EQ (r->disk[i], 0))
          return 0;
    guest_off += n;
    len -= n;
  }
  return 0;
}

int
slow_extents (struct slow *s, struct memory_io *m, uint64_t at, uint64_t len,
              uint64_t *ret_end)
{
  struct walk w = { &s->r, s->r.base + at, s->r.base + at + len };
  struct qcow2_error err;
  const int r = qcow2_extents (s->image, &m->io, len, s->r.base + at,
                               see_extent, &w, &err);

  *ret_end = w.next - s->r.base;
  if (r == 0) {
    CHECK (w.next > s->r.base + at);
    return 0;
  }
  CHECK_EQ (w.next, s->r.base + at);
  CHECK_EQ (err.kind, QCOW2_ERR_IO);
  return err.errnum;
}

/* ---- What a range needs ------------------------------------------------- */

static void
call_range (uint64_t host_off, uint64_t len, slow_sector_fn fn, void *arg)
{
  for (uint64_t i = host_off / SECTOR; i <= (host_off + len - 1) / SECTOR;
       ++i)
    fn (arg, i);
}

void
slow_needed (const struct slow *s, uint64_t at, uint64_t len,
             slow_sector_fn fn, void *arg)
{
  const struct random_image *const r = &s->r;
  const uint64_t end = at + len;

  for (uint64_t i = at / SECTOR; i * SECTOR < end; ++i) {
    const struct sector *const sector = &r->sectors[i];
    const uint64_t entry =
      builder_entry_off (&r->b, (r->base + i * SECTOR) / r->b.cluster_size);

    if (entry)
      call_range (entry, r->b.l2_entry_size, fn, arg);
    if (sector->kind == SECTOR_DATA)
      call_range (sector->host_off, SECTOR, fn, arg);
    else if (sector->kind == SECTOR_COMPRESSED)
      call_range (sector->host_off, sector->csize, fn, arg);
  }
}
