/* SPDX-License-Identifier: BSD-3-Clause */
/* rawnames.h - which exports are raw disks (qcow2-raw).
 *
 * The patterns belong to the main thread until the parameters have been read;
 * from then on they are constant, and any thread may ask.
 */
#ifndef RAWNAMES_H
#define RAWNAMES_H

#include <stdbool.h>

/* One more pattern.  Returns -1 and logs if it makes no sense. */
extern int raw_names_parse (const char *value);
/* When all parameters are known; -1 and logs if they do not go together. */
extern int raw_names_complete (void);
extern void raw_names_unload (void);

/* Whether the plugin's export of that name is a raw disk. */
extern bool raw_names_have (const char *exportname);

#endif /* RAWNAMES_H */
