/* SPDX-License-Identifier: BSD-3-Clause */
/* local_file.h - a file of the machine as a host of images. */
#ifndef LOCAL_FILE_H
#define LOCAL_FILE_H

#include "qcow2.h"

struct local_file {
  int fd;
  struct qcow2_io io;
};

/* What can be done to a local file; opaque is a pointer to its descriptor. */
extern const struct qcow2_io_ops local_file_ops;
/* On a host that cannot tell what is a hole. */
extern const struct qcow2_io_ops local_file_blind_ops;

/* False with errno set. */
extern bool local_file_open (struct local_file *f, const char *name,
                             int flags);
extern void local_file_close (struct local_file *f);

#endif /* LOCAL_FILE_H */
