/* SPDX-License-Identifier: BSD-3-Clause */
/* variants.c - see variants.h.
 *
 * Owns      the table.  Backing files end in the middle of a cluster of the
 *           overlay, before its end or past it.
 */
#include "config.h"

#include "variants.h"

#include "tag.h"

#define KiB (UINT64_C (1) << 10)

/* Of aes-256-xts, as QEMU makes it. */
#define LUKS_HEADER UINT64_C (2068480)

static uint64_t
shorter (uint64_t size)
{
  return (size / SECTOR * 5 / 8 | 1) * SECTOR;
}

static uint64_t
longer (uint64_t size)
{
  return size + 40 * KiB + SECTOR;
}

/* ---- Backing files ----------------------------------------------------- */

static void
over (struct variant *v, unsigned nr)
{
  v->w.recipe.below = &v->below[0];
  for (unsigned i = 1; i < nr; ++i)
    v->below[i - 1].below = &v->below[i];
}

static struct recipe
raw_file (uint64_t size)
{
  return (struct recipe) {
    .raw = true, .cluster_bits = 12, .disk_size = size, .fill_percent = 70,
  };
}

static void
over_raw (struct variant *v)
{
  v->below[0] = raw_file (shorter (v->w.recipe.disk_size));
  over (v, 1);
}

static void
over_long_raw (struct variant *v)
{
  v->below[0] = raw_file (longer (v->w.recipe.disk_size));
  over (v, 1);
}

static void
over_image (struct variant *v)
{
  v->below[0] = (struct recipe) {
    .options = "cluster_size=2k", .cluster_bits = 11,
    .disk_size = longer (v->w.recipe.disk_size), .fill_percent = 60,
    .zero_percent = 5,
  };
  over (v, 1);
}

static void
over_extended (struct variant *v)
{
  v->below[0] = (struct recipe) {
    .options = "cluster_size=16k,extended_l2=on", .cluster_bits = 14,
    .disk_size = shorter (v->w.recipe.disk_size), .fill_percent = 80,
  };
  over (v, 1);
}

static void
over_compressed (struct variant *v)
{
  v->below[0] = (struct recipe) {
    .options = "cluster_size=64k", .cluster_bits = 16,
    .disk_size = shorter (v->w.recipe.disk_size), .fill_percent = 80,
    .compressed = true,
  };
  over (v, 1);
}

static void
over_chain (struct variant *v)
{
  v->below[0] = (struct recipe) {
    .options = "cluster_size=512", .cluster_bits = 9,
    .disk_size = longer (v->w.recipe.disk_size), .fill_percent = 30,
    .zero_percent = 3,
  };
  v->below[1] = (struct recipe) {
    .options = "compat=0.10,cluster_size=64k", .cluster_bits = 16,
    .disk_size = shorter (v->w.recipe.disk_size), .fill_percent = 50,
    .compressed = true,
  };
  v->below[2] = raw_file (longer (v->w.recipe.disk_size));
  over (v, 3);
}

/* ---- Encryption -------------------------------------------------------- */

static void
aes (struct variant *v)
{
  v->w.recipe.encryption = QCOW2_ENCRYPTION_AES;
}

static void
luks (struct variant *v)
{
  v->w.recipe.encryption = QCOW2_ENCRYPTION_LUKS;
  v->w.host.capacity += LUKS_HEADER;
}

static void
aes_over_image (struct variant *v)
{
  aes (v);
  over_image (v);
  v->below[0].zero_percent = 0;
  v->below[0].encryption = QCOW2_ENCRYPTION_AES;
}

/* ---- A data file ------------------------------------------------------- */

static void
data (struct variant *v)
{
  v->w.recipe.data_file = true;
  v->w.recipe.data_short = true;
}

static void
data_raw (struct variant *v)
{
  data (v);
  v->w.recipe.data_raw = true;
}

static void
data_over_raw (struct variant *v)
{
  data (v);
  over_raw (v);
}

static void
data_aes (struct variant *v)
{
  data (v);
  aes (v);
}

/* ---- The table --------------------------------------------------------- */

const char *const variant_names[] = {
  "raw", "data-raw", "image", "aes", "data", "chain", "long-raw",
  "data-aes", "extended", "data-over-raw", "compressed", "aes-over-image",
  "luks",
};

static void (*const variants[]) (struct variant *v) = {
  over_raw, data_raw, over_image, aes, data, over_chain, over_long_raw,
  data_aes, over_extended, data_over_raw, over_compressed, aes_over_image,
  luks,
};

const size_t nr_variants = sizeof variants / sizeof variants[0];

bool
variant_make (struct variant *v, const struct workload *w, size_t which)
{
  memset (v, 0, sizeof *v);
  v->w = *w;
  variants[which] (v);
  snprintf (v->name, sizeof v->name, "%s+%s", w->name, variant_names[which]);
  v->w.name = v->name;
  return recipe_is_possible (&v->w.recipe) &&
    ((!v->w.compress && v->w.pack_percent == 0) ||
     (v->w.recipe.encryption == QCOW2_ENCRYPTION_NONE &&
      !v->w.recipe.data_file));
}
