/* SPDX-License-Identifier: BSD-3-Clause */
/* embed.c - what host/ is told by this filter.
 *
 * Owns      the one struct host_env.
 * Method    lines go to nbdkit's log, other exports are those of the plugin,
 *           and the rest is what the parameters say.
 * Locks     none: constant once the parameters have been read.
 */
#include "config.h"

#include "embed.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/bounce.h"
#include "host/env.h"
#include "exports.h"
#include "lines.h"
#include "logs.h"
#include "options.h"
#include "places.h"
#include "settings.h"
#include "below/exportfile.h"

#include <stdio.h>

/* -D qcow2.bounce=1: use bounce buffers without measuring; 2: for all reads of
 * any plugin; 3: never.
 */
NBDKIT_DLL_PUBLIC int qcow2_debug_bounce = 0;

/* Of qcow2-memory: the rest is for images. */
#define BOUNCE_SHARE 8

static void __attribute__ ((__format__ (__printf__, 4, 0)))
log_for_host (const struct host_env *env, enum host_log_level level,
              const char *name, const char *format, va_list args)
{
  const bool quietly = report_is_quiet ();
  char text[1500] = "";

  switch (level) {
  case HOST_LOG_WARNING:
    log_warning_args (0, name, format, args);
    return;
  case HOST_LOG_BUG:
    /* A bug is of interest whoever looks. */
    report_quietly (false);
    log_warning_args (0, name, format, args);
    report_quietly (quietly);
    return;
  case HOST_LOG_DEBUG:
  case HOST_LOG_ONCE:
    vsnprintf (text, sizeof text, format, args);
    if (level == HOST_LOG_ONCE)
      log_once (name, text);
    else
      nbdkit_debug ("qcow2: %s: %s", name, text);
    return;
  }
}

static struct qcow2_options
options_for_host (const struct host_env *env, const char *name)
{
  return image_options (name);
}

static void
closing (const struct host_env *env, const char *name,
         const struct qcow2_image *image)
{
  log_stats (name, image, false);
}

static const struct host_words words = {
  .program = "filter", .process = "this server", .sep = "=",
  .backing = "qcow2-backing", .backing_format = "qcow2-backing-format",
  .data_file = "qcow2-data-file", .follow = "qcow2-follow",
  .passphrase = "qcow2-passphrase", .chain_depth = "qcow2-chain-depth",
  .read_only = "serve the image with -r",
  .unlocked = "give qcow2-lock=off if you are sure that none will",
  .reading_busy = "-r with qcow2-lock=off serves it all the same, but what "
    "clients read then may be inconsistent",
  .writing_busy = "use -r to serve it read-only",
};

struct host_env filter_env = {
  .words = &words, .rules = &places, .log = log_for_host,
  .options = options_for_host,
  .closing = closing, .find_export = exportfile_find,
  .open_export = exportfile_open,
};

static enum bounce_mode
bounce_mode (void)
{
  switch (qcow2_debug_bounce) {
  case 1:
    return BOUNCE_LOCAL;
  case 2:
    return BOUNCE_ALL;
  case 3:
    return BOUNCE_NEVER;
  default:
    return BOUNCE_AUTO;
  }
}

void
embed_complete (void)
{
  filter_env.lock = config.lock;
  filter_env.chain_depth = config.chain_depth;
  filter_env.one_image = config.names == NAMES_IGNORED;
  bounce_setup (bounce_mode (), &filter_env, config.budget,
                 config.memory / BOUNCE_SHARE);
}
