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
choose_options (struct recipe *r, char *options, size_t len, struct rng *rng,
                bool v2, unsigned order)
{
  const bool extended = r->cluster_bits >= 14 && !v2 && one_in (rng, 3);
  const bool lazy = !v2 && one_in (rng, 8);
  const bool prealloc = r->fill_percent == 0 && one_in (rng, 2);
  const bool zstd = !v2 && one_in (rng, 4) && qcow2_has_zstd ();
  int n;

  n = snprintf (options, len,
                "compat=%s,cluster_size=%" PRIu64 "%s%s%s%s",
                v2 ? "0.10" : "1.1", UINT64_C (1) << r->cluster_bits,
                extended ? ",extended_l2=on" : "",
                lazy ? ",lazy_refcounts=on" : "",
                prealloc ? ",preallocation=metadata" : "",
                zstd ? ",compression_type=zstd" : "");
  if (!v2)
    snprintf (options + n, len - (size_t) n, ",refcount_bits=%u",
              1u << order);
  r->options = options;
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
  /* Host clusters with many compressed ones have high refcounts. */
  if (order > (r->compressed ? 3 : 0) && one_in (rng, 3))
    r->snapshots = 1 + (unsigned) (order > 1 ? rng_below (rng, 2) : 0);
  r->vm_state = order > (r->compressed ? 3 : 1) && one_in (rng, 8);
  r->bitmap = !v2 && one_in (rng, 8);
  r->autoclear = !v2 && one_in (rng, 8);
  r->zero_percent = !v2 && one_in (rng, 6) ? 5 : 0;
  choose_options (r, c->options, sizeof c->options, rng, v2, order);
}

/* ---- Several files ----------------------------------------------------- */

static enum qcow2_encryption
choose_encryption (struct rng *rng, unsigned n)
{
  if (!one_in (rng, n))
    return QCOW2_ENCRYPTION_NONE;
  return one_in (rng, 2) ? QCOW2_ENCRYPTION_LUKS : QCOW2_ENCRYPTION_AES;
}

/* A backing file of zero to twice the size of the overlay. */
static void
choose_backing (struct recipe *r, char *options, size_t len, struct rng *rng,
                uint64_t above)
{
  const bool v2 = one_in (rng, 4);

  r->disk_size = rng_below (rng, 2 * above / 512 + 1) * 512;
  r->fill_percent = 30 + (unsigned) rng_below (rng, 71);
  r->cluster_bits = 9 + (unsigned) rng_below (rng, 8);
  r->raw = one_in (rng, 3);
  if (r->raw)
    return;
  r->compressed = one_in (rng, 3) && qcow2_has_zlib ();
  if (!r->compressed && qcow2_has_nettle ())
    r->encryption = choose_encryption (rng, 4);
  r->zero_percent = !v2 && one_in (rng, 4) ? 5 : 0;
  choose_options (r, options, len, rng, v2, v2 ? 4 : 3);
}

static void
choose_chain (struct choice *c, struct rng *rng)
{
  struct recipe *above = &c->w.recipe;

  for (unsigned i = 0; i < CHOICE_LAYERS && !above->raw; ++i) {
    struct recipe *const r = &c->below[i];

    if (i > 0 && one_in (rng, 2))
      return;
    choose_backing (r, c->below_options[i], sizeof c->below_options[i], rng,
                    c->w.recipe.disk_size);
    above->below = r;
    above = r;
  }
}

/* Impossible choices change nothing. */
static void
choose_files (struct choice *c, struct rng *rng)
{
  struct recipe *const r = &c->w.recipe;
  struct recipe before = *r;

  if (qcow2_has_nettle ())
    r->encryption = choose_encryption (rng, 3);
  if (!recipe_is_possible (r))
    *r = before;
  before = *r;
  r->data_file = one_in (rng, 4);
  r->data_raw = r->data_file && one_in (rng, 2);
  r->data_short = one_in (rng, 2);
  if (!recipe_is_possible (r))
    *r = before;
  if (!r->data_raw && one_in (rng, 2))
    choose_chain (c, rng);
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
  if (!h->grows && c->w.recipe.encryption == QCOW2_ENCRYPTION_LUKS)
    h->capacity += UINT64_C (2) << 20;
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
  w->compress = qcow2_has_zlib () &&
    w->recipe.encryption == QCOW2_ENCRYPTION_NONE &&
    !w->recipe.data_file && one_in (rng, 4);
  if (one_in (rng, 6)) {
    w->detect_zeroes = one_in (rng, 2) ? QCOW2_DETECT_ZEROES_ON
      : QCOW2_DETECT_ZEROES_UNMAP;
    w->zeros_percent = 30;
  }
  if (one_in (rng, 3))
    w->refcounts = QCOW2_REFCOUNTS_AHEAD;
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

/* ---- The whole --------------------------------------------------------- */

static void
name_files (struct choice *c)
{
  static const char *const encryptions[] = { "", ",aes", ",luks" };
  const struct recipe *r = &c->w.recipe;
  size_t n = strlen (c->name);

  n += (size_t) snprintf (c->name + n, sizeof c->name - n, "%s%s",
                          encryptions[r->encryption],
                          r->data_raw ? ",data-raw" :
                          r->data_file ? ",data" : "");
  while ((r = r->below) != NULL && n < sizeof c->name)
    n += (size_t) snprintf (c->name + n, sizeof c->name - n,
                            " over %s,size=%" PRIu64 "%s%s",
                            r->raw ? "raw" : r->options, r->disk_size,
                            r->compressed ? ",compressed" : "",
                            encryptions[r->encryption]);
}

void
choose (struct choice *c, struct rng *rng, bool small)
{
  const struct workload *const w = &c->w;

  memset (c, 0, sizeof *c);
  choose_image (c, rng, small);
  if (one_in (rng, 2))
    choose_files (c, rng);
  choose_host (c, rng, small);
  choose_requests (c, rng);
  snprintf (c->name, sizeof c->name, "%s,size=%" PRIu64 ",fill=%u%s,"
            "snapshots=%u%s%s%s%s,%s=%" PRIu64 ",block=%u,cache=%u%s%s%s%s",
            c->options, w->recipe.disk_size, w->recipe.fill_percent,
            w->recipe.compressed ? ",compressed" : "", w->recipe.snapshots,
            w->recipe.vm_state ? ",vm-state" : "",
            w->recipe.bitmap ? ",bitmap" : "",
            w->recipe.autoclear ? ",autoclear" : "",
            w->recipe.no_tail ? ",no-tail" : "",
            w->host.grows ? "grows" : "capacity", w->host.capacity,
            w->host.min_block, (unsigned) w->cache_size,
            w->host.flaky ? ",flaky" : "", w->compress ? ",compress" : "",
            w->detect_zeroes ? ",detect-zeroes" : "",
            w->refcounts == QCOW2_REFCOUNTS_AHEAD ? ",ahead" : "");
  name_files (c);
  c->w.name = c->name;
}
