/* SPDX-License-Identifier: BSD-3-Clause */
/* host_files.h - a program around host/, for its tests: a folder with files
 * and images, rules, and a log that can be looked at.
 *
 * One test owns it, from one thread, but for the log: any thread may log.
 */
#ifndef HOST_FILES_H
#define HOST_FILES_H

#include "host/chain.h"
#include "host/env.h"
#include "host/rules.h"

#include <pthread.h>

#define HOST_DISK_SIZE (256 * 1024)
#define HOST_CLUSTER 65536

struct host_files {
  char *folder;                 /* absolute, without links */
  struct rules rules;           /* at first: nothing may be opened */
  struct host_env env;          /* with these; locks are on */
  pthread_mutex_t lock;
  char log[4096];               /* guarded by lock: the lines, one after the
                                   other */
  pthread_barrier_t *meet;      /* or NULL: threads wait for each other there
                                   with the first layer they open */
  _Atomic unsigned closed;      /* backing images that have been closed */
};

extern void host_files_init (struct host_files *h);
/* Removes all files, too. */
extern void host_files_destroy (struct host_files *h);
/* From now on files beneath the folder are followed. */
extern void host_files_follow (struct host_files *h);
/* This thread waits at the barrier once more. */
extern void host_files_meet_again (void);
extern void host_files_forget_log (struct host_files *h);
/* Whether a line with that text has been logged. */
extern bool host_files_logged (struct host_files *h, const char *text);

/* The path of a name in the folder; lasts until the next but three. */
extern const char *host_path (const struct host_files *h, const char *name);
/* A file of HOST_DISK_SIZE bytes. */
extern void host_write_raw (const struct host_files *h, const char *name,
                            unsigned char byte);
/* An image of that size, of which nothing is allocated.  The reference's name,
 * and its format, may be NULL.
 */
extern void host_write_overlay (const struct host_files *h, const char *name,
                                const char *backing, const char *format);
/* One with a data file, in which guest cluster 0 is, and perhaps a backing
 * image.
 */
extern void host_write_with_data (const struct host_files *h,
                                  const char *name, const char *data_file,
                                  const char *backing);

/* An image of a file, with the chain below it. */
struct host_image {
  struct other *file;
  struct layers layers;
  struct qcow2_image *image;
};
/* Returns 0, or -1 with *err filled in and nothing to close. */
extern int host_image_open (struct host_image *i, const struct host_files *h,
                            const char *name, bool writable,
                            struct qcow2_error *err);
extern void host_image_close (struct host_image *i);
/* The first byte of a guest cluster. */
extern unsigned char host_image_byte (const struct host_image *i,
                                      unsigned guest_cluster);

#endif /* HOST_FILES_H */
