/* SPDX-License-Identifier: BSD-3-Clause */
/* verify.h - checks the states after a crash.
 *
 * Checks each state: the metadata with fsck.h and with QEMU; the disk, as the
 * engine and sometimes QEMU read it, against the ledger; and a raw data file,
 * too.
 */
#ifndef CRASH_VERIFY_H
#define CRASH_VERIFY_H

#include "fsck.h"
#include "ledger.h"
#include "recipe.h"
#include "replay.h"

struct verifier {
  struct ledger_cut cut;
  const char *name;             /* of the workload, for messages */
  unsigned qemu_percent;        /* of the states with new metadata */
  unsigned read_percent;        /* of those: the disk too */
  bool quiet;                   /* count failures, say nothing */
  struct layers *layers;        /* backing files of the image */
  const char *qemu_options;     /* see struct qemu_files */
  bool data_raw;                /* the data file must equal the disk */

  unsigned long states;         /* different ones */
  unsigned long looks;          /* also of states seen before with fewer
                                   guarantees */
  unsigned long failures;
  char first[600];              /* the first of them */

  struct seen *states_seen, *metadata_seen;
  unsigned char *disk;
  uint64_t random;
};

extern void verifier_init (struct verifier *v, const struct ledger *l,
                           const char *name, struct recipe_image *image,
                           const struct recipe *r);
extern void verifier_free (struct verifier *v);

/* A state_fn: false after the first failure. */
extern bool verifier_look (void *verifier, const struct state *state);

/* Check the file after qcow2_end: clean, and no leaks but those that were
 * there before.  Stores the disk in v->disk.
 */
extern bool verifier_look_at_end (struct verifier *v,
                                  const struct state *state,
                                  const struct fsck *before);

#endif /* CRASH_VERIFY_H */
