/* SPDX-License-Identifier: BSD-3-Clause */
/* remedy.c - what can be done about a finding of a check.
 *
 * Owns      the words for it.
 * Locks     none; pure.
 */
#include "config.h"

#include "remedy.h"

enum qcow2_repair
remedy_repair (const struct qcow2_finding *f)
{
  if (f->severity == QCOW2_FINDING_LEAK)
    return f->unsure ? QCOW2_REPAIR_NONE : QCOW2_REPAIR_LEAKS;
  switch (f->kind) {
  case QCOW2_FINDING_REFCOUNT:
  case QCOW2_FINDING_COPIED:
  case QCOW2_FINDING_REFCOUNT_BLOCK:    /* be it one that cannot be read */
  case QCOW2_FINDING_SHORT_SNAPSHOT:
    return QCOW2_REPAIR_ALL;
  default:
    return QCOW2_REPAIR_NONE;
  }
}

const char *
remedy_words (const struct qcow2_finding *f)
{
  if (f->severity == QCOW2_FINDING_WARNING)
    return "harmless";
  if (f->severity == QCOW2_FINDING_LEAK && f->unsure)
    return "it may be in use, and stays unless all references can be found";
  switch (remedy_repair (f)) {
  case QCOW2_REPAIR_LEAKS:
    return "--repair leaks frees it";
  case QCOW2_REPAIR_ALL:
    if (f->severity == QCOW2_FINDING_ERROR)
      return "--repair all writes all refcounts anew, elsewhere; see to the "
        "disk or server that holds the file first";
    return f->kind == QCOW2_FINDING_REFCOUNT_BLOCK
      ? "--repair all corrects it, or writes refcounts anew"
      : "--repair all corrects it";
  case QCOW2_REPAIR_REBUILD:
  case QCOW2_REPAIR_NONE:
    break;
  }
  switch (f->kind) {
  case QCOW2_FINDING_HEADER:
    return "--repair all corrects marks and the place of the refcount table, "
      "nothing else";
  case QCOW2_FINDING_TOO_MANY:
    return "delete snapshots, or copy the image to one with wider refcounts";
  case QCOW2_FINDING_SNAPSHOT_TABLE:
    return "no repair: copy the disk from a server with 'nbdkit -r "
      "--filter=qcow2'; this snapshot and those behind it are lost";
  case QCOW2_FINDING_BITMAP_DIRECTORY:
    return "'bitmap remove --broken' drops what cannot be used; the next "
      "backup must be a full one";
  case QCOW2_FINDING_UNREADABLE:
    return "see to the disk or server that holds the file, and check again";
  default:
    return "no repair can know what was there: restore a backup, or copy what "
      "can be read with 'qemu-img convert'";
  }
}
