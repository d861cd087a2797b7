/* SPDX-License-Identifier: BSD-3-Clause */
/* stats.c - what an image has done, to the log.
 *
 * Owns      the form of these lines, which docs/nbdkit-qcow2-filter.pod
 *           tells people about.
 * Locks     none.
 */
#include "config.h"

#include "filter.h"

#include <inttypes.h>

/* -D qcow2.stats=1: count, and log the counters when an image is closed. */
NBDKIT_DLL_PUBLIC int qcow2_debug_stats = 0;

bool
stats_wanted (void)
{
  return qcow2_debug_stats;
}

static void
log_io (const char *name, const struct qcow2_stats *st, size_t i)
{
  if (st->io[i].requests > 0)
    nbdkit_debug ("qcow2: stats: %s: read %s: requests=%" PRIu64
                  " bytes=%" PRIu64, name, io_class_names[i],
                  st->io[i].requests, st->io[i].bytes);
  if (st->io[i].writes > 0)
    nbdkit_debug ("qcow2: stats: %s: write %s: requests=%" PRIu64
                  " bytes=%" PRIu64, name, io_class_names[i],
                  st->io[i].writes, st->io[i].written);
}

void
stats_log (const char *name, const struct qcow2_image *image)
{
  struct qcow2_stats st;

  if (!qcow2_debug_stats)
    return;
  qcow2_get_stats (image, &st);
  for (size_t i = 0; i < QCOW2_IO_NR_CLASSES; ++i)
    log_io (name, &st, i);
  if (qcow2_get_info (image)->writable)
    nbdkit_debug ("qcow2: stats: %s: commits=%" PRIu64 " flushes=%" PRIu64,
                  name, st.commits, st.host_flushes);
  nbdkit_debug ("qcow2: stats: %s: tables: hits=%" PRIu64 " misses=%" PRIu64,
                name, st.table_hits, st.table_misses);
  nbdkit_debug ("qcow2: stats: %s: decompressed: bytes=%" PRIu64
                " hits=%" PRIu64 " misses=%" PRIu64, name,
                st.inflated_bytes, st.cluster_hits, st.cluster_misses);
  nbdkit_debug ("qcow2: stats: %s: read ahead: requests=%" PRIu64
                " bytes=%" PRIu64 " used=%" PRIu64 " latency=%" PRIu32 "us",
                name, st.ahead_requests, st.ahead_bytes,
                st.ahead_used_bytes, st.latency_us);
}
