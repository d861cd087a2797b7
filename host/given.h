/* SPDX-License-Identifier: BSD-3-Clause */
/* given.h - from the words of options to rules (rules.h).
 *
 * Who fills rules in owns them until rules_clear.  One thread does it.
 */
#ifndef HOST_GIVEN_H
#define HOST_GIVEN_H

#include "qcow2.h"
#include "host/rules.h"
#include "host/secrets.h"

enum rule_option {
  RULE_BACKING,
  RULE_BACKING_FORMAT,
  RULE_DATA_FILE,
  RULE_FOLLOW,
  RULE_PASSPHRASE,
};

struct rule_words {
  ask_fn ask;                   /* for a passphrase */
  const char *program;          /* "filter" */
  /* Why there are no exports, if "export:NAME" means one, but cannot be had;
   * NULL: it can be had.
   */
  const char *no_exports;
  bool exports;                 /* "export:NAME" means one */
};

/* No rules: nothing may be opened. */
#define RULES_INIT { .follow_fd = -1 }

/* One more option.  'key' is what it is called, in messages.  Returns -1 with
 * *err filled in.
 */
extern int rules_add (struct rules *rules, const struct rule_words *words,
                      enum rule_option option, const char *key,
                      const char *value, struct qcow2_error *err);
/* Keep passphrases out of the swap, and make the keyring for them. */
extern void rules_lock (struct rules *rules);
/* Secrets are wiped. */
extern void rules_clear (struct rules *rules);

/* A place by itself; the text of an option, as above. */
extern int place_parse (struct place *place, const struct rule_words *words,
                        const char *key, const char *value, bool exports,
                        struct qcow2_error *err);
extern void place_clear (struct place *place);

#endif /* HOST_GIVEN_H */
