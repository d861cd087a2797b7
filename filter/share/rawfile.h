/* SPDX-License-Identifier: BSD-3-Clause */
/* rawfile.h - the file behind a raw disk, while clients use it.
 *
 * Who acquires one must release it.  No lock may be held: files are opened and
 * locked here.
 */
#ifndef SHARE_RAWFILE_H
#define SHARE_RAWFILE_H

#include <stdbool.h>

struct file_id;
struct rawfile;

/* Claim and lock the file behind an export, for all connections to it.  'id'
 * is from before the plugin opened it.  Returns NULL and logs on error.
 */
extern struct rawfile *rawfile_acquire (const char *exportname,
                                        const struct file_id *id,
                                        bool readonly);
/* Once the plugin has opened it: whether it is the same file.  Logs. */
extern bool rawfile_is_behind (const struct rawfile *file,
                               const char *exportname);
/* Whether it was claimed and locked for writing. */
extern bool rawfile_is_writable (const struct rawfile *file);
extern void rawfile_release (struct rawfile *file);

#endif /* SHARE_RAWFILE_H */
