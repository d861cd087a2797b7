/* SPDX-License-Identifier: BSD-3-Clause */
/* holders.h - who has a file locked. */
#ifndef HOLDERS_H
#define HOLDERS_H

/* Prints a line for each process that has the open file locked, as far as this
 * user may know; nothing if nobody is found.
 */
extern void holders_print (int fd, const char *name);

#endif /* HOLDERS_H */
