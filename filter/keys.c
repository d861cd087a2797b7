/* SPDX-License-Identifier: BSD-3-Clause */
/* keys.c - names of our parameters, and those that are nearly so.
 *
 * Owns      the rules that hold for all of them: names that begin with
 *           "qcow2" are ours, no plugin has such, so an unknown one is a
 *           mistake; and most can be given only once.
 * Method    the names are those of the help text, so that there is one list.
 * Locks     none: only the main thread reads parameters.
 */
#include "config.h"

#include "keys.h"

#include "nbdkit_api.h"
#include "qcow2.h"

#include <limits.h>
#include <string.h>

#define MAX_NAME 40
#define MAX_KEYS 32

const char config_help[] =
  "qcow2-cache-size=<SIZE>          Memory for cached mapping tables of an\n"
  "                                 image (default 32M).\n"
  "qcow2-cache-clean-interval=<SEC> Every so many seconds, tables that\n"
  "                                 nobody has read since leave the cache\n"
  "                                 (default 600, 0 for never).\n"
  "qcow2-cluster-cache-size=<SIZE>  Memory for decompressed clusters of an\n"
  "                                 image (default 8M, 0 for none).\n"
  "qcow2-memory=<SIZE>              Memory for all images together (default\n"
  "                                 2G, or more if caches need that).\n"
  "qcow2-readahead=<SIZE>           How far to read ahead of sequential\n"
  "                                 readers of a slow plugin (default 16M,\n"
  "                                 0 for off).\n"
  "qcow2-grow=<auto|off>            Whether a local file may grow (default\n"
  "                                 auto).\n"
  "qcow2-lock=<on|off>              Lock local files against other programs\n"
  "                                 as QEMU does (default on).\n"
  "qcow2-check-at-start=<on|off>    Look at the image when nbdkit starts,\n"
  "                                 and refuse a bad local file (default\n"
  "                                 on).\n"
  "qcow2-allow-retry=<on|off>       Allow writing with the retry filter on\n"
  "                                 the command line, which may lose what\n"
  "                                 was flushed (default off).\n"
  "qcow2-discard=<MODE>             What trimming does: unmap (the default),\n"
  "                                 ignore, or no-unref.\n"
  "qcow2-discard-snapshots=<on|off> Whether the space of a snapshot that is\n"
  "                                 deleted is trimmed below (default on).\n"
  "qcow2-overlap-check=<WHAT>       Metadata that writes are checked not to\n"
  "                                 land on: none, constant, cached (the\n"
  "                                 default), or all.\n"
  "qcow2-lazy-refcounts=<on|off>    Whether the image is marked as dirty\n"
  "                                 while it is written to (default: what\n"
  "                                 the image says).\n"
  "qcow2-refcounts=<exact|ahead>    Raise refcounts ahead of need: flushes\n"
  "                                 of new clusters cost half, a crash\n"
  "                                 leaks up to 16M (default exact).\n"
  "qcow2-compress=<off|on|LEVEL>    Compress whole clusters that are\n"
  "                                 written, from 1 (fast) to 19 (small);\n"
  "                                 default off.\n"
  "qcow2-detect-zeroes=<MODE>       What becomes of zeros that are written:\n"
  "                                 off (the default), on (clusters that\n"
  "                                 read as zeros), or unmap (without\n"
  "                                 space).\n"
  "qcow2-bitmaps=<MODE>             What becomes of enabled bitmaps when\n"
  "                                 clients write: durable (the default:\n"
  "                                 true at any moment), lazy (kept up, and\n"
  "                                 stored at the end), or invalidate.\n"
  "qcow2-create=<SIZE[,OPTION...]>  Create an image with a disk of this size\n"
  "                                 where there is none, when the first\n"
  "                                 client opens it for writing.\n"
  "qcow2-raw=<PATTERN>              Exports of a folder of images (dir=)\n"
  "                                 that are raw disks.  May be repeated.\n"
  "qcow2-control=<PATH>             A socket for commands to the running\n"
  "                                 server: snapshots, queries.  Off by\n"
  "                                 default.\n"
  "qcow2-backing=<FILE|URI>         The backing file of the image: a local\n"
  "                                 file, an NBD URI, or export:NAME.\n"
  "                                 Repeated: the one below that, and so on.\n"
  "qcow2-backing-format=<FORMAT>    Its format, raw or qcow2, where the\n"
  "                                 image does not say it.  May be repeated.\n"
  "qcow2-chain-depth=<N>            Backing files that may be below each\n"
  "                                 other (default 64, at most 512).\n"
  "qcow2-data-file=<FILE|URI>       The external data file of the image.\n"
  "qcow2-follow=<DIR>               Open the other files that images name,\n"
  "                                 if they are beneath this folder.\n"
  "qcow2-passphrase=<SECRET>        Of an encrypted image; +FILE reads it\n"
  "                                 from a file, - asks for it, -FD reads\n"
  "                                 it from a descriptor.  May be repeated.";

/* Parameters with a bit each, by their place in the help text. */
static uint32_t given;

/* The n-th name of the help text, or NULL. */
static const char *
nth_key (unsigned n, char name[MAX_NAME])
{
  for (const char *line = config_help; line; line = strchr (line, '\n')) {
    size_t len;

    line += line[0] == '\n';
    len = strcspn (line, "=\n");
    if (strncmp (line, "qcow2-", 6) != 0 || line[len] != '=' ||
        len >= MAX_NAME || n-- > 0)
      continue;
    memcpy (name, line, len);
    name[len] = '\0';
    return name;
  }
  return NULL;
}

static unsigned
min3 (unsigned a, unsigned b, unsigned c)
{
  return a < b ? (a < c ? a : c) : (b < c ? b : c);
}

/* How many letters must be put in, left out or replaced. */
static unsigned
distance (const char *a, const char *b)
{
  unsigned row[MAX_NAME + 1];
  const size_t len = strlen (b);

  if (!qcow2_holds (len <= MAX_NAME))
    return UINT_MAX;
  for (size_t j = 0; j <= len; ++j)
    row[j] = j;
  for (size_t i = 0; a[i]; ++i) {
    unsigned diagonal = row[0];

    row[0] = i + 1;
    for (size_t j = 0; j < len; ++j) {
      const unsigned above = row[j + 1];

      row[j + 1] = min3 (above + 1, row[j] + 1, diagonal + (a[i] != b[j]));
      diagonal = above;
    }
  }
  return row[len];
}

static int
fail_unknown (const char *key)
{
  char name[MAX_NAME], best[MAX_NAME] = "";
  /* What differs in more is another word. */
  unsigned least = strlen (key) / 4 + 1;

  for (unsigned n = 0; strlen (key) < MAX_NAME && nth_key (n, name); ++n) {
    const unsigned d = distance (key, name);

    if (d < least) {
      least = d;
      strcpy (best, name);
    }
  }
  if (best[0])
    nbdkit_error ("unknown parameter '%s'; did you mean '%s'?", key, best);
  else
    nbdkit_error ("unknown parameter '%s'; 'nbdkit --help --filter=qcow2 "
                  "null' lists those of the qcow2 filter", key);
  return -1;
}

static bool
may_be_repeated (const char *key)
{
  return strcmp (key, "qcow2-raw") == 0 ||
    strcmp (key, "qcow2-backing") == 0 ||
    strcmp (key, "qcow2-backing-format") == 0 ||
    strcmp (key, "qcow2-passphrase") == 0;
}

int
key_check (const char *key)
{
  char name[MAX_NAME];

  if (strncmp (key, "qcow2", 5) != 0)
    return 0;
  for (unsigned n = 0; n < MAX_KEYS && nth_key (n, name); ++n) {
    if (strcmp (key, name) != 0)
      continue;
    if ((given & UINT32_C (1) << n) != 0 && !may_be_repeated (key)) {
      nbdkit_error ("%s can be given only once", key);
      return -1;
    }
    given |= UINT32_C (1) << n;
    return 0;
  }
  return fail_unknown (key);
}
