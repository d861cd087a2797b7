/* SPDX-License-Identifier: BSD-3-Clause */
/* frame.h - where messages begin and end in what a peer has sent.
 *
 * Messages are JSON objects, one after the other, with or without white space
 * between them.  Bounds are checked here, before anything is parsed.
 */
#ifndef CONTROL_FRAME_H
#define CONTROL_FRAME_H

#include <stddef.h>

/* Of a message. */
#define FRAME_MAX_BYTES ((size_t) 65536)
#define FRAME_MAX_DEPTH 16

enum frame {
  FRAME_PARTIAL,                /* more bytes are needed */
  FRAME_MESSAGE,
  FRAME_GARBAGE,                /* a line that is no message, to be skipped */
  FRAME_TOO_LONG,               /* nothing more can be made of that peer */
  FRAME_TOO_DEEP,
};

/* What 'bytes' begins with: after *ret_skip bytes of white space, *ret_len
 * bytes of message or garbage.
 */
extern enum frame frame_find (const char *bytes, size_t len, size_t *ret_skip,
                              size_t *ret_len);

#endif /* CONTROL_FRAME_H */
