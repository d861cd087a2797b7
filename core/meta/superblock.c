/* SPDX-License-Identifier: BSD-3-Clause */
/* superblock.c - reads, plans, writes and publishes the header.
 *
 * Owns      the header area of the file, from the moment the image is open.
 * Method    copy the parts of what is in the file, let the caller edit them,
 *           plan, carry the plan out with a flush after each write, decode
 *           what is there now, and publish that.  Headers that were current
 *           are kept until the end, since readers hold no lock and no
 *           reference; each is a few hundred bytes.
 * Locks     sb->lock over all of a change.
 */
#include "config.h"

#include "format/header_plan.h"
#include "meta/superblock.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

int
q2_superblock_init (struct q2_superblock *sb, const void *bytes, size_t len,
                    const struct q2_header *header, struct qcow2_error *err)
{
  struct q2_superblock_version *const first = calloc (1, sizeof *first);
  unsigned char *const area = malloc (len);

  memset (sb, 0, sizeof *sb);
  if (first == NULL || area == NULL) {
    free (first);
    free (area);
    return q2_fail_nomem (err, "the image header");
  }
  memcpy (area, bytes, len);
  sb->area.data = area;
  sb->area.len = len;
  first->header = *header;
  pthread_mutex_init (&sb->lock, NULL);
  atomic_init (&sb->current, first);
  return 0;
}

void
q2_superblock_destroy (struct q2_superblock *sb)
{
  struct q2_superblock_version *v = atomic_load (&sb->current);

  if (v == NULL)
    return;
  while (v) {
    struct q2_superblock_version *const older = v->older;

    free (v);
    v = older;
  }
  free (sb->area.data);
  pthread_mutex_destroy (&sb->lock);
  atomic_store (&sb->current, NULL);
}

/* ---- Changing it ------------------------------------------------------ */

static int
check_atomic (const struct q2_header_plan *plan, unsigned flags,
              struct qcow2_error *err)
{
  if (plan->atomic || (flags & Q2_SUPERBLOCK_FORCE))
    return 0;
  return q2_fail (err, QCOW2_ERR_NO_SPACE, 0,
                  "the header cannot be changed safely: the old and the new "
                  "one do not fit into the first cluster together, so a "
                  "crash in between could destroy the image");
}

/* Not known how far it got the last time: what the file has is what counts. */
static int
read_area (struct q2_superblock *sb, const struct q2_io *io,
           struct qcow2_error *err)
{
  const struct q2_header *const h = q2_superblock_header (sb);
  const size_t len = (size_t) 1 << h->cluster_bits;
  unsigned char *const area = malloc (len);

  if (area == NULL)
    return q2_fail_nomem (err, "the image header");
  if (q2_io_read (io, area, len, 0, QCOW2_IO_HEADER, err) == -1) {
    free (area);
    return -1;
  }
  free (sb->area.data);
  sb->area = (struct q2_bytes) { area, len };
  sb->uncertain = false;
  return 0;
}

static int
carry_out (struct q2_superblock *sb, const struct q2_io *io,
           const struct q2_header_plan *plan, struct qcow2_error *err)
{
  for (size_t i = 0; i < plan->nr_writes; ++i) {
    const struct q2_header_write *const w = &plan->writes[i];

    sb->uncertain = true;
    if (q2_io_write (io, w->bytes, w->len, w->off, QCOW2_IO_HEADER, err) == -1
        || q2_io_flush (io, err) == -1)
      return -1;
  }
  return 0;
}

/* Writes what the plan says and makes it current; takes plan->after. */
static int
write_and_publish (struct q2_superblock *sb, const struct q2_io *io,
                   struct q2_header_plan *plan, struct qcow2_error *err)
{
  struct q2_superblock_version *const v = calloc (1, sizeof *v);
  struct q2_geometry geo;

  if (v == NULL)
    return q2_fail_nomem (err, "the image header");
  if (q2_header_decode (plan->after, plan->len, &v->header, &geo, err) == -1 ||
      carry_out (sb, io, plan, err) == -1) {
    free (v);
    return -1;
  }
  free (sb->area.data);
  sb->area = (struct q2_bytes) { plan->after, plan->len };
  plan->after = NULL;
  sb->uncertain = false;
  v->older = atomic_load_explicit (&sb->current, memory_order_relaxed);
  atomic_store_explicit (&sb->current, v, memory_order_release);
  return 0;
}

static int
change_parts (struct q2_superblock *sb, const struct q2_io *io,
              const struct q2_header_parts *parts, unsigned flags,
              struct qcow2_error *err)
{
  struct q2_header_plan plan;
  int r;

  if (q2_header_plan (&plan, sb->area.data, sb->area.len, parts, err) == -1)
    return -1;
  r = check_atomic (&plan, flags, err);
  if (r == 0)
    r = write_and_publish (sb, io, &plan, err);
  q2_header_plan_free (&plan);
  return r;
}

static int
change_locked (struct q2_superblock *sb, const struct q2_io *io,
               q2_superblock_edit_fn edit, void *opaque, unsigned flags,
               struct qcow2_error *err)
{
  struct q2_header_parts parts;
  int r;

  if (sb->uncertain && read_area (sb, io, err) == -1)
    return -1;
  if (q2_header_parts_load (&parts, sb->area.data, sb->area.len, err) == -1)
    return -1;
  r = edit (opaque, &parts, err);
  if (r == 0)
    r = change_parts (sb, io, &parts, flags, err);
  q2_header_parts_free (&parts);
  return r;
}

int
q2_superblock_change (struct q2_superblock *sb, const struct q2_io *io,
                      q2_superblock_edit_fn edit, void *opaque,
                      unsigned flags, struct qcow2_error *err)
{
  int r;

  pthread_mutex_lock (&sb->lock);
  r = change_locked (sb, io, edit, opaque, flags, err);
  pthread_mutex_unlock (&sb->lock);
  return r;
}
