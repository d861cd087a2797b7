/* SPDX-License-Identifier: BSD-3-Clause */
/* parameters.h - the parameters of the command line.
 *
 * Only the main thread calls these, before there are others.
 */
#ifndef PARAMETERS_H
#define PARAMETERS_H

#include "nbdkit_api.h"

extern int config_parse (nbdkit_next_config *next, nbdkit_backend *nxdata,
                         const char *key, const char *value);
extern int config_complete (nbdkit_next_config_complete *next,
                            nbdkit_backend *nxdata);
/* What only the stack tells, once it has been scanned. */
extern void config_note_stack (void);
extern void config_unload (void);

#endif /* PARAMETERS_H */
