/* SPDX-License-Identifier: BSD-3-Clause */
/* settings.c - what the parameters have set.
 *
 * Owns      the global 'config', with its defaults.
 * Method    parameters.c fills it in; everybody else reads it.
 * Locks     none: constant once the server is ready.
 */
#include "config.h"

#include "settings.h"

#include "nbdkit_api.h"
#include "qcow2.h"

struct config config = {
  .cluster_cache_size = 8 * 1024 * 1024,
  .readahead = 16 * 1024 * 1024,
  .discard = QCOW2_DISCARD_UNMAP, .discard_snapshots = true,
  .clean_interval = 600,
  .overlap_check = QCOW2_OVERLAP_CACHED,
  .bitmaps = QCOW2_BITMAPS_DURABLE,
  .grow = true,
  .lock = true,
  .check_at_start = true,
  .thread_model = NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS,
};
