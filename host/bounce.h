/* SPDX-License-Identifier: BSD-3-Clause */
/* bounce.h - reading from local files through bounce buffers.
 *
 * Reading a cached file is a copy, by the kernel.  Some processors copy at a
 * fraction of their speed if the destination lies a few bytes further into its
 * page than the source into its own.  Servers' buffers do: malloc returns
 * large pieces 16 bytes past the beginning of a page, and clusters begin with
 * one.  Where that is slow, reading to another place and copying from there
 * takes less time than reading directly.
 *
 * Any thread may get and put, and several at a time.
 */
#ifndef HOST_BOUNCE_H
#define HOST_BOUNCE_H

#include "qcow2.h"

struct host_env;

/* Reads of this many bytes are worth it, up to the second number. */
#define BOUNCE_MIN UINT32_C (4096)
#define BOUNCE_MAX (UINT32_C (2) << 20)

/* What a buffer takes of the budget. */
#define BOUNCE_BYTES (BOUNCE_MAX + UINT32_C (4096))

enum bounce_mode {
  BOUNCE_AUTO,                  /* if a measurement says that it is faster */
  BOUNCE_LOCAL,                 /* as if it had said so */
  BOUNCE_ALL,                   /* any read of up to BOUNCE_MAX bytes */
  BOUNCE_NEVER,
};

/* The program may call it once, before there are other threads: the result of
 * the measurement is logged to 'env', and buffers are counted in 'budget', of
 * which they take 'max_bytes' at most.  Both may be NULL.  By default the mode
 * is BOUNCE_AUTO, and only their number limits the buffers, to 32 MiB.  If it
 * is given here, malloc is also made to return blocks of up to 1 MiB at places
 * that seldom need a buffer.
 */
extern void bounce_setup (enum bounce_mode mode, const struct host_env *env,
                          struct qcow2_budget *budget, uint64_t max_bytes);

/* Where to read 'count' bytes at 'host_off' to that are wanted in 'buf':
 * there, or in a buffer, whose contents are undefined.  'local': the read is
 * going to be a copy by the kernel.  The first call for a read that may be
 * worth it measures for about a millisecond.
 */
extern void *bounce_get (void *buf, uint32_t count, uint64_t host_off,
                         bool local)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* To be called after the read with what bounce_get returned.  'done': the
 * bytes are there, and are copied to 'buf'.
 */
extern void bounce_put (void *got, void *buf, uint32_t count, bool done)
  __attribute__ ((__nonnull__));

/* Free the buffers that are not in use. */
extern void bounce_trim (void);

#endif /* HOST_BOUNCE_H */
