/* SPDX-License-Identifier: BSD-3-Clause */
/* parameters.c - parameters, ours and what the plugin's tell about it.
 *
 * Owns      the way into the global 'config' (settings.c), which is constant
 *           once config_complete has run.
 * Method    our keys all start with "qcow2-" (keys.c).  Every other key is
 *           passed on; on its way by it may tell whether the plugin looks at
 *           export names, and which local file it serves.
 * Locks     none: only the main thread writes, before there are others.
 */
#include "config.h"

#include "parameters.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/names.h"
#include "create.h"
#include "embed.h"
#include "exports.h"
#include "keys.h"
#include "places.h"
#include "rawnames.h"
#include "report.h"
#include "settings.h"
#include "stack.h"
#include "control/control.h"
#include "share/scans.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What zstd has; deflate has 12. */
#define MAX_COMPRESS_LEVEL 19

#define MIN_CACHE_SIZE (64 * 1024)
#define MIN_MEMORY (16 * 1024 * 1024)
#define DEFAULT_MEMORY (UINT64_C (2) << 30)
/* More than the address space has. */
#define MAX_MEMORY (UINT64_C (1) << 60)

/* What was seen go by. */
static bool seen_ignoring;      /* a key of a plugin that ignores names */
static bool seen_naming;        /* a key of a plugin that may look at them */
static unsigned nr_file, nr_dir;

/* Keys that belong to plugins known to serve the same bytes under every
 * export name: curl, data, file, memory, nbd, ssh, S3.
 */
static bool
is_ignoring_key (const char *key)
{
  static const char *const keys[] = {
    "base64", "bucket", "data", "fd", "file", "hostname", "host", "path",
    "raw", "socket", "socket-fd", "uri", "url", "vsock", NULL
  };

  for (size_t i = 0; keys[i]; ++i)
    if (strcmp (key, keys[i]) == 0)
      return true;
  return false;
}

/* Keys that say, or may say, that the plugin serves many things; these
 * outweigh the ones above.
 */
static bool
is_naming_key (const char *key)
{
  static const char *const keys[] = {
    "dir", "directory", "dirfd", "dynamic-export", "ext2file", "script",
    NULL
  };

  for (size_t i = 0; keys[i]; ++i)
    if (strcmp (key, keys[i]) == 0)
      return true;
  return false;
}

/* 'nbdkit S3' runs itself again as the Python plugin, with this script. */
static bool
is_s3_plugin (const char *key, const char *value)
{
  return strcmp (key, "script") == 0 &&
    strcmp (basename (value), "nbdkit-S3-plugin") == 0;
}

/* Absolute: a daemon changes its directory.  Keeps the path as it is if it
 * does not exist; the plugin will say so.
 */
static int
keep_path (char **slot, const char *value)
{
  char *path = realpath (value, NULL);

  if (path == NULL && (path = strdup (value)) == NULL) {
    nbdkit_error ("strdup: %m");
    return -1;
  }
  free (*slot);
  *slot = path;
  return 0;
}

/* Names in an image are relative to where it was said to be, and not to
 * where a link there leads.
 */
static void
keep_folder (const char *value)
{
  free (config.folder);
  config.folder = folder_of (value);
}

/* What to call the image in messages.  Secrets hide in URLs: the user part
 * and the query are left out.
 */
static int
keep_label (const char *value)
{
  const char *const scheme = strstr (value, "://");
  const char *host = scheme ? scheme + 3 : value;
  const size_t end = strcspn (host, "/?");
  const char *const at = scheme ? memrchr (host, '@', end) : NULL;
  const int prefix = (int) (host - value);

  if (at)
    host = at + 1;
  free (config.label);
  if (asprintf (&config.label, "%.*s%.*s", prefix, value,
                (int) (scheme ? strcspn (host, "?") : strlen (host)),
                host) == -1) {
    config.label = NULL;
    nbdkit_error ("asprintf: %m");
    return -1;
  }
  return 0;
}

static bool
is_label_key (const char *key)
{
  return strcmp (key, "file") == 0 || strcmp (key, "url") == 0 ||
    strcmp (key, "path") == 0 || strcmp (key, "uri") == 0;
}

/* A size of at least 'min' bytes, or 0 if that is allowed. */
static int
parse_size (const char *key, const char *value, int64_t min, bool allow_0,
            uint64_t *ret)
{
  const int64_t size = nbdkit_parse_size (value);

  if (size == -1) {
    nbdkit_error ("%s must be a size in bytes, such as 65536, 64K or 32M, "
                  "not '%s'", key, value);
    return -1;
  }
  if (size < min && !(allow_0 && size == 0)) {
    nbdkit_error ("%s must be at least %" PRIi64 "K%s, not '%s'", key,
                  min / 1024, allow_0 ? ", or 0" : "", value);
    return -1;
  }
  *ret = size;
  return 0;
}

/* The index of 'value' in a list of words, or -1. */
static int
parse_word (const char *key, const char *value, const char *const words[])
{
  char all[80] = "";

  for (int i = 0; words[i]; ++i) {
    if (strcmp (value, words[i]) == 0)
      return i;
    snprintf (all + strlen (all), sizeof all - strlen (all), "%s%s",
              i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
  }
  nbdkit_error ("%s must be %s, not '%s'", key, all, value);
  return -1;
}

static int
parse_bool (const char *key, const char *value, const char *yes, bool *ret)
{
  const char *const words[] = { "off", yes, NULL };
  const int i = parse_word (key, value, words);

  *ret = i == 1;
  return i == -1 ? -1 : 0;
}

static int
parse_discard (const char *key, const char *value)
{
  static const char *const words[] = {
    [QCOW2_DISCARD_UNMAP] = "unmap", [QCOW2_DISCARD_IGNORE] = "ignore",
    [QCOW2_DISCARD_NO_UNREF] = "no-unref", NULL
  };
  const int i = parse_word (key, value, words);

  if (i == -1)
    return -1;
  config.discard = i;
  return 0;
}

static int
parse_overlap_check (const char *key, const char *value)
{
  static const char *const words[] = {
    [QCOW2_OVERLAP_NONE] = "none", [QCOW2_OVERLAP_CONSTANT] = "constant",
    [QCOW2_OVERLAP_CACHED] = "cached", [QCOW2_OVERLAP_ALL] = "all", NULL
  };
  const int i = parse_word (key, value, words);

  if (i == -1)
    return -1;
  config.overlap_check = i;
  return 0;
}

static int
parse_lazy_refcounts (const char *key, const char *value)
{
  bool on;

  if (parse_bool (key, value, "on", &on) == -1)
    return -1;
  config.lazy_refcounts = on ? QCOW2_SETTING_ON : QCOW2_SETTING_OFF;
  return 0;
}

static int
parse_refcounts (const char *key, const char *value)
{
  static const char *const words[] = {
    [QCOW2_REFCOUNTS_EXACT] = "exact", [QCOW2_REFCOUNTS_AHEAD] = "ahead", NULL
  };
  const int i = parse_word (key, value, words);

  if (i == -1)
    return -1;
  config.refcounts = i;
  return 0;
}

/* "off", "on", or a level. */
static int
parse_compress (const char *key, const char *value)
{
  unsigned level;

  config.compress = strcmp (value, "off") != 0;
  config.compress_level = 0;
  if (!config.compress || strcmp (value, "on") == 0)
    return 0;
  if (value[0] >= '0' && value[0] <= '9' &&
      nbdkit_parse_unsigned (key, value, &level) == 0 &&
      level >= 1 && level <= MAX_COMPRESS_LEVEL) {
    config.compress_level = level;
    return 0;
  }
  nbdkit_error ("%s must be off, on, or a level from 1 (fast) to %d (small), "
                "not '%s'", key, MAX_COMPRESS_LEVEL, value);
  return -1;
}

static int
parse_detect_zeroes (const char *key, const char *value)
{
  static const char *const words[] = {
    [QCOW2_DETECT_ZEROES_OFF] = "off", [QCOW2_DETECT_ZEROES_ON] = "on",
    [QCOW2_DETECT_ZEROES_UNMAP] = "unmap", NULL
  };
  const int i = parse_word (key, value, words);

  if (i == -1)
    return -1;
  config.detect_zeroes = i;
  return 0;
}

static int
parse_interval (const char *key, const char *value)
{
  if (value[0] != '\0' && value[strspn (value, "0123456789")] == '\0')
    return nbdkit_parse_unsigned (key, value, &config.clean_interval);
  nbdkit_error ("%s must be a number of seconds, or 0 for never, not '%s'",
                key, value);
  return -1;
}

static int
parse_bitmaps (const char *key, const char *value)
{
  static const char *const words[] = {
    [QCOW2_BITMAPS_INVALIDATE] = "invalidate", [QCOW2_BITMAPS_LAZY] = "lazy",
    [QCOW2_BITMAPS_DURABLE] = "durable", NULL
  };
  const int i = parse_word (key, value, words);

  if (i == -1)
    return -1;
  config.bitmaps = i;
  return 0;
}

/* What the plugin's parameters tell about it; -1 on error. */
static int
look_at (const char *key, const char *value)
{
  if (strcmp (key, "fd") == 0 || strcmp (key, "dirfd") == 0)
    config.descriptor = true;
  if (is_naming_key (key) && !is_s3_plugin (key, value))
    seen_naming = true;
  if (is_ignoring_key (key))
    seen_ignoring = true;
  if (strcmp (key, "file") == 0) {
    nr_file++;
    if (keep_path (&config.file, value) == -1)
      return -1;
    keep_folder (value);
  }
  else if (strcmp (key, "dir") == 0 || strcmp (key, "directory") == 0) {
    nr_dir++;
    if (keep_path (&config.dir, value) == -1)
      return -1;
  }
  return is_label_key (key) ? keep_label (value) : 0;
}

int
config_parse (nbdkit_next_config *next, nbdkit_backend *nxdata,
              const char *key, const char *value)
{
  if (key_check (key) == -1)
    return -1;
  if (strcmp (key, "qcow2-cache-size") == 0)
    return parse_size (key, value, MIN_CACHE_SIZE, false,
                       &config.cache_size);
  if (strcmp (key, "qcow2-cache-clean-interval") == 0)
    return parse_interval (key, value);
  if (strcmp (key, "qcow2-cluster-cache-size") == 0)
    return parse_size (key, value, MIN_CACHE_SIZE, true,
                       &config.cluster_cache_size);
  if (strcmp (key, "qcow2-memory") == 0)
    return parse_size (key, value, MIN_MEMORY, false, &config.memory);
  if (strcmp (key, "qcow2-readahead") == 0)
    return parse_size (key, value, MIN_CACHE_SIZE, true, &config.readahead);
  if (strcmp (key, "qcow2-grow") == 0)
    return parse_bool (key, value, "auto", &config.grow);
  if (strcmp (key, "qcow2-lock") == 0)
    return parse_bool (key, value, "on", &config.lock);
  if (strcmp (key, "qcow2-check-at-start") == 0)
    return parse_bool (key, value, "on", &config.check_at_start);
  if (strcmp (key, "qcow2-allow-retry") == 0)
    return parse_bool (key, value, "on", &config.allow_retry);
  if (strcmp (key, "qcow2-discard") == 0)
    return parse_discard (key, value);
  if (strcmp (key, "qcow2-discard-snapshots") == 0)
    return parse_bool (key, value, "on", &config.discard_snapshots);
  if (strcmp (key, "qcow2-overlap-check") == 0)
    return parse_overlap_check (key, value);
  if (strcmp (key, "qcow2-lazy-refcounts") == 0)
    return parse_lazy_refcounts (key, value);
  if (strcmp (key, "qcow2-refcounts") == 0)
    return parse_refcounts (key, value);
  if (strcmp (key, "qcow2-compress") == 0)
    return parse_compress (key, value);
  if (strcmp (key, "qcow2-detect-zeroes") == 0)
    return parse_detect_zeroes (key, value);
  if (strcmp (key, "qcow2-bitmaps") == 0)
    return parse_bitmaps (key, value);
  if (strcmp (key, "qcow2-create") == 0)
    return create_parse (value);
  if (strcmp (key, "qcow2-raw") == 0)
    return raw_names_parse (value);
  if (strcmp (key, "qcow2-control") == 0) {
    config.control = true;
    return control_parse (value);
  }

  switch (places_parse (key, value)) {
  case -1: return -1;
  case 1: return 0;
  }
  if (look_at (key, value) == -1)
    return -1;
  return next (nxdata, key, value);
}

/* Unless it was said, enough for some images with caches of this size. */
static int
make_budget (void)
{
  const uint64_t caches = config.cache_size + config.cluster_cache_size;

  if (config.memory == 0)
    config.memory = caches < MAX_MEMORY / 16 && 8 * caches > DEFAULT_MEMORY
      ? 8 * caches : DEFAULT_MEMORY;
  config.budget = qcow2_budget_new (config.memory,
                                    "qcow2-memory allows more",
                                    nobody_waits, NULL);
  if (config.budget != NULL)
    return 0;
  nbdkit_error ("qcow2: out of memory");
  return -1;
}

/* Filters after which a flush that succeeds promises nothing.  retry opens
 * anew what is below it, and tries again there, where nobody knows of what was
 * written before; above us it does that to us.  retry-request tries a flush
 * again that has failed.
 */
static const char *
find_reopening (void)
{
  if (stack_has_filter ("retry") || stack_has_filter_above ("retry"))
    return "retry";
  return stack_has_filter ("retry-request") ? "retry-request" : NULL;
}

void
config_note_stack (void)
{
  config.reopens = find_reopening ();
}

int
config_complete (nbdkit_next_config_complete *next, nbdkit_backend *nxdata)
{
  /* Several of a kind: some other plugin's idea of these keys. */
  if (nr_file != 1 || seen_naming) {
    free (config.file);
    free (config.folder);
    config.file = config.folder = NULL;
  }
  if (nr_dir != 1 || nr_file != 0) {
    free (config.dir);
    config.dir = NULL;
  }
  if (config.dir)
    config.folder = strdup (config.dir);
  if (config.dir)
    config.names = NAMES_ARE_FILES;
  else if (seen_ignoring && !seen_naming)
    config.names = NAMES_IGNORED;
  else
    config.names = NAMES_UNKNOWN;
  if (places_complete () == -1 || create_complete () == -1 ||
      raw_names_complete () == -1 || make_budget () == -1)
    return -1;
  embed_complete ();
  return next (nxdata);
}

void
config_unload (void)
{
  places_unload ();
  create_unload ();
  raw_names_unload ();
  control_unload ();
  scans_unload ();
  qcow2_budget_free (config.budget);
  config.budget = NULL;
  free (config.file);
  free (config.folder);
  free (config.dir);
  free (config.label);
  config.file = config.folder = config.dir = config.label = NULL;
}
