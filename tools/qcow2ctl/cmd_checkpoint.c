/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_checkpoint.c - "checkpoint": bitmaps end and begin, and snapshots are
 * taken, of several images at once.
 *
 * Owns      the images, all open until the last has changed.
 * Method    one transaction of the engine.  If that fails some images may have
 *           been changed, and it is said which.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "progress.h"
#include "served.h"
#include "values.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MAX_IMAGES QCOW2_MAX_PARTS

struct checkpoint {
  struct image images[MAX_IMAGES];      /* the first nr are open */
  struct qcow2_part parts[MAX_IMAGES];
  size_t nr;
  struct qcow2_bitmap_action actions[2];
  size_t nr_actions;
  struct qcow2_snapshot_options snapshot;
};

static const struct option_spec options[] = {
  { "snapshot", 0, "NAME", "the snapshot that is taken of each" },
  { "add", 0, "BITMAP", "a new bitmap, kept up from now on" },
  { "granularity", 'g', "SIZE", "its bytes of the disk per bit, 512 to 2G\n"
    "(default: the cluster size, 4k to 64k)" },
  { "disable", 0, "BITMAP", "one that is left as it is from now on" },
  { NULL, 0, NULL, NULL }
};

static void
add_action (struct checkpoint *c, enum qcow2_bitmap_verb verb,
            const char *name, uint64_t granularity)
{
  if (name != NULL)
    c->actions[c->nr_actions++] = (struct qcow2_bitmap_action) {
      .verb = verb, .name = value_name (name), .granularity = granularity,
    };
}

/* As a server takes it: each name once. */
static void
prepare (struct checkpoint *c, const struct args *args, uint64_t granularity,
         struct progress *progress)
{
  struct timespec now;

  clock_gettime (CLOCK_REALTIME, &now);
  c->snapshot = (struct qcow2_snapshot_options) {
    .name = value_name (args_value (args, "snapshot")), .unique_name = true,
    .date_sec = (uint32_t) now.tv_sec, .date_nsec = (uint32_t) now.tv_nsec,
    .icount = UINT64_MAX,       /* not known */
    .progress = progress_report, .progress_opaque = progress,
  };
  add_action (c, QCOW2_BITMAP_DISABLE, args_value (args, "disable"), 0);
  add_action (c, QCOW2_BITMAP_ADD, args_value (args, "add"), granularity);
}

static int
open_all (struct checkpoint *c, struct ctl *ctl, const struct args *args)
{
  int code = CODE_OK;

  while (code == CODE_OK && c->nr < args->nr_operands) {
    struct image *const i = &c->images[c->nr];

    code = image_open (ctl, i, args->operands[c->nr], OPEN_TO_CHANGE_HEADER);
    if (code == CODE_OK)
      c->parts[c->nr++] = (struct qcow2_part) {
        .image = i->image, .io = i->io, .actions = c->actions,
        .nr_actions = c->nr_actions, .snapshot = &c->snapshot,
      };
  }
  return code;
}

/* False: all are as they were. */
static bool
say_outcomes (const struct checkpoint *c)
{
  static const char *const words[] = {
    [QCOW2_OUTCOME_NOT_DONE] = "has not been changed",
    [QCOW2_OUTCOME_DONE] = "has been changed",
    [QCOW2_OUTCOME_UNKNOWN] = "may have been changed",
  };
  bool some = false;

  for (size_t i = 0; i < c->nr; ++i)
    some |= c->parts[i].outcome != QCOW2_OUTCOME_NOT_DONE;
  for (size_t i = 0; some && i < c->nr; ++i)
    fprintf (stderr, "qcow2ctl: %s: %s\n", c->images[i].name,
             words[c->parts[i].outcome]);
  return some;
}

static int
change_all (struct checkpoint *c)
{
  struct qcow2_error err;
  size_t failed;
  int code;

  if (qcow2_transact (c->parts, c->nr, &failed, &err) == 0)
    return CODE_OK;
  code = fail_error (c->images[failed].name, &err);
  return say_outcomes (c) ? CODE_CHANGED : code;
}

static int
run_here (struct ctl *ctl, const struct args *args, uint64_t granularity)
{
  struct checkpoint *const c = calloc (1, sizeof *c);
  struct progress progress;
  int code;

  if (c == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  prepare (c, args, granularity, &progress);
  code = open_all (c, ctl, args);
  if (code == CODE_OK) {
    progress_begin (&progress, ctl);
    code = change_all (c);
    progress_end (&progress);
  }
  while (c->nr > 0)
    code = image_close (&c->images[--c->nr], code);
  free (c);
  return code;
}

static int
run (struct ctl *ctl, const struct args *args)
{
  const char *const granularity = args_value (args, "granularity");
  uint64_t bytes = 0;
  int code;

  if (args_value (args, "snapshot") == NULL)
    return fail_usage (args->command, "give the snapshot a name: --snapshot "
                       "NAME");
  if (granularity != NULL) {
    if (args_value (args, "add") == NULL)
      return fail_usage (args->command, "--granularity is for --add");
    code = value_granularity (args->command, granularity, &bytes);
    if (code != CODE_OK)
      return code;
  }
  return ctl->socket ? served_checkpoint (ctl, args, bytes)
    : run_here (ctl, args, bytes);
}

const struct command cmd_checkpoint = {
  .name = "checkpoint", .operands = "IMAGE...",
  .min_operands = 1, .max_operands = MAX_IMAGES,
  .takes = TAKES_NO_LOCK | TAKES_SOCKET, .options = options,
  .summary = "Begin bitmaps and take snapshots, all at once",
  .run = run,
};
