/* SPDX-License-Identifier: BSD-3-Clause */
/* logs.h - what images that are open have to say.
 *
 * Any thread may call these.  Names and texts stay the caller's.
 */
#ifndef LOGS_H
#define LOGS_H

#include "qcow2.h"

/* For qcow2_options; opaque is the name. */
extern void log_from_engine (void *opaque, enum qcow2_log_level level,
                             const char *text, enum qcow2_advice advice);
/* -D qcow2.stats=1, and what comes of it. */
extern bool log_counts (void);
extern void log_stats (const char *name, const struct qcow2_image *image,
                       bool writing);
/* A warning that is worth saying only once in a row, however often clients
 * cause it.
 */
extern void log_once (const char *name, const char *text);
/* Why clients cannot write to an image, and what to do about it. */
extern void log_read_only (const char *name, const char *why,
                           enum qcow2_advice advice);

/* Names of enum qcow2_io_class, for the log. */
extern const char *const io_class_names[QCOW2_IO_NR_CLASSES];

#endif /* LOGS_H */
