/* SPDX-License-Identifier: BSD-3-Clause */
/* options.c - what all images are opened with.
 *
 * Owns      nothing: the budget is config's, the keyring that of places.
 * Locks     none.
 */
#include "config.h"

#include "options.h"

#include "qcow2.h"
#include "logs.h"
#include "places.h"
#include "settings.h"

struct qcow2_options
image_options (const char *name)
{
  return (struct qcow2_options) {
    .cache_size = config.cache_size,
    .cluster_cache_size = config.cluster_cache_size,
    .readahead = config.readahead,
    .count = log_counts () || config.control,
    .discard = config.discard,
    .keep_snapshot_space = !config.discard_snapshots,
    .overlap_check = config.overlap_check,
    .lazy_refcounts = config.lazy_refcounts,
    .refcounts = config.refcounts,
    .compress = config.compress, .compress_level = config.compress_level,
    .detect_zeroes = config.detect_zeroes,
    .bitmaps = config.bitmaps,
    .log = log_from_engine, .log_opaque = (char *) name,
    .keyring = places.keyring, .budget = config.budget,
    .memory_remedy = "a larger qcow2-cache-size allows it more",
  };
}
