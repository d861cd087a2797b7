/* SPDX-License-Identifier: BSD-3-Clause */
/* exportid.h - which local file an export of the plugin is.
 *
 * Names are those of the plugin.  No lock is taken.
 */
#ifndef BELOW_EXPORTID_H
#define BELOW_EXPORTID_H

struct file_id;
struct identity;

/* Identity of the local file behind an export name now; not known if there
 * is none.
 */
extern void export_id_get (struct file_id *id, const char *exportname);
/* As file_id_open. */
extern int export_id_open (const struct file_id *id, const char *exportname,
                           int flags);
/* What is below us under an export name.  The name must stay. */
extern struct identity identity_of_export (const struct file_id *id,
                                           const char *exportname);

#endif /* BELOW_EXPORTID_H */
