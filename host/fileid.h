/* SPDX-License-Identifier: BSD-3-Clause */
/* fileid.h - which local file something is.
 *
 * Values only: a struct file_id owns nothing, and takes no lock.
 */
#ifndef HOST_FILEID_H
#define HOST_FILEID_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

/* Which local file an image is, as far as that can be told. */
struct file_id {
  bool known;                   /* a regular file */
  bool device;                  /* a block device; dev is its number */
  bool changing;                /* it changed while it was being opened */
  bool replaced;                /* it became another file meanwhile */
  bool perishable;              /* may change without a trace */
  int errnum;                   /* it cannot be looked at, for this reason */
  dev_t dev;
  ino_t ino;
  off_t size;
  struct timespec mtime, ctime;
};

/* What a path leads to now; neither known nor a device if that is nothing. */
extern void file_id_get (struct file_id *id, const char *path);
/* The same, and unchanged. */
extern bool file_id_equal (const struct file_id *a, const struct file_id *b);
/* The same, whatever it holds now. */
extern bool file_id_same_file (const struct file_id *a,
                               const struct file_id *b);
/* An open file descriptor of it.  -1 if there is no such file, with errno
 * ENOENT, or if 'id' is not what the path leads to now, ESTALE, or on error.
 */
extern int file_id_open (const struct file_id *id, const char *path,
                         int flags);

/* 1 if the file begins as images do, 0 if not, -1 if it cannot be read. */
extern int file_is_image (int fd);

#endif /* HOST_FILEID_H */
