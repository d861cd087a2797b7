/* SPDX-License-Identifier: BSD-3-Clause */
/* exports.h - the names of exports.  It knows nothing of nbdkit, so that it
 * can be tested without.
 *
 * An image's own name, which is the plugin's business, means the active
 * disk.  What an image has inside is named by that and
 *   snapshot/NAME, snapshot-id/ID, bitmap/NAME, diff/A..B or layer/N
 * with a slash in between, unless the image's name is empty.
 */
#ifndef EXPORTS_H
#define EXPORTS_H

#include "qcow2.h"

/* What the export name means to the plugin below us.  A filter is not told
 * which plugin that is, so this is concluded from the plugin's parameters,
 * and UNKNOWN where they do not tell.
 */
enum export_names {
  NAMES_IGNORED,                /* every name is the same image */
  NAMES_ARE_FILES,              /* a file of that name in config.dir */
  NAMES_UNKNOWN,
};

/* The longest name that NBD has. */
#define EXPORT_NAME_MAX 4096

/* The parts of a name; points into it. */
struct export_name {
  size_t base_len;              /* of the image's own name, its beginning */
  const char *view;             /* the rest, or NULL: the active disk */
  enum qcow2_view_kind kind;
  struct qcow2_name name;       /* the rest of the rest */
};

extern void export_name_parse (struct export_name *ret, const char *text,
                               enum export_names names);

/* The name of a view of an image.  Returns false if there is none: it would
 * be too long, mean something else, or is nothing to show to a client: empty,
 * no UTF-8, or with control characters.
 */
extern bool export_name_format (char ret[EXPORT_NAME_MAX + 1],
                                const char *base, enum qcow2_view_kind kind,
                                const struct qcow2_name *name,
                                enum export_names names);

/* For people, one line each; what does not fit is cut off. */
#define EXPORT_DESCRIPTION_SIZE 256
extern void export_describe_disk (char ret[EXPORT_DESCRIPTION_SIZE],
                                  struct qcow2_info info);
/* with_name: the export is not named by it. */
extern void export_describe_snapshot (char ret[EXPORT_DESCRIPTION_SIZE],
                                      const struct qcow2_snapshot *snapshot,
                                      bool with_name);
extern void export_describe_bitmap (char ret[EXPORT_DESCRIPTION_SIZE],
                                    const struct qcow2_bitmap *bitmap);
extern void export_describe_layer (char ret[EXPORT_DESCRIPTION_SIZE],
                                   unsigned number);

/* Whether it is all that can be had of an image without its backing file. */
extern bool export_is_top_layer (const struct export_name *name);

/* The length of the UTF-8 character that some bytes begin with, or 0 if they
 * begin with none, or with a control character.
 */
extern size_t export_char_len (const char *bytes, size_t len);

/* Any bytes as text for messages: what is not printable is escaped, and what
 * does not fit replaced by "...".
 */
extern void export_escape (char *ret, size_t size, const char *bytes,
                           size_t len);

#endif /* EXPORTS_H */
