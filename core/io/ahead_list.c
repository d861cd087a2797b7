/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead_list.c - the list of ahead buffers.
 *
 * Owns      the order of the list, which is ascending, without overlaps; what
 *           the buffers count in the budget; their memory.
 * Method    a buffer that leaves the list while somebody uses it goes on being
 *           counted, until it is let go.
 * Locks     ahead.lock, which the callers hold; none while memory is freed.
 */
#include "config.h"

#include "io/ahead_impl.h"

#include "base/assume.h"
#include "base/buffer.h"

#include <stdlib.h>

void
q2_ahead_free_list (struct q2_ahead_buf *buf)
{
  while (buf) {
    struct q2_ahead_buf *const next = buf->next;

    q2_buffer_free (buf->bytes, buf->room);
    free (buf);
    buf = next;
  }
}

void
q2_ahead_list_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf)
{
  struct q2_ahead_buf **link = &ahead->first;

  q2_mutex_check_held (&ahead->lock);
  while (*link && (*link)->start < buf->start)
    link = &(*link)->next;
  buf->next = *link;
  *link = buf;
  ahead->bytes += buf->room;
  buf->listed = true;
  atomic_fetch_add_explicit (&ahead->nr_bufs, 1, memory_order_relaxed);
}

void
q2_ahead_unlist_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf)
{
  struct q2_ahead_buf **link = &ahead->first;

  q2_mutex_check_held (&ahead->lock);
  while (*link != NULL && *link != buf)
    link = &(*link)->next;
  if (!q2_check (*link == buf))
    return;
  *link = buf->next;
  buf->next = NULL;
  buf->listed = false;
  atomic_fetch_sub_explicit (&ahead->nr_bufs, 1, memory_order_relaxed);
}

void
q2_ahead_let_go_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf,
                        struct q2_ahead_buf **gone)
{
  q2_mutex_check_held (&ahead->lock);
  if (!q2_check (!buf->listed && buf->pins == 0 && !buf->loading))
    return;
  ahead->bytes -= buf->room;
  q2_budget_give (ahead->budget, buf->room);
  buf->next = *gone;
  *gone = buf;
}
