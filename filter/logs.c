/* SPDX-License-Identifier: BSD-3-Clause */
/* logs.c - what images that are open have to say.
 *
 * Owns      the debug flag for counters, and the last lines of those that
 *           are not said twice.
 * Locks     that of log_once, for a few instructions, guards the latter.
 */
#include "config.h"

#include "logs.h"
#include "report.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "lines.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* -D qcow2.stats=1: count, and log the counters when an image is closed. */
NBDKIT_DLL_PUBLIC int qcow2_debug_stats = 0;

const char *const io_class_names[QCOW2_IO_NR_CLASSES] = {
  [QCOW2_IO_HEADER] = "header",
  [QCOW2_IO_L1] = "l1",
  [QCOW2_IO_L2] = "l2",
  [QCOW2_IO_REFCOUNT] = "refcount",
  [QCOW2_IO_DATA] = "data",
  [QCOW2_IO_COMPRESSED] = "compressed",
};

/* Lines that are not said again as long as no others have come. */
#define REMEMBERED 16

bool
log_counts (void)
{
  return qcow2_debug_stats;
}

static void
log_io_stats (const char *name, const struct qcow2_stats *st, size_t i)
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
log_stats (const char *name, const struct qcow2_image *image, bool writing)
{
  struct qcow2_stats st;

  if (!qcow2_debug_stats || image == NULL)
    return;
  qcow2_get_stats (image, &st);
  for (size_t i = 0; i < QCOW2_IO_NR_CLASSES; ++i)
    log_io_stats (name, &st, i);
  if (writing)
    nbdkit_debug ("qcow2: stats: %s: commits=%" PRIu64 " short=%" PRIu64
                  " flushes=%" PRIu64, name, st.commits, st.short_commits,
                  st.host_flushes);
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

void
log_from_engine (void *opaque, enum qcow2_log_level level, const char *text,
                 enum qcow2_advice advice)
{
  const char *const name = opaque;
  const char *const words = advice_words (advice);
  const char *const semicolon = words[0] ? "; " : "";

  if (level == QCOW2_LOG_WARNING)
    warning (name, "warning: %s%s%s", text, semicolon, words);
  else
    nbdkit_debug ("qcow2: %s%s%s%s%s", name, name[0] ? ": " : "", text,
                  semicolon, words);
}

/* Every probe of a client opens the image. */
void
log_once (const char *name, const char *text)
{
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static char said[REMEMBERED][512];
  static unsigned next;
  char line[sizeof said[0]];
  bool news = true;

  snprintf (line, sizeof line, "%s: %s", name, text);
  pthread_mutex_lock (&lock);
  for (unsigned i = 0; news && i < REMEMBERED; ++i)
    news = strcmp (line, said[i]) != 0;
  if (news) {
    (void) holds (next < REMEMBERED);
    memcpy (said[next], line, sizeof line);
    next = (next + 1) % REMEMBERED;
  }
  pthread_mutex_unlock (&lock);
  if (news)
    warning (name, "%s", text);
}

void
log_read_only (const char *name, const char *why, enum qcow2_advice advice)
{
  const char *const words = advice_words (advice);
  char text[300];

  snprintf (text, sizeof text, "is served read-only: %s%s%s", why,
            words[0] ? "; " : "", words);
  log_once (name, text);
}
