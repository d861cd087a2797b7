/* SPDX-License-Identifier: BSD-3-Clause */
/* list.h - nbdkit's callback for the list of exports.
 */
#ifndef LIST_H
#define LIST_H

#include "nbdkit_api.h"

extern int list_exports (nbdkit_next_list_exports *next,
                         nbdkit_backend *nxdata, int readonly, int is_tls,
                         struct nbdkit_exports *exports);

#endif /* LIST_H */
