/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_key.c - "key list", "key add", "key change", "key remove".
 *
 * Owns      that a passphrase is changed by adding the new one first.
 * Method    the engine changes key slots of an image that is only inspected,
 *           so no other file is opened, and the disk is not decrypted.
 * Locks     QEMU's locks for writing, but for the list.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "output.h"
#include "terminal.h"

#include "host/rules.h"
#include "host/secrets.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What there is -------------------------------------------------- */

static void
print_json (const struct qcow2_luks *luks)
{
  struct value *const v = value_object (), *const slots = value_array ();

  for (unsigned n = 0; n < QCOW2_NR_KEY_SLOTS; ++n) {
    const struct qcow2_key_slot *const s = &luks->slots[n];
    struct value *const slot = value_object ();

    value_set (slot, "slot", value_number (n));
    value_set (slot, "active", value_bool (s->active));
    if (s->active) {
      value_set (slot, "iters", value_number (s->iterations));
      value_set (slot, "stripes", value_number (s->stripes));
    }
    value_append (slots, slot);
  }
  value_set (v, "uuid", value_text (luks->uuid));
  value_set (v, "slots", slots);
  value_print (v);
}

static void
print (const struct qcow2_luks *luks)
{
  printf ("SLOT    ACTIVE  ITERATIONS\n");
  for (unsigned n = 0; n < QCOW2_NR_KEY_SLOTS; ++n)
    if (luks->slots[n].active)
      printf ("%-8uyes     %" PRIu32 "\n", n, luks->slots[n].iterations);
    else
      printf ("%-8uno\n", n);
}

static int
run_list (struct ctl *ctl, const struct args *args)
{
  struct qcow2_details *details;
  struct qcow2_error err;
  struct image i;
  int code = image_open (ctl, &i, args->operands[0], OPEN_TO_INSPECT);

  if (code != CODE_OK)
    return code;
  details = qcow2_get_details (i.image, i.io, &err);
  if (details == NULL)
    code = fail_error (i.name, &err);
  else if (details->luks == NULL)
    code = fail_code (CODE_FAILED, "%s is not encrypted with LUKS, so it has "
                      "no keys", i.name);
  else if (ctl->json)
    print_json (details->luks);
  else if (!ctl->quiet)
    print (details->luks);
  qcow2_details_free (details);
  return image_close (&i, code);
}

const struct command cmd_key_list = {
  .name = "key list", .operands = "IMAGE",
  .min_operands = 1, .max_operands = 1, .takes = TAKES_SHARE,
  .summary = "List the key slots of an encrypted image", .run = run_list,
};

/* ---- Changes -------------------------------------------------------- */

struct job {
  struct ctl *ctl;
  const struct args *args;
  struct passphrase old, new;
  int slot;                     /* or QCOW2_ANY_SLOT */
  unsigned iter_time;
  struct image i;
};

/* A small number of an option that need not be there. */
static int
number (const struct args *args, const char *name, long most, long absent,
        long *ret)
{
  const char *const value = args_value (args, name);
  char *end;

  *ret = absent;
  if (value == NULL)
    return CODE_OK;
  *ret = strtol (value, &end, 10);
  if (end != value && *end == '\0' && *ret >= 0 && *ret <= most)
    return CODE_OK;
  return fail_usage (args->command, "--%s must be a number from 0 to %ld, not "
                     "'%s'", name, most, value);
}

static int
read_passphrase (struct job *job, const char *name, bool needed,
                 struct passphrase *ret)
{
  const char *const value = args_value (job->args, name);
  struct qcow2_error err;
  char key[40];

  if (value == NULL)
    return needed ? fail_usage (job->args->command, "--%s is missing", name)
      : CODE_OK;
  snprintf (key, sizeof key, "--%s", name);
  if (passphrase_read (ret, key, value, terminal_ask, &err) == -1)
    return fail_error (NULL, &err);
  passphrase_lock (ret);
  return CODE_OK;
}

static int
parse (struct job *job, bool needs_old, bool needs_new)
{
  long slot, ms;
  int code = number (job->args, "slot", QCOW2_NR_KEY_SLOTS - 1,
                     QCOW2_ANY_SLOT, &slot);

  if (code == CODE_OK)
    code = number (job->args, "iter-time", 1000000, 0, &ms);
  if (code != CODE_OK)
    return code;
  job->slot = (int) slot;
  job->iter_time = (unsigned) ms;
  code = read_passphrase (job, "passphrase", needs_old, &job->old);
  return code == CODE_OK && needs_new
    ? read_passphrase (job, "new-passphrase", true, &job->new) : code;
}

static int
add (struct job *job, unsigned *ret_slot)
{
  struct qcow2_error err;

  if (qcow2_add_key (job->i.image, job->i.io, job->old.bytes, job->old.len,
                     job->new.bytes, job->new.len, job->slot, job->iter_time,
                     ret_slot, &err) == -1)
    return fail_error (job->i.name, &err);
  return CODE_OK;
}

/* Those that open with the old passphrase, or the one that is named. */
static int
remove_keys (struct job *job, int slot, unsigned *ret_removed)
{
  const bool force = args_value (job->args, "force") != NULL;
  struct qcow2_error err;

  if (qcow2_remove_key (job->i.image, job->i.io, job->old.bytes, job->old.len,
                        slot, force, ret_removed, &err) == 0)
    return CODE_OK;
  return err.kind == QCOW2_ERR_REFUSED
    ? fail_code (CODE_FAILED, "%s: %s; --force does it", job->i.name,
                 err.text) : fail_error (job->i.name, &err);
}

static void
say (const struct job *job, const char *what, unsigned slots)
{
  for (unsigned n = 0; n < QCOW2_NR_KEY_SLOTS; ++n)
    if (slots >> n & 1 && !job->ctl->quiet && !job->ctl->json)
      printf ("Key slot %u is %s\n", n, what);
}

typedef int (*change_fn) (struct job *job);

static int
run (struct ctl *ctl, const struct args *args, bool needs_old, bool needs_new,
     change_fn change)
{
  struct job job = { .ctl = ctl, .args = args };
  int code = parse (&job, needs_old, needs_new);

  if (code == CODE_OK)
    code = image_open (ctl, &job.i, args->operands[0], OPEN_TO_CHANGE_KEYS);
  if (code == CODE_OK)
    code = image_close (&job.i, change (&job));
  passphrase_wipe (&job.old);
  passphrase_wipe (&job.new);
  return code;
}

#define PASSPHRASE                                                            \
  { "passphrase", 0, "+FILE|-FD|-",                                           \
    "one that opens the image now: the first line of a\n"                     \
    "file, of a descriptor, or asked for" }
#define NEW_PASSPHRASE                                                        \
  { "new-passphrase", 0, "+FILE|-FD|-", "one that is to open it" }
#define ITER_TIME                                                             \
  { "iter-time", 0, "MS",                                                     \
    "how long a guess is to take, default 2000" }

/* ---- key add -------------------------------------------------------- */

static int
change_add (struct job *job)
{
  unsigned slot;
  const int code = add (job, &slot);

  if (code == CODE_OK)
    say (job, "active", 1u << slot);
  return code;
}

static int
run_add (struct ctl *ctl, const struct args *args)
{
  return run (ctl, args, true, true, change_add);
}

static const struct option_spec add_options[] = {
  ITER_TIME, NEW_PASSPHRASE, PASSPHRASE,
  { "slot", 0, "N", "which slot, 0 to 7; default: the first free one" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_key_add = {
  .name = "key add", .operands = "IMAGE",
  .min_operands = 1, .max_operands = 1, .takes = TAKES_NO_LOCK,
  .options = add_options,
  .summary = "Let another passphrase open an encrypted image",
  .run = run_add,
};

/* ---- key change ----------------------------------------------------- */

/* A crash in between leaves both. */
static int
change_change (struct job *job)
{
  unsigned slot, removed;
  int code;

  if (job->old.len == job->new.len &&
      memcmp (job->old.bytes, job->new.bytes, job->old.len) == 0)
    return fail_code (CODE_FAILED, "the new passphrase is the old one");
  code = add (job, &slot);
  if (code != CODE_OK)
    return code;
  say (job, "active", 1u << slot);
  if (remove_keys (job, QCOW2_ANY_SLOT, &removed) != CODE_OK)
    return fail_code (CODE_CHANGED, "%s: the new passphrase opens it; see "
                      "'qcow2ctl key list' for whether the old one does, too",
                      job->i.name);
  say (job, "removed", removed);
  return CODE_OK;
}

static int
run_change (struct ctl *ctl, const struct args *args)
{
  return run (ctl, args, true, true, change_change);
}

static const struct option_spec change_options[] = {
  ITER_TIME, NEW_PASSPHRASE, PASSPHRASE,
  { NULL, 0, NULL, NULL }
};

const struct command cmd_key_change = {
  .name = "key change", .operands = "IMAGE",
  .min_operands = 1, .max_operands = 1, .takes = TAKES_NO_LOCK,
  .options = change_options,
  .summary = "Replace a passphrase of an encrypted image by another",
  .run = run_change,
};

/* ---- key remove ----------------------------------------------------- */

static int
change_remove (struct job *job)
{
  unsigned removed;
  int code;

  if ((job->slot == QCOW2_ANY_SLOT) == (job->old.bytes == NULL))
    return fail_usage (job->args->command, "give either --slot or "
                       "--passphrase, of what is to be removed");
  code = remove_keys (job, job->slot, &removed);
  if (code == CODE_OK)
    say (job, "removed", removed);
  return code;
}

static int
run_remove (struct ctl *ctl, const struct args *args)
{
  return run (ctl, args, false, false, change_remove);
}

static const struct option_spec remove_options[] = {
  { "force", 0, NULL,
    "also the last one: nobody can read the disk then" },
  { "passphrase", 0, "+FILE|-FD|-", "remove the slots that it opens" },
  { "slot", 0, "N", "remove this slot, 0 to 7" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_key_remove = {
  .name = "key remove", .operands = "IMAGE",
  .min_operands = 1, .max_operands = 1, .takes = TAKES_NO_LOCK,
  .options = remove_options,
  .summary = "Remove a passphrase of an encrypted image", .run = run_remove,
};
