/* SPDX-License-Identifier: BSD-3-Clause */
/* lists.c - the snapshots and the bitmaps of an image, printed.
 *
 * Owns      how they look.
 * Method    JSON as qemu-img has it; what that does not have is in an object
 *           "nbdkit-qcow2".
 * Locks     none.
 */
#include "config.h"

#include "lists.h"

#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define NS UINT64_C (1000000000)

/* ---- JSON --------------------------------------------------------------- */

static int
add_snapshot (void *opaque, const struct qcow2_snapshot *s)
{
  struct value *const v = value_object (), *const more = value_object ();

  value_set (v, "id", value_bytes (s->id.bytes, s->id.len));
  value_set (v, "name", value_bytes (s->name.bytes, s->name.len));
  value_set (v, "vm-state-size", value_number (s->vm_state_size));
  value_set (v, "date-sec", value_number (s->date_sec));
  value_set (v, "date-nsec", value_number (s->date_nsec));
  value_set (v, "vm-clock-sec", value_number (s->vm_clock_ns / NS));
  value_set (v, "vm-clock-nsec", value_number (s->vm_clock_ns % NS));
  if (s->icount != UINT64_MAX)
    value_set (v, "icount", value_number (s->icount));
  value_set (more, "disk-size", value_number (s->disk_size));
  value_set (v, "nbdkit-qcow2", more);
  value_append (opaque, v);
  return 0;
}

int
snapshots_json (struct qcow2_image *image, const struct qcow2_io *io,
                struct value **ret, struct qcow2_error *err)
{
  *ret = value_array ();
  if (qcow2_list_snapshots (image, io, add_snapshot, *ret, err) == 0)
    return 0;
  value_free (*ret);
  return -1;
}

static int
add_bitmap (void *opaque, const struct qcow2_bitmap *b)
{
  struct value *const v = value_object (), *const more = value_object ();
  struct value *const flags = value_array ();

  if (b->in_use)
    value_append (flags, value_text ("in-use"));
  if (b->enabled)
    value_append (flags, value_text ("auto"));
  value_set (v, "flags", flags);
  value_set (v, "name", value_bytes (b->name.bytes, b->name.len));
  value_set (v, "granularity", value_number (b->granularity));
  value_set (more, "usable", value_bool (b->why_unusable == NULL));
  value_set (more, "kept-up", value_bool (b->kept_up));
  if (b->why_unusable)
    value_set (more, "why-unusable", value_text (b->why_unusable));
  value_set (v, "nbdkit-qcow2", more);
  value_append (opaque, v);
  return 0;
}

int
bitmaps_json (struct qcow2_image *image, const struct qcow2_io *io,
              struct value **ret, struct qcow2_error *err)
{
  *ret = value_array ();
  if (qcow2_list_bitmaps (image, io, add_bitmap, *ret, err) == 0)
    return 0;
  value_free (*ret);
  return -1;
}

/* ---- For people --------------------------------------------------------- */

/* A column of text from the image: at least as wide. */
static void
print_column (const struct qcow2_name *name, size_t width)
{
  print_bytes (name->bytes, name->len);
  for (size_t n = name->len; n < width; ++n)
    putchar (' ');
}

void
snapshot_print (const struct qcow2_snapshot *s)
{
  const uint64_t ms = s->vm_clock_ns / 1000000;
  const time_t date = s->date_sec;
  char size[SIZE_TEXT], when[40] = "", clock[40], icount[24] = "";
  struct tm tm;

  if (localtime_r (&date, &tm))
    strftime (when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
  snprintf (clock, sizeof clock, "%02" PRIu64 ":%02u:%02u.%03u",
            ms / 3600000, (unsigned) (ms / 60000 % 60),
            (unsigned) (ms / 1000 % 60), (unsigned) (ms % 1000));
  if (s->icount != UINT64_MAX)
    snprintf (icount, sizeof icount, "%" PRIu64, s->icount);
  print_column (&s->id, 9);
  putchar (' ');
  print_column (&s->name, 16);
  printf (" %8s %19s %12s %10s\n", size_text (size, s->vm_state_size), when,
          clock, icount);
}

static int
print_snapshot (void *opaque, const struct qcow2_snapshot *s)
{
  (void) opaque;
  snapshot_print (s);
  return 0;
}

void
snapshots_print_heading (void)
{
  printf ("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG",
          "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
}

int
snapshots_print (struct qcow2_image *image, const struct qcow2_io *io,
                 struct qcow2_error *err)
{
  if (qcow2_get_info (image).nr_snapshots == 0)
    return 0;
  snapshots_print_heading ();
  return qcow2_list_snapshots (image, io, print_snapshot, NULL, err);
}

void
bitmaps_print_heading (void)
{
  printf ("Bitmap list:\n%-24s %11s  STATE\n", "NAME", "GRANULARITY");
}

void
bitmap_print (const struct qcow2_bitmap *b)
{
  char size[SIZE_TEXT];

  print_column (&b->name, 24);
  printf (" %11s  %s%s\n", size_text (size, b->granularity),
          b->enabled ? "enabled" : "disabled", !b->in_use ? ""
          : b->kept_up ? ", kept up in memory" : ", in use");
  if (b->why_unusable)
    printf ("%-25s it cannot be used: %s\n", "", b->why_unusable);
}

static int
print_bitmap (void *opaque, const struct qcow2_bitmap *b)
{
  (void) opaque;
  bitmap_print (b);
  return 0;
}

int
bitmaps_print (struct qcow2_image *image, const struct qcow2_io *io,
               struct qcow2_error *err)
{
  if (qcow2_get_info (image).nr_bitmaps == 0)
    return 0;
  bitmaps_print_heading ();
  return qcow2_list_bitmaps (image, io, print_bitmap, NULL, err);
}
