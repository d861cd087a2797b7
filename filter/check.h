/* SPDX-License-Identifier: BSD-3-Clause */
/* check.h - a look at the image when the server starts.
 *
 * Only the main thread calls these.
 */
#ifndef CHECK_H
#define CHECK_H

/* In .get_ready: returns -1 and logs if the image is a local file that no
 * client could be served.
 */
extern int check_file (void);
/* In .after_fork: logs why clients would be refused, if they would. */
extern void check_image (void);

#endif /* CHECK_H */
