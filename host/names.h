/* SPDX-License-Identifier: BSD-3-Clause */
/* names.h - what a name and a format in a header mean.
 *
 * Nothing is opened, and no lock taken.  Lengths are in bytes.
 */
#ifndef HOST_NAMES_H
#define HOST_NAMES_H

#include "qcow2.h"
#include "host/rules.h"

/* Bytes from an image as text for messages: in quotes, everything unusual
 * escaped, cut short if it is long.
 */
#define PRINTABLE_SIZE 160
extern const char *printable (char out[PRINTABLE_SIZE], const char *bytes,
                              size_t len);

/* The path that a name in a header stands for, in *path.  Returns NULL, or
 * why it stands for none: the rest of the sentence "the name ...".
 */
#define NAME_SIZE 1024
extern const char *name_to_path (const struct qcow2_reference *reference,
                                 char path[NAME_SIZE]);
/* The same for a name that a new header is to have: NULL if someone will open
 * it.  'elsewhere': it is not opened here and now, so what QEMU takes for a
 * protocol will do, too.
 */
extern const char *name_to_refuse (const char *name, bool elsewhere);
/* The folder that a path is in, absolute and without links; NULL if there is
 * none.  The caller frees it.
 */
extern char *folder_of (const char *path);
/* FORMAT_UNKNOWN if it is none that is served. */
extern enum layer_format name_to_format (const char *name, size_t len);
/* "backing file" or "data file" */
extern const char *reference_kind (const struct qcow2_reference *reference);

#endif /* HOST_NAMES_H */
