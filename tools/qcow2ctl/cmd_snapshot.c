/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_snapshot.c - "snapshot create", "snapshot apply", "snapshot delete".
 *
 * Owns      nothing.
 * Method    one call of the engine each.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "progress.h"
#include "served.h"
#include "state.h"
#include "values.h"

#include <time.h>

typedef int (*change_fn) (struct image *i, const struct args *args,
                          struct progress *p, struct qcow2_error *err);

static int
run (struct ctl *ctl, const struct args *args, change_fn change)
{
  struct qcow2_error err;
  struct progress p;
  struct image i;
  int code = image_open (ctl, &i, args->operands[0], OPEN_TO_CHANGE_HEADER);
  int r;

  if (code != CODE_OK)
    return code;
  progress_begin (&p, ctl);
  r = change (&i, args, &p, &err);
  progress_end (&p);
  if (r == -1)
    code = fail_error (i.name, &err);
  return image_close (&i, code);
}

/* ---- Taking one -------------------------------------------------------- */

static const struct option_spec create_options[] = {
  { "id", 0, "ID", "its id (default: the next free number)" },
  { "unique", 0, NULL, "fail if there is one of that name" },
  { "vm-state", 0, "FILE", "save what is in FILE as its VM state" },
  { NULL, 0, NULL, NULL }
};

static int
create (struct image *i, const struct args *args, struct progress *p,
        struct qcow2_error *err)
{
  struct qcow2_snapshot_options o = {
    .name = value_name (args->operands[1]),
    .id = value_name (args_value (args, "id")),
    .unique_name = args_value (args, "unique") != NULL,
    .icount = UINT64_MAX,       /* not known */
    .progress = progress_report, .progress_opaque = p,
  };
  const char *const path = args_value (args, "vm-state");
  struct state state;
  struct timespec now;
  int r;

  clock_gettime (CLOCK_REALTIME, &now);
  o.date_sec = (uint32_t) now.tv_sec;
  o.date_nsec = (uint32_t) now.tv_nsec;
  if (path == NULL)
    return qcow2_snapshot_create (i->image, i->io, &o, err);
  if (state_open (&state, path, err) == -1)
    return -1;
  o.vm_state = &state.state;
  r = qcow2_snapshot_create (i->image, i->io, &o, err);
  state_close (&state);
  return r;
}

static int
run_create (struct ctl *ctl, const struct args *args)
{
  if (ctl->socket && args_value (args, "vm-state") != NULL)
    return fail_usage (args->command, "--vm-state is not for --socket: "
                       "clients would wait until the state is saved");
  return ctl->socket ? served_snapshot_create (ctl, args)
    : run (ctl, args, create);
}

const struct command cmd_snapshot_create = {
  .name = "snapshot create", .operands = "IMAGE NAME",
  .min_operands = 2, .max_operands = 2,
  .takes = TAKES_LAYERS | TAKES_NO_LOCK | TAKES_SOCKET,
  .options = create_options,
  .summary = "Take a snapshot of the disk", .run = run_create,
};

/* ---- One that there is ------------------------------------------------- */

static const struct option_spec by_id_options[] = {
  { "by-id", 0, NULL, "NAME is its id" },
  { NULL, 0, NULL, NULL }
};

static int
apply (struct image *i, const struct args *args, struct progress *p,
       struct qcow2_error *err)
{
  const struct qcow2_name name = value_name (args->operands[1]);
  const struct qcow2_progress progress = {
    .fn = progress_report, .opaque = p,
  };

  return qcow2_snapshot_apply (i->image, i->io, &name,
                               args_value (args, "by-id") != NULL, &progress,
                               err);
}

static int
run_apply (struct ctl *ctl, const struct args *args)
{
  return ctl->socket ? served_snapshot_apply (ctl, args)
    : run (ctl, args, apply);
}

const struct command cmd_snapshot_apply = {
  .name = "snapshot apply", .operands = "IMAGE NAME",
  .min_operands = 2, .max_operands = 2,
  .takes = TAKES_LAYERS | TAKES_NO_LOCK | TAKES_SOCKET,
  .options = by_id_options,
  .summary = "Make the disk what it was in a snapshot", .run = run_apply,
};

static int
delete (struct image *i, const struct args *args, struct progress *p,
        struct qcow2_error *err)
{
  const struct qcow2_name name = value_name (args->operands[1]);
  const struct qcow2_progress progress = {
    .fn = progress_report, .opaque = p,
  };

  return qcow2_snapshot_delete (i->image, i->io, &name,
                                args_value (args, "by-id") != NULL, &progress,
                                err);
}

static int
run_delete (struct ctl *ctl, const struct args *args)
{
  return ctl->socket ? served_snapshot_delete (ctl, args)
    : run (ctl, args, delete);
}

const struct command cmd_snapshot_delete = {
  .name = "snapshot delete", .operands = "IMAGE NAME",
  .min_operands = 2, .max_operands = 2,
  .takes = TAKES_LAYERS | TAKES_NO_LOCK | TAKES_SOCKET,
  .options = by_id_options,
  .summary = "Delete a snapshot", .run = run_delete,
};
