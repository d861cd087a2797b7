/* SPDX-License-Identifier: BSD-3-Clause */
/* claims.h - which files this process reads, and which it writes.
 *
 * Who takes a claim owns it; it must not move until it is released.  Any
 * thread may call these: the list has a lock of its own, the last to be taken.
 */
#ifndef HOST_CLAIMS_H
#define HOST_CLAIMS_H

#include <stdbool.h>
#include <sys/types.h>

struct host_env;
struct stat;

/* Which file something is, wherever that can be told. */
struct identity {
  enum { ID_UNKNOWN, ID_FILE, ID_DEVICE, ID_URI, ID_EXPORT } kind;
  dev_t dev;
  ino_t ino;
  const char *text;             /* whoever made it owns it */
};
/* From what fstat says; false if it is neither a regular file nor a block
 * device.
 */
extern bool identity_of_file (const struct stat *st, struct identity *ret)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern bool identity_equal (const struct identity *a,
                            const struct identity *b);

/* Somebody in this process uses a file.  All can read it, or one can write
 * to it.  All zeros: nobody does.
 */
struct claim {
  struct claim *next;
  struct identity id;
  bool writing;
  const struct host_env *env;   /* of who has taken it */
};
/* Returns false if somebody else's claim is in the way.  Claims of all envs
 * are in each other's way.
 */
extern bool claim_take (const struct host_env *env, struct claim *claim,
                        const struct identity *id, bool writing);
/* From reading to writing. */
extern bool claim_upgrade (struct claim *claim);
/* Nothing to do if it was not taken. */
extern void claim_release (struct claim *claim);

#endif /* HOST_CLAIMS_H */
