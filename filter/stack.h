/* SPDX-License-Identifier: BSD-3-Clause */
/* stack.h - which filters are above and below us, and which plugin.
 *
 * The main thread scans in .get_ready; then any thread may ask.
 */
#ifndef STACK_H
#define STACK_H

#include <stdbool.h>

/* To be called once, in .get_ready. */
extern void stack_scan (void);
extern void stack_unload (void);
/* It is certain that a filter of that name is below us. */
extern bool stack_has_filter (const char *name);
extern bool stack_has_filter_above (const char *name);
/* A filter below (or above) us hands on the extents of what is below it,
 * although it has other bytes: what it calls a hole may be data.
 */
extern bool stack_extents_mislead (bool above);
/* It is certain that nothing is between us and the plugin of that name. */
extern bool stack_is_plugin_alone (const char *name);

#endif /* STACK_H */
