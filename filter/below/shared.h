/* SPDX-License-Identifier: BSD-3-Clause */
/* shared.h - contexts of the layer below that belong to no connection.
 *
 * Who opens one owns it until shared_close.
 */
#ifndef BELOW_SHARED_H
#define BELOW_SHARED_H

#include "nbdkit_api.h"

#include <stdbool.h>

/* The layer below us, for opening contexts. */
extern void shared_set_backend (nbdkit_backend *backend);

/* A context that any thread may use, prepared; NULL and logs on error. */
extern nbdkit_next *shared_open (const char *exportname, bool readonly);
extern void shared_close (nbdkit_next *next);

#endif /* BELOW_SHARED_H */
