/* SPDX-License-Identifier: BSD-3-Clause */
/* places.h - the parameters that say which other files may be opened.
 *
 * 'places' belongs to the main thread until .after_fork has run; from then on
 * it is constant, and any thread may read it.
 */
#ifndef PLACES_H
#define PLACES_H

#include "host/rules.h"

extern struct rules places;

/* Returns 1 if the key is one of these, 0 if not, -1 and logs on error. */
extern int places_parse (const char *key, const char *value);
/* Whether they go together with what config knows by now; -1 and logs if
 * not.
 */
extern int places_complete (void);
/* Keeps secrets out of the swap. */
extern void places_after_fork (void);
/* Secrets are wiped. */
extern void places_unload (void);

#endif /* PLACES_H */
