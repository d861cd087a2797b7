/* SPDX-License-Identifier: BSD-3-Clause */
/* served_bitmaps.c - bitmaps of images that a server has open (-S), and
 * checkpoints.
 *
 * Owns      nothing; talk.c has the connection.
 * Method    one command of the server each, by the names that QEMU has for
 *           them.
 * Locks     none.
 */
#include "config.h"

#include "served.h"

#include "commands.h"
#include "lists.h"
#include "output.h"
#include "talk.h"
#include "values.h"

#include <stdio.h>

int
served_bitmap_add (const struct ctl *ctl, const struct args *args,
                   uint64_t granularity, bool disabled)
{
  const struct talk_argument arguments[] = {
    { .name = "node", .text = args->operands[0] },
    { .name = "name", .text = args->operands[1] },
    { .name = "persistent", .type = TALK_TRUE, .is_true = true },
    { .name = "granularity", .type = TALK_NUMBER, .number = granularity },
    { .name = "disabled", .type = TALK_TRUE, .is_true = disabled },
    { .name = NULL }
  };

  return talk_once (ctl, "block-dirty-bitmap-add", arguments, NULL);
}

int
served_bitmap_change (const struct ctl *ctl, const struct args *args,
                      const char *verb)
{
  const struct talk_argument arguments[] = {
    { .name = "node", .text = args->operands[0] },
    { .name = "name", .text = args->operands[1] },
    { .name = NULL }
  };
  char command[64];

  snprintf (command, sizeof command, "block-dirty-bitmap-%s", verb);
  return talk_once (ctl, command, arguments, NULL);
}

int
served_bitmap_merge (const struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "node", .text = args->operands[0] },
    { .name = "target", .text = args->operands[1] },
    { .name = "bitmaps", .type = TALK_TEXTS, .texts = args->operands + 2,
      .nr_texts = args->nr_operands - 2 },
    { .name = NULL }
  };

  return talk_once (ctl, "block-dirty-bitmap-merge", arguments, NULL);
}

/* ---- Lists -------------------------------------------------------------- */

static void
print_bitmaps (struct talk *t)
{
  const struct value *v;

  for (size_t i = 0; (v = talk_item (t, i)) != NULL; ++i) {
    const struct value *const more = talk_object (v, "nbdkit-qcow2");
    const struct qcow2_bitmap b = {
      .name = talk_text (v, "name"),
      .granularity = talk_number (v, "granularity"),
      .enabled = talk_has_item (v, "flags", "auto"),
      .in_use = talk_has_item (v, "flags", "in-use"),
      .kept_up = talk_is_true (more, "kept-up"),
      .why_unusable = talk_has (more, "why-unusable")
        ? talk_text (more, "why-unusable").bytes : NULL,
    };

    if (i == 0)
      bitmaps_print_heading ();
    bitmap_print (&b);
  }
}

int
served_bitmap_list (const struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "device", .text = args->operands[0] }, { .name = NULL }
  };

  return talk_once (ctl, "x-q2-query-bitmaps", arguments, print_bitmaps);
}

/* ---- Checkpoints -------------------------------------------------------- */

int
served_checkpoint (const struct ctl *ctl, const struct args *args,
                   uint64_t granularity)
{
  const struct talk_argument arguments[] = {
    { .name = "nodes", .type = TALK_TEXTS, .texts = args->operands,
      .nr_texts = args->nr_operands },
    { .name = "snapshot", .text = args_value (args, "snapshot") },
    { .name = "add", .text = args_value (args, "add") },
    { .name = "disable", .text = args_value (args, "disable") },
    { .name = "granularity", .type = TALK_NUMBER, .number = granularity },
    { .name = NULL }
  };

  return served_with_progress (ctl, "x-q2-checkpoint", arguments);
}
