/* SPDX-License-Identifier: BSD-3-Clause */
/* frame.c - where messages begin and end in what a peer has sent.
 *
 * Owns      the bounds of a message.
 * Method    brackets are counted outside of strings.  Whether it is JSON the
 *           parser decides; there the brackets match or it fails.
 * Locks     none: nothing is kept.
 */
#include "config.h"

#include "control/frame.h"

#include "qcow2.h"

#include <stdbool.h>
#include <string.h>

static bool
is_space (char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct scan {
  bool in_string, escaped;
  unsigned depth;
};

static void
step (struct scan *s, char c)
{
  if (s->escaped)
    s->escaped = false;
  else if (s->in_string && c == '\\')
    s->escaped = true;
  else if (c == '"')
    s->in_string = !s->in_string;
  else if (!s->in_string && (c == '{' || c == '['))
    s->depth++;
  /* A message begins with a bracket, and ends with the last one. */
  else if (!s->in_string && (c == '}' || c == ']') &&
           qcow2_holds (s->depth > 0))
    s->depth--;
}

static enum frame
find_garbage (const char *bytes, size_t len, size_t *ret_len)
{
  const char *const newline = memchr (bytes, '\n', len);

  *ret_len = newline ? (size_t) (newline - bytes) + 1 : len;
  if (newline != NULL)
    return FRAME_GARBAGE;
  return len >= FRAME_MAX_BYTES ? FRAME_TOO_LONG : FRAME_PARTIAL;
}

enum frame
frame_find (const char *bytes, size_t len, size_t *ret_skip, size_t *ret_len)
{
  struct scan s = { .depth = 0 };
  size_t skip = 0;

  while (skip < len && is_space (bytes[skip]))
    skip++;
  *ret_skip = skip;
  *ret_len = 0;
  bytes += skip;
  len -= skip;
  if (len == 0)
    return FRAME_PARTIAL;
  if (bytes[0] != '{')
    return find_garbage (bytes, len, ret_len);
  for (size_t i = 0; i < len; ++i) {
    if (i == FRAME_MAX_BYTES)
      return FRAME_TOO_LONG;
    step (&s, bytes[i]);
    if (s.depth > FRAME_MAX_DEPTH)
      return FRAME_TOO_DEEP;
    if (s.depth == 0) {
      *ret_len = i + 1;
      return FRAME_MESSAGE;
    }
  }
  return len >= FRAME_MAX_BYTES ? FRAME_TOO_LONG : FRAME_PARTIAL;
}
