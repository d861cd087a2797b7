/* SPDX-License-Identifier: BSD-3-Clause */
/* choice.c - see choice.h.
 *
 * Owns      the probabilities.  A combination that qemu-img refuses to make
 *           is a mistake in here.
 */
#include "config.h"

#include "choice.h"

static bool
one_in (struct rng *rng, unsigned n)
{
  return rng_below (rng, n) == 0;
}

static uint64_t
choose_size (struct rng *rng, unsigned cluster_bits, bool small)
{
  const uint64_t cluster = UINT64_C (1) << cluster_bits;
  uint64_t most = cluster_bits > 18 ? 5 : cluster_bits > 14 ? 24 : 150;
  const uint64_t half_mib = (UINT64_C (512) << 10 >> cluster_bits) + 2;
  uint64_t size;

  if (small && most > half_mib)
    most = half_mib;
  size = cluster * rng_below (rng, most);
  size += one_in (rng, 3) ? cluster :
    512 * (1 + rng_below (rng, cluster / 512));
  return size;
}

/* What qemu-img can make. */
static void
choose_options (struct choice *c, struct rng *rng, bool v2, unsigned order)
{
  struct recipe *const r = &c->w.recipe;
  const bool extended = r->cluster_bits >= 14 && !v2 && one_in (rng, 3);
  const bool lazy = !v2 && one_in (rng, 8);
  const bool prealloc = r->fill_percent == 0 && one_in (rng, 2);
  const bool zstd = !v2 && one_in (rng, 4) && qcow2_has_zstd ();
  int n;

  n = snprintf (c->options, sizeof c->options,
                "compat=%s,cluster_size=%" PRIu64 "%s%s%s%s",
                v2 ? "0.10" : "1.1", UINT64_C (1) << r->cluster_bits,
                extended ? ",extended_l2=on" : "",
                lazy ? ",lazy_refcounts=on" : "",
                prealloc ? ",preallocation=metadata" : "",
                zstd ? ",compression_type=zstd" : "");
  if (!v2)
    snprintf (c->options + n, sizeof c->options - (size_t) n,
              ",refcount_bits=%u", 1u << order);
  r->options = c->options;
}

static void
choose_image (struct choice *c, struct rng *rng, bool small)
{
  struct recipe *const r = &c->w.recipe;
  const bool v2 = one_in (rng, 5);
  const unsigned order = v2 ? 4 : (unsigned) rng_below (rng, 7);

  r->cluster_bits = 9 +
    (unsigned) rng_below (rng, small ? 8 : one_in (rng, 6) ? 13 : 9);
  r->disk_size = choose_size (rng, r->cluster_bits, small);
  r->fill_percent = one_in (rng, 3) ? 0 : (unsigned) rng_below (rng, 101);
  r->compressed = r->fill_percent > 0 && one_in (rng, 4) &&
    qcow2_has_zlib ();
  /* Clusters in which many compressed ones lie need room to count. */
  if (order > (r->compressed ? 3 : 0) && one_in (rng, 3))
    r->snapshots = 1 + (unsigned) (order > 1 ? rng_below (rng, 2) : 0);
  r->vm_state = order > (r->compressed ? 3 : 1) && one_in (rng, 8);
  r->bitmap = !v2 && one_in (rng, 8);
  r->autoclear = !v2 && one_in (rng, 8);
  r->zero_percent = !v2 && one_in (rng, 6) ? 5 : 0;
  choose_options (c, rng, v2, order);
}

static void
choose_host (struct choice *c, struct rng *rng, bool small)
{
  static const uint32_t blocks[] = { 1, 1, 512, 4096 };
  static const unsigned room[] = { 1, 6, 14, 40 }; /* tenths of the disk */
  struct host_spec *const h = &c->w.host;

  h->min_block = blocks[rng_below (rng, 4)];
  if (h->min_block > 1u << c->w.recipe.cluster_bits)
    h->min_block = 1;
  h->grows = one_in (rng, 2);
  h->capacity = h->grows ? UINT64_C (128) << 20 :
    c->w.recipe.disk_size * room[rng_below (rng, 4)] / 10 +
    (UINT64_C (4) << (small ? 17 : 20)) / (1 + rng_below (rng, 8));
  if (h->grows && small)
    h->capacity = 4 * c->w.recipe.disk_size + (UINT64_C (4) << 20);
  h->max_block = one_in (rng, 4) ? 65536 : 0;
  h->no_zero = one_in (rng, 5);
  h->no_trim = one_in (rng, 5);
  h->holes = one_in (rng, 3);
  h->trim = one_in (rng, 2) ? HOST_TRIM_ZEROS : HOST_TRIM_GARBAGE;
  if (small && one_in (rng, 6))
    h->flaky = 20;
  c->w.may_fill = !h->grows;
  /* QEMU calls it corrupt, so crash tests could not tell. */
  c->w.recipe.no_tail = h->grows && !small && one_in (rng, 3);
}

static void
choose_requests (struct choice *c, struct rng *rng)
{
  struct workload *const w = &c->w;

  w->discard = one_in (rng, 6) ? QCOW2_DISCARD_IGNORE :
    QCOW2_DISCARD_UNMAP;
  w->cache_size = one_in (rng, 4);
  w->write = 40;
  w->zero = (unsigned) rng_below (rng, 25);
  w->trim = (unsigned) rng_below (rng, 25);
  w->read = 12;
  w->flush = 1 + (unsigned) rng_below (rng, 15);
  w->idle = 1;
  w->fua_percent = 3;
  w->pattern = one_in (rng, 3) ? PATTERN_HOT :
    one_in (rng, 4) ? PATTERN_SEQUENTIAL : PATTERN_RANDOM;
  if (w->recipe.cluster_bits < 12)
    w->max_sectors = 1 + (unsigned) rng_below (rng, 40);
}

void
choose (struct choice *c, struct rng *rng, bool small)
{
  const struct workload *const w = &c->w;

  memset (c, 0, sizeof *c);
  choose_image (c, rng, small);
  choose_host (c, rng, small);
  choose_requests (c, rng);
  snprintf (c->name, sizeof c->name, "%s,size=%" PRIu64 ",fill=%u%s,"
            "snapshots=%u%s%s%s%s,%s=%" PRIu64 ",block=%u,cache=%u%s",
            c->options, w->recipe.disk_size, w->recipe.fill_percent,
            w->recipe.compressed ? ",compressed" : "", w->recipe.snapshots,
            w->recipe.vm_state ? ",vm-state" : "",
            w->recipe.bitmap ? ",bitmap" : "",
            w->recipe.autoclear ? ",autoclear" : "",
            w->recipe.no_tail ? ",no-tail" : "",
            w->host.grows ? "grows" : "capacity", w->host.capacity,
            w->host.min_block, (unsigned) w->cache_size,
            w->host.flaky ? ",flaky" : "");
  c->w.name = c->name;
}
