/* SPDX-License-Identifier: BSD-3-Clause */
/* views.c - what an image has inside, opened as images of their own.
 *
 * Owns      the views of each disk: snapshots, bitmaps and differences.
 * Method    a view is opened once, by the first connection that wants it,
 *           and shared by all; who comes meanwhile waits, and tries himself
 *           if that fails.  When the last has gone it is kept for the next
 *           connection, since clients probe, leave and come back; only a few
 *           are kept, the latest, and none when memory is short.  Those that
 *           show what is written to at the same time are not: opening one anew
 *           tells whether that is still possible.
 *
 *           Views end before the disk does.  Connections give theirs back
 *           before they give back the disk's state, so there are only idle
 *           ones left then.
 * Locks     views.lock guards the list and the fields marked (L); it is
 *           never held over I/O.
 */
#include "config.h"

#include "share/views.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "exports.h"
#include "logs.h"
#include "report.h"
#include "share/disk.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_IDLE 4

struct view {
  struct view *next;            /* (L) */
  unsigned users;               /* (L) connections, and who opens it */
  bool ready;                   /* (L) false: being opened */
  char *text;                   /* what clients call it: "snapshot/NAME" */
  struct export_name name;      /* points into that */
  char *label;                  /* for messages */
  struct qcow2_image *image;    /* constant once ready */
};

void
views_init (struct views *v)
{
  pthread_mutex_init (&v->lock, NULL);
  pthread_cond_init (&v->changed, NULL);
  v->first = NULL;
}

void
views_destroy (struct views *v)
{
  (void) holds (v->first == NULL);
  pthread_cond_destroy (&v->changed);
  pthread_mutex_destroy (&v->lock);
}

/* ---- One view ---------------------------------------------------------- */

static void
view_free (struct view *view)
{
  if (view == NULL)
    return;
  (void) holds (!view->ready || view->image != NULL);
  log_stats (view->label, view->image, false);
  qcow2_close (view->image);
  free (view->text);
  free (view->label);
  free (view);
}

static struct view *
view_new (const struct disk *d, const struct export_name *name)
{
  struct view *view = calloc (1, sizeof *view);
  char text[200];

  if (view == NULL)
    goto fail;
  export_escape (text, sizeof text, name->view, strlen (name->view));
  if (asprintf (&view->label, "%s%s%s", d->name,
                d->name[0] == '\0' ? "" : ": ", text) == -1)
    view->label = NULL;
  view->text = strdup (name->view);
  view->users = 1;
  if (view->label == NULL || view->text == NULL)
    goto fail;
  export_name_parse (&view->name, view->text, NAMES_IGNORED);
  return view;

 fail:
  view_free (view);
  nbdkit_error ("qcow2: out of memory for a connection");
  return NULL;
}

/* ---- The list ---------------------------------------------------------- */

static void
unlink_locked (struct views *v, struct view *view)
{
  struct view **link;

  for (link = &v->first; *link && *link != view; link = &(*link)->next)
    ;
  if (holds (*link != NULL))
    *link = view->next;
}

/* Most recently used first. */
static void
push_locked (struct views *v, struct view *view)
{
  view->next = v->first;
  v->first = view;
}

static struct view *
find_locked (struct views *v, const char *text)
{
  struct view *view = v->first;

  while (view && strcmp (view->text, text) != 0)
    view = view->next;
  return view;
}

/* Take an idle view out of the list, if there are more than that many. */
static struct view *
take_surplus_locked (struct views *v, unsigned most)
{
  unsigned idle = 0;

  for (struct view *view = v->first; view; view = view->next) {
    (void) holds (view->users > 0 || view->ready);
    if (view->users == 0 && ++idle > most) {
      unlink_locked (v, view);
      return view;
    }
  }
  return NULL;
}

static void
free_idle (struct disk *d, unsigned most)
{
  struct views *const v = &d->views;
  struct view *view;

  do {
    pthread_mutex_lock (&v->lock);
    view = take_surplus_locked (v, most);
    pthread_mutex_unlock (&v->lock);
    view_free (view);
  } while (view != NULL);
}

static void
free_surplus (struct disk *d)
{
  free_idle (d, qcow2_is_short_of_memory (d->image) ? 0 : MAX_IDLE);
}

void
views_close_idle (struct disk *d)
{
  free_idle (d, 0);
}

/* Also those of connections that have ended without a word. */
void
views_close (struct views *v)
{
  struct view *view;

  while ((view = v->first) != NULL) {
    v->first = view->next;
    view_free (view);
  }
}

/* ---- Acquire and release ----------------------------------------------- */

/* The lock is held on entry and on return, but not in between. */
static struct view *
open_locked (struct disk *d, const struct qcow2_io *io, struct view *view)
{
  struct views *const v = &d->views;
  struct qcow2_image *image;
  struct qcow2_error error;

  (void) holds (find_locked (v, view->text) == NULL);
  push_locked (v, view);
  pthread_mutex_unlock (&v->lock);
  image = qcow2_open_view (d->image, io, view->name.kind, &view->name.name,
                           &error);
  if (image == NULL)
    errno = report (view->label, &error);
  pthread_mutex_lock (&v->lock);
  (void) holds (!view->ready && view->users == 1);
  pthread_cond_broadcast (&v->changed);
  if (image == NULL) {
    unlink_locked (v, view);
    return NULL;
  }
  nbdkit_debug ("qcow2: %s: opened: disk of %" PRIu64 " bytes", view->label,
                qcow2_get_info (image).virtual_size);
  view->image = image;
  view->ready = true;
  return view;
}

/* Whoever is not given 'fresh' frees it. */
static struct view *
acquire_locked (struct disk *d, const struct qcow2_io *io,
                struct view *fresh)
{
  struct views *const v = &d->views;

  for (;;) {
    struct view *const view = find_locked (v, fresh->text);

    if (view == NULL)
      return open_locked (d, io, fresh);
    if (view->ready) {
      (void) holds (view->image != NULL);
      view->users++;
      unlink_locked (v, view);
      push_locked (v, view);
      return view;
    }
    pthread_cond_wait (&v->changed, &v->lock);
  }
}

struct view *
view_acquire (struct disk *d, const struct qcow2_io *io,
              const struct export_name *name)
{
  struct view *const fresh = view_new (d, name);
  struct view *view;
  int saved_errno;

  if (fresh == NULL)
    return NULL;
  free_surplus (d);
  pthread_mutex_lock (&d->views.lock);
  view = acquire_locked (d, io, fresh);
  saved_errno = errno;
  pthread_mutex_unlock (&d->views.lock);
  if (view != fresh)
    view_free (fresh);
  errno = saved_errno;
  return view;
}

/* A difference may be one to the active disk. */
static bool
shows_active_disk (const struct view *view)
{
  return view->name.kind == QCOW2_VIEW_BITMAP ||
    view->name.kind == QCOW2_VIEW_DIFF;
}

void
view_release (struct disk *d, struct view *view)
{
  struct views *const v = &d->views;
  bool last, keep;

  (void) holds (view->ready);
  keep = !d->writable || !shows_active_disk (view);
  pthread_mutex_lock (&v->lock);
  last = view->users == 1;
  pthread_mutex_unlock (&v->lock);
  /* While it is still ours; if somebody comes meanwhile, this has cost him
   * a little.
   */
  if (last && keep)
    qcow2_idle (view->image);

  pthread_mutex_lock (&v->lock);
  last = false;
  if (holds (view->users > 0))
    last = --view->users == 0;
  if (last && !keep)
    unlink_locked (v, view);
  pthread_mutex_unlock (&v->lock);
  if (last && !keep)
    view_free (view);
  free_surplus (d);
}

struct qcow2_image *
view_image (const struct view *view)
{
  return view->image;
}

const char *
view_label (const struct view *view)
{
  return view->label;
}

/* ---- Descriptions ------------------------------------------------------ */

struct describe {
  const struct view *view;
  char *ret;
};

static bool
is_name (const struct describe *d, const struct qcow2_name *name)
{
  const struct qcow2_name *const wanted = &d->view->name.name;

  return name->len == wanted->len &&
    memcmp (name->bytes, wanted->bytes, name->len) == 0;
}

static int
describe_snapshot (void *opaque, const struct qcow2_snapshot *s)
{
  const struct describe *const d = opaque;
  const bool by_id = d->view->name.kind == QCOW2_VIEW_SNAPSHOT_ID;

  if (!is_name (d, by_id ? &s->id : &s->name))
    return 0;
  export_describe_snapshot (d->ret, s, by_id);
  return 1;
}

static int
describe_bitmap (void *opaque, const struct qcow2_bitmap *b)
{
  const struct describe *const d = opaque;

  if (!is_name (d, &b->name))
    return 0;
  export_describe_bitmap (d->ret, b);
  return 1;
}

void
view_describe (const struct view *view, struct disk *d,
               const struct qcow2_io *io, char ret[EXPORT_DESCRIPTION_SIZE])
{
  struct describe describe = { view, ret };
  struct qcow2_error error;
  int r = 0;

  ret[0] = '\0';
  switch (view->name.kind) {
  case QCOW2_VIEW_SNAPSHOT:
  case QCOW2_VIEW_SNAPSHOT_ID:
    r = qcow2_list_snapshots (d->image, io, describe_snapshot, &describe,
                              &error);
    break;
  case QCOW2_VIEW_BITMAP:
    r = qcow2_list_bitmaps (d->image, io, describe_bitmap, &describe,
                            &error);
    break;
  case QCOW2_VIEW_DIFF:
    snprintf (ret, EXPORT_DESCRIPTION_SIZE, "difference of snapshots");
    break;
  case QCOW2_VIEW_LAYER:
    export_describe_layer (ret, (unsigned)
                           strtoul (view->name.name.bytes, NULL, 10));
    break;
  }
  if (r == -1)
    report (view->label, &error);
}
