/* SPDX-License-Identifier: BSD-3-Clause */
/* follow.h - files beneath the folder that may be followed into.
 *
 * A descriptor that is returned becomes the caller's.
 */
#ifndef HOST_FOLLOW_H
#define HOST_FOLLOW_H

struct rules;

/* Look up a path, relative to the folder of qcow2-follow, that must not
 * leave it, with nothing opened but for looking.  Returns a descriptor that
 * stands for the regular file, -1 with errno set on error: EXDEV if it would
 * leave the folder, ELOOP because of a link, EINVAL if it is no regular file.
 *
 * In a folder beneath /dev to which only root can write, a name may also be,
 * or be a link to, a block device.
 */
extern int follow_find (const struct rules *rules, const char *path);
/* Open what such a descriptor stands for; -1 with errno set on error. */
extern int follow_open (int path_fd, int flags);
/* What that errno means. */
extern const char *follow_why_not_open (int errnum);
/* The part of an absolute path that lies in the folder, "" for the folder
 * itself; NULL if it lies elsewhere.
 */
extern const char *follow_beneath (const struct rules *rules,
                                   const char *path);

#endif /* HOST_FOLLOW_H */
