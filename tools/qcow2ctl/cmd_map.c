/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_map.c - "map": where the bytes of a disk are.
 *
 * Owns      nothing; maps.c walks the chain.
 * Method    entries are printed as they are found, so that a large disk takes
 *           no memory.  For people, as with qemu-img, only data is listed.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "maps.h"
#include "output.h"
#include "values.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct job {
  const struct ctl *ctl;
  const struct image *i;
  bool marks;                   /* of a bitmap or difference */
  bool alone;                   /* of one file of the chain, at that depth */
  unsigned depth;
  uint64_t nr;
};

static void
print_json (struct job *job, const struct entry *e)
{
  struct value *const v = value_object ();

  value_set (v, "start", value_number (e->start));
  value_set (v, "length", value_number (e->length));
  value_set (v, "depth", value_number (e->depth));
  value_set (v, "present", value_bool (e->present));
  value_set (v, "zero", value_bool (e->zero));
  value_set (v, "data", value_bool (e->data));
  value_set (v, "compressed", value_bool (e->compressed));
  if (e->has_offset)
    value_set (v, "offset", value_number (e->offset));
  value_print_item (v, job->nr++);
}

/* The name of the file at that depth. */
static const char *
file_name (const struct image *i, unsigned depth)
{
  const struct layer *l;

  if (depth == 0)
    return i->layers.data_file ? i->layers.data_file->name : i->name;
  l = map_layer (&i->layers, depth);
  if (l && l->layers.data_file)
    l = l->layers.data_file;
  return l ? l->name : "?";
}

static void
print_human (struct job *job, const struct entry *e)
{
  char place[24] = "-";

  if (job->marks ? !e->present : !e->data || e->zero)
    return;
  if (job->nr++ == 0)
    printf (job->marks ? "%-16sLength\n" : "%-16s%-16s%-16sFile\n",
            "Offset", "Length", "Mapped to");
  printf ("%#-16" PRIx64 "%#-16" PRIx64, e->start, e->length);
  if (e->has_offset)
    snprintf (place, sizeof place, "%#" PRIx64, e->offset);
  if (job->marks)
    printf ("\n");
  else
    printf ("%-16s%s\n", e->compressed ? "compressed" : place,
            file_name (job->i, e->depth));
}

static int
on_entry (void *opaque, const struct entry *e)
{
  struct job *const job = opaque;

  if (job->ctl->json)
    print_json (job, e);
  else if (!job->ctl->quiet)
    print_human (job, e);
  return 0;
}

/* What is to be shown: an option that excludes the others. */
static int
choose_view (const struct args *args, enum qcow2_view_kind *kind,
             const char **ret_name)
{
  static const struct { const char *option; enum qcow2_view_kind kind; }
  views[] = {
    { "snapshot", QCOW2_VIEW_SNAPSHOT }, { "diff", QCOW2_VIEW_DIFF },
    { "bitmap", QCOW2_VIEW_BITMAP },
  };

  *ret_name = NULL;
  for (size_t n = 0; n < 3; ++n) {
    const char *const name = args_value (args, views[n].option);

    if (name != NULL && *ret_name != NULL)
      return fail_usage (args->command, "only one of --snapshot, --diff and "
                         "--bitmap can be given");
    if (name != NULL) {
      *ret_name = name;
      *kind = views[n].kind;
    }
  }
  return CODE_OK;
}

static int
walk (struct job *job, struct qcow2_image *image)
{
  const struct map map = {
    .image = image, .io = job->i->io, .layers = &job->i->layers,
    .unknown = job->i->unknown,
    .incomplete = job->i->unknown || job->i->no_data,
    .alone = job->alone, .depth = job->depth,
    .fn = on_entry, .opaque = job,
  };
  struct qcow2_error err;
  const int r = job->marks ? map_walk_marks (&map, &err)
    : map_walk (&map, &err);

  if (job->ctl->json)
    value_print_end (job->nr);
  return r == -1 ? fail_error (job->i->name, &err) : r;
}

static int
read_depth (const struct args *args, struct job *job)
{
  const char *const text = args_value (args, "depth");

  job->alone = text != NULL;
  return text == NULL ? CODE_OK
    : value_unsigned (args->command, "--depth", text, &job->depth);
}

/* Unallocated in both is the same; unallocated and zeros may differ, as the
 * backing file has it.
 */
static int
check_diff (const struct image *i)
{
  return i->unknown == NULL ? CODE_OK
    : fail_code (CODE_FAILED, "%s: without its %s it cannot be told what "
                 "differs; give it with --backing or --follow", i->name,
                 i->unknown);
}

/* Of the files below, only those that were given are open. */
static int
check_depth (const struct job *job)
{
  const struct image *const i = job->i;
  unsigned last = 0;

  if (!job->alone || job->depth == 0 ||
      map_layer (&i->layers, job->depth) != NULL)
    return CODE_OK;
  if (i->unknown)
    return fail_code (CODE_NAME, "%s: its %s was not given, so only --depth 0 "
                      "can be shown", i->name, i->unknown);
  while (map_layer (&i->layers, last + 1))
    ++last;
  return fail_code (CODE_NAME, "%s: there is no file at depth %u; the last "
                    "one is at %u", i->name, job->depth, last);
}

static int
run (struct ctl *ctl, const struct args *args)
{
  enum qcow2_view_kind kind = QCOW2_VIEW_SNAPSHOT;
  struct qcow2_image *view = NULL;
  struct qcow2_error err;
  const char *name;
  struct image i;
  struct job job = { .ctl = ctl, .i = &i };
  int code = choose_view (args, &kind, &name);

  if (code == CODE_OK)
    code = read_depth (args, &job);
  if (code == CODE_OK && job.alone && name)
    code = fail_usage (args->command, "--depth cannot be given with "
                       "--snapshot, --diff or --bitmap");
  if (code == CODE_OK)
    code = image_open (ctl, &i, args->operands[0],
                       job.alone && job.depth == 0 ? OPEN_TO_MAP_ALONE
                       : OPEN_TO_MAP);
  if (code != CODE_OK)
    return code;
  job.marks = name && kind != QCOW2_VIEW_SNAPSHOT;
  if (name && kind == QCOW2_VIEW_DIFF && check_diff (&i) != CODE_OK)
    return image_close (&i, CODE_FAILED);
  if (name != NULL) {
    const struct qcow2_name n = { name, strlen (name) };

    view = qcow2_open_view (i.image, i.io, kind, &n, &err);
    if (view == NULL)
      return image_close (&i, fail_error (i.name, &err));
  }
  code = check_depth (&job);
  if (code != CODE_OK)
    return image_close (&i, code);
  if (i.unknown && !job.marks && !job.alone)
    warn_line ("%s: its %s was not given, so what that has is not shown",
               i.name, i.unknown);
  code = walk (&job, view ? view : i.image);
  qcow2_close (view);
  return image_close (&i, code);
}

static const struct option_spec options[] = {
  { "bitmap", 0, "NAME", "what that bitmap marks as changed" },
  { "depth", 0, "N",
    "only what one file of the chain has itself: 0, the\n"
    "image; 1, its backing file; and so on" },
  { "diff", 0, "A..B",
    "what differs between two snapshots; without B:\n"
    "between a snapshot and the disk" },
  { "snapshot", 0, "NAME", "the disk as it was then" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_map = {
  .name = "map", .operands = "IMAGE", .min_operands = 1, .max_operands = 1,
  .takes = TAKES_LAYERS | TAKES_SHARE, .options = options,
  .summary = "Show where the bytes of the disk are", .run = run,
};
