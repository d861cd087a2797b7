/* SPDX-License-Identifier: BSD-3-Clause */
/* places.c - the parameters that say which other files may be opened.
 *
 * Owns      the global 'places', constant once after_fork has run.
 * Method    host/given.c reads the values.
 *
 *           A file that is given by name belongs to one image.  So these
 *           parameters are refused where the server has many, or may have:
 *           two images with one data file destroy each other.  An export
 *           has a name only where names mean something, the other way
 *           round.
 * Locks     none: only the main thread writes, before there are others.
 */
#include "config.h"

#include "places.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/chain.h"
#include "host/error.h"
#include "host/given.h"
#include "host/rules.h"
#include "exports.h"
#include "settings.h"
#include "below/exportfile.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

struct rules places = RULES_INIT;

/* nbdkit says itself what is wrong. */
static int
ask (const char *key, char **ret_typed, struct qcow2_error *err)
{
  if (nbdkit_read_password ("-", ret_typed) == 0)
    return 0;
  return fail_with (err, QCOW2_ERR_IO, errno, "%s: nothing was typed in", key);
}

/* What a request uses of its thread's stack, in KiB: for each image of a chain
 * (measured: less than 6), and for all else.
 */
#define STACK_PER_LAYER 8
#define STACK_BESIDES 512

/* The server's threads have what 'ulimit -s' says, and overflows end it. */
static int
check_stack (const char *key, unsigned depth)
{
  const size_t needed = STACK_BESIDES + depth * STACK_PER_LAYER;
  pthread_attr_t attr;
  size_t size = 0;

  if (depth <= MAX_LAYERS || pthread_getattr_default_np (&attr) != 0)
    return 0;
  pthread_attr_getstacksize (&attr, &size);
  pthread_attr_destroy (&attr);
  if (size / 1024 >= needed)
    return 0;
  nbdkit_error ("%s=%u needs threads with a stack of %zuK, and these have "
                "%zuK; give nbdkit more with 'ulimit -s %zu'", key, depth,
                needed, size / 1024, needed);
  return -1;
}

static int
parse_chain_depth (const char *key, const char *value)
{
  unsigned depth;

  if (nbdkit_parse_unsigned (key, value, &depth) == -1)
    return -1;
  if (depth < 1 || depth > MOST_LAYERS) {
    nbdkit_error ("%s must be from 1 to %d, not '%s'", key, MOST_LAYERS,
                  value);
    return -1;
  }
  config.chain_depth = depth;
  return check_stack (key, depth);
}

/* Which parameter it is, or -1. */
static int
option_of (const char *key)
{
  if (strcmp (key, "qcow2-backing") == 0)
    return RULE_BACKING;
  if (strcmp (key, "qcow2-backing-format") == 0)
    return RULE_BACKING_FORMAT;
  if (strcmp (key, "qcow2-data-file") == 0)
    return RULE_DATA_FILE;
  if (strcmp (key, "qcow2-follow") == 0)
    return RULE_FOLLOW;
  if (strcmp (key, "qcow2-passphrase") == 0)
    return RULE_PASSPHRASE;
  return -1;
}

int
places_parse (const char *key, const char *value)
{
  const struct rule_words words = {
    .ask = ask, .program = "filter", .exports = true,
    .no_exports = exportfile_supported () ? NULL
      : "needs nbdkit 1.44 or later",
  };
  const int option = option_of (key);
  struct qcow2_error err;

  if (strcmp (key, "qcow2-chain-depth") == 0)
    return parse_chain_depth (key, value) == -1 ? -1 : 1;
  if (option == -1)
    return 0;
  if (rules_add (&places, &words, option, key, value, &err) == 0)
    return 1;
  nbdkit_error ("%s", err.text);
  return -1;
}

static int
refuse_many (const char *key)
{
  nbdkit_error ("%s is for a single image, but %s; use qcow2-follow", key,
                config.dir ? "with dir= there are many"
                : "it is not known whether this plugin has only one");
  return -1;
}

int
places_complete (void)
{
  const bool one = config.names == NAMES_IGNORED;

  for (size_t i = 0; i < places.nr_backing; ++i) {
    const bool is_export = places.backing[i].kind == PLACE_EXPORT;

    if (one && is_export) {
      nbdkit_error ("qcow2-backing=%s: this plugin has the same content "
                    "under every export name", places.backing[i].name);
      return -1;
    }
    if (!one && !is_export)
      return refuse_many ("qcow2-backing");
  }
  if (!one && places.data_file)
    return refuse_many ("qcow2-data-file");
  return 0;
}

void
places_after_fork (void)
{
  rules_lock (&places);
}

void
places_unload (void)
{
  rules_clear (&places);
}
