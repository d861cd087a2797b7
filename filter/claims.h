/* SPDX-License-Identifier: BSD-3-Clause */
/* claims.h - which files this process reads, and which it writes.
 *
 * Who takes a claim owns it; it must not move until it is released.  Any
 * thread may call these: the list has a lock of its own, the last to be taken.
 */
#ifndef CLAIMS_H
#define CLAIMS_H

#include <stdbool.h>
#include <sys/types.h>

struct file_id;

/* Which file something is, wherever that can be told. */
struct identity {
  enum { ID_UNKNOWN, ID_FILE, ID_DEVICE, ID_URI, ID_EXPORT } kind;
  dev_t dev;
  ino_t ino;
  const char *text;             /* whoever made it owns it */
};
extern bool identity_equal (const struct identity *a,
                            const struct identity *b);
/* What is below us under an export name. */
extern struct identity identity_of_export (const struct file_id *id,
                                           const char *exportname);

/* Somebody in this process uses a file.  All can read it, or one can write
 * to it.  All zeros: nobody does.
 */
struct claim {
  struct claim *next;
  struct identity id;
  bool writing;
};
/* Returns false if somebody else's claim is in the way. */
extern bool claim_take (struct claim *claim, const struct identity *id,
                        bool writing);
/* From reading to writing. */
extern bool claim_upgrade (struct claim *claim);
/* Nothing to do if it was not taken. */
extern void claim_release (struct claim *claim);

#endif /* CLAIMS_H */
