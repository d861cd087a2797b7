/* SPDX-License-Identifier: BSD-3-Clause */
/* rules.c - questions about which other files may be opened.
 *
 * Owns      nothing: the program owns the rules.
 * Locks     none: rules are constant.
 */
#include "config.h"

#include "host/rules.h"

struct passphrase
rules_passphrase (const struct rules *rules, size_t n)
{
  if (rules->nr_passphrases == 0)
    return (struct passphrase) { NULL, 0 };
  return rules->passphrases[rules_nth_passphrase (rules, n)];
}

size_t
rules_nth_passphrase (const struct rules *rules, size_t n)
{
  const size_t nr = rules->nr_passphrases;

  return nr == 0 ? 0 : n < nr ? n : nr - 1;
}
