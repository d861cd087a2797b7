/* SPDX-License-Identifier: BSD-3-Clause */
/* qemu_bits.c - see qemu_bits.h.
 *
 * Owns      the command, and reading what it prints.
 * Method    with x-dirty-bitmap the map of an NBD export has "data": false
 *           where the bitmap has a bit.  It is printed in extents; all of the
 *           disk is compared in units of the smallest granularity.
 * Locks     none; it is for one thread at a time.
 */
#include "config.h"

#include "qemu_bits.h"

#include "bitmap_set.h"
#include "qemu.h"
#include "unit.h"

#include "base/be.h"

#define UNIT 512

static unsigned long nr_checks;

/* $1 is the name of the bitmap.  qemu-nbd ends with its client. */
static const char ask[] =
  "set -e\n"
  "if [ $2 = dirty ]; then qemu-img check -q -r all bits.qcow2; fi\n"
  "rm -f bits.pid\n"
  "qemu-nbd -r -t --fork --pid-file=bits.pid -k \"$PWD/bits.sock\" -f qcow2"
  " -B $1 bits.qcow2\n"
  "qemu-img map --output=json --image-opts \"driver=nbd,server.type=unix,"
  "server.path=$PWD/bits.sock,x-dirty-bitmap=qemu:dirty-bitmap:$1\" > bits.map"
  " || failed=1\n"
  "kill $(cat bits.pid)\n"
  "while kill -0 $(cat bits.pid) 2>/dev/null; do sleep 0.01; done\n"
  "[ -z \"$failed\" ]\n";

/* The value of a key in front of 'end'. */
static const char *
value_of (const char *extent, const char *end, const char *key)
{
  const char *const p = strstr (extent, key);

  return p != NULL && p < end ? p + strlen (key) : NULL;
}

/* Of all extents; false: the map is none, or not what we have. */
static bool
is_map_of (const char *map, const struct bitmap_seen *b, uint64_t disk_size)
{
  uint64_t at = 0;

  for (const char *p = map, *end; (end = strchr (p, '}')) != NULL;
       p = end + 1) {
    const char *const start = value_of (p, end, "\"start\": ");
    const char *const len = value_of (p, end, "\"length\": ");
    const char *const data = value_of (p, end, "\"data\": ");
    uint64_t next;

    if (start == NULL || len == NULL || data == NULL ||
        strtoull (start, NULL, 10) != at)
      return false;
    next = at + strtoull (len, NULL, 10);
    for (; at < next && at < disk_size; at += UNIT)
      if (bitmap_has (b, at >> b->granularity_bits) !=
          (strncmp (data, "false", 5) == 0))
        return false;
    at = next;
  }
  return at == disk_size;
}

static void
ask_for (const unsigned char *bytes, uint64_t size,
         const struct bitmap_seen *b, const char *what)
{
  const uint64_t disk_size = load_be64 (bytes + 24);
  const bool dirty = bytes[79] & 1;
  unsigned char *map;
  uint64_t len;

  nr_checks++;
  qemu_save ("bits.qcow2", bytes, size);
  qemu_save ("bits.map", "", 0);
  qemu_save ("bits.sh", ask, sizeof ask - 1);
  qemu_run (0, "sh bits.sh %s %s", b->name, dirty ? "dirty" : "clean");
  map = qemu_load ("bits.map", &len);
  map[len] = '\0';
  if (!unit_check (is_map_of ((const char *) map, b, disk_size), __FILE__,
                   __LINE__, "%s: QEMU has other bits in '%s'", what, b->name))
    printf ("%s\n", (const char *) map);
  free (map);
}

void
qemu_check_bits (const unsigned char *bytes, uint64_t size, uint64_t which,
                 const char *what)
{
  const struct bitmap_seen *found[BITMAP_SET_MAX];
  struct bitmap_set set;
  size_t nr = 0;

  bitmap_set_load (&set, bytes, size);
  for (size_t i = 0; i < set.nr; ++i)
    if ((set.bitmap[i].flags & (BITMAP_AUTO | BITMAP_IN_USE)) == BITMAP_AUTO)
      found[nr++] = &set.bitmap[i];
  if (nr > 0)
    ask_for (bytes, size, found[which % nr], what);
  bitmap_set_free (&set);
}

unsigned long
qemu_bits_checks (void)
{
  return nr_checks;
}
