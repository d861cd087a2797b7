/* SPDX-License-Identifier: BSD-3-Clause */
/* qemu.h - checks images with QEMU.
 *
 * Runs qemu-img, several at a time, on images in a folder in memory (a
 * tmpfs) that is removed at the end.
 */
#ifndef CRASH_QEMU_H
#define CRASH_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exits with UNIT_SKIP if qemu-img is not installed. */
extern void qemu_init (void);
extern void qemu_finish (void);

/* The path of a file of that name in the folder. */
extern void qemu_path (char *buf, size_t len, const char *name);

/* Run a command line (a format, "%s" is not escaped) in the folder; show its
 * output if it does not exit with 'expect'.
 */
extern void qemu_run (int expect, const char *fmt, ...)
  __attribute__ ((__format__ (printf, 2, 3)));
/* The same; returns the exit status. */
extern int qemu_status (const char *fmt, ...)
  __attribute__ ((__format__ (printf, 1, 2)));

/* The bytes of a file in the folder; the caller frees them. */
extern unsigned char *qemu_load (const char *name, uint64_t *ret_size);
extern void qemu_save (const char *name, const void *bytes, uint64_t size);

/* The image that commands of a shell make in the folder, with the name i. */
extern unsigned char *qemu_make (const char *commands, uint64_t *ret_size);

/* ---- Other files ------------------------------------------------------- */

/* Further input of QEMU; it finds backing files in the folder. */
struct qemu_files {
  const char *options;          /* ",NAME=VALUE..." of --image-opts */
  const void *data;             /* the data file, NULL: there is none */
  uint64_t data_size;
};

/* The passphrase of all encrypted images, and QEMU's object with it. */
#define QEMU_PASSPHRASE "crash"
#define QEMU_SECRET "secret0"
#define QEMU_OBJECT                                                           \
  "--object secret,id=" QEMU_SECRET ",data=" QEMU_PASSPHRASE

/* Arguments of any of QEMU's programs: the image of that name in the folder,
 * with those options, and that data file if it is not NULL.
 */
extern const char *qemu_image (char *buf, size_t len, const char *name,
                               const char *options, const char *data);
#define QEMU_IMAGE 960          /* enough bytes for it */

/* ---- In the background -------------------------------------------------- */

enum qemu_want {
  QEMU_SOUND,                   /* check exits with 0, or 3 (leaks) */
  QEMU_CLEAN,                   /* check exits with 0 */
  QEMU_REPAIRED,                /* check -r all, then check exits with 0 */
  QEMU_CORRUPT,                 /* check exits with 1 or 2 */
};

/* Check a copy of these bytes, with a copy of files->data if 'files' is not
 * NULL, and compare QEMU's copy of the disk with 'disk' if that is not NULL.
 * A failure is a failed CHECK with 'what' in it; then the image is kept.
 */
extern void qemu_submit (const void *bytes, uint64_t size,
                         const struct qemu_files *files,
                         enum qemu_want want, const void *disk,
                         uint64_t disk_size, const char *what);
/* Wait until all jobs are done. */
extern void qemu_wait (void);
/* The numbers of checks and of copies of disks. */
extern unsigned long qemu_checks (void), qemu_reads (void);

#endif /* CRASH_QEMU_H */
