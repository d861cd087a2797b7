/* SPDX-License-Identifier: BSD-3-Clause */
/* scans.h - what long scans have found, remembered for a while.
 *
 * The list owns copies of all it is given.  It has a lock of its own, the last
 * to be taken.
 */
#ifndef SHARE_SCANS_H
#define SHARE_SCANS_H

#include "qcow2.h"

struct file_id;

/* What the last scan of this very file has found, which took long and is not
 * long ago.
 */
extern bool scans_find (const char *exportname, const struct file_id *id,
                        struct qcow2_scan *ret_scan);
/* Remember it, if it took long.  'id' is from before the scan. */
extern void scans_note (const char *exportname, const struct file_id *id,
                        const struct qcow2_scan *scan);
extern void scans_unload (void);

#endif /* SHARE_SCANS_H */
