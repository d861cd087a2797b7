/* SPDX-License-Identifier: BSD-3-Clause */
/* lanes.c - contexts for background work below slower thread models.
 *
 * Owns      up to MAX_LANES shared contexts per image.
 * Method    under SERIALIZE_REQUESTS a context may run one request at a
 *           time, but several contexts may run at once, whoever opened
 *           them.  So reading ahead there uses contexts of its own, opened
 *           when first needed, by the thread that is going to use them.
 *           A lane that fails is closed, and opened again by its next
 *           user; one that cannot be opened is left alone for a while:
 *           plugins have reasons to refuse many connections.  When nobody
 *           uses the image the lanes are closed.
 *
 *           An image that is written to has no lanes: what another context
 *           of the plugin reads may be older than what was written.
 * Locks     lanes.lock guards which lane is busy; held for a few
 *           instructions.  All else in a busy lane belongs to who borrowed it,
 *           and nobody looks at it.
 */
#include "config.h"

#include "below/lanes.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "exports.h"
#include "report.h"
#include "settings.h"
#include "below/nbdkit_io.h"
#include "below/shared.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_LANES 6

/* How long a lane that could not be opened is left alone. */
#define RETRY_SECONDS 10

struct lane {
  struct below below;           /* first: the engine hands back its address */
  struct lanes *lanes;
  nbdkit_next *next;            /* NULL: not open */
  bool busy;
  time_t broken_until;          /* not to be tried before; 0: it works */
};

struct lanes {
  pthread_mutex_t lock;
  char *exportname;
  uint64_t size;
  bool idle;                    /* close what is given back */
  struct lane lane[MAX_LANES];
};

bool
lanes_possible (void)
{
  return config.thread_model == NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS &&
    config.names == NAMES_IGNORED && config.readahead > 0;
}

static time_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec;
}

/* ---- Contexts ---------------------------------------------------------- */

static void
lane_close (struct lane *lane)
{
  if (lane->next == NULL)
    return;
  shared_close (lane->next);
  lane->next = NULL;
}

static int
lane_open (struct lane *lane)
{
  (void) holds (lane->busy && lane->next == NULL);
  lane->next = shared_open (lane->lanes->exportname, true);
  if (lane->next == NULL)
    return -1;
  /* Another size: the file was replaced since the image was opened. */
  if (below_prepare (&lane->below, lane->next, false) == -1 ||
      lane->below.io.size != lane->lanes->size) {
    lane_close (lane);
    return -1;
  }
  return 0;
}

/* A lane is opened by the first read through it. */
static int
open_and_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
                enum qcow2_io_class class)
{
  struct lane *const lane = opaque;

  int r;

  if (lane->next == NULL && lane_open (lane) == -1) {
    lane->broken_until = now () + RETRY_SECONDS;
    return EIO;
  }
  r = lane->below.ops.pread (opaque, buf, count, host_off, class);
  if (r != 0)
    lane_close (lane);          /* perhaps the connection is dead */
  return r;
}

static void give_back (struct qcow2_io *io);

static const struct qcow2_io_ops lane_ops = {
  .pread = open_and_pread, .give_back = give_back,
};

/* ---- Lanes of an image -------------------------------------------------- */

struct lanes *
lanes_new (const char *exportname, uint64_t size)
{
  struct lanes *lanes = calloc (1, sizeof *lanes);

  if (lanes == NULL || (lanes->exportname = strdup (exportname)) == NULL) {
    free (lanes);
    return NULL;                /* there is just no reading ahead then */
  }
  lanes->size = size;
  pthread_mutex_init (&lanes->lock, NULL);
  for (size_t i = 0; i < MAX_LANES; ++i)
    lanes->lane[i].lanes = lanes;
  return lanes;
}

void
lanes_free (struct lanes *lanes)
{
  if (lanes == NULL)
    return;
  for (size_t i = 0; i < MAX_LANES; ++i) {
    (void) holds (!lanes->lane[i].busy &&
                  lanes->lane[i].below.borrowed == 0);
    lane_close (&lanes->lane[i]);
  }
  pthread_mutex_destroy (&lanes->lock);
  free (lanes->exportname);
  free (lanes);
}

/* Take an open lane that nobody uses, or NULL. */
static struct lane *
take_open_lane (struct lanes *lanes)
{
  struct lane *lane = NULL;

  pthread_mutex_lock (&lanes->lock);
  lanes->idle = true;           /* busy ones are closed by their users */
  for (size_t i = 0; i < MAX_LANES && lane == NULL; ++i)
    if (!lanes->lane[i].busy && lanes->lane[i].next != NULL)
      lane = &lanes->lane[i];
  if (lane)
    lane->busy = true;
  pthread_mutex_unlock (&lanes->lock);
  return lane;
}

static void
release_lane (struct lane *lane)
{
  pthread_mutex_lock (&lane->lanes->lock);
  (void) holds (lane->busy);
  lane->busy = false;
  pthread_mutex_unlock (&lane->lanes->lock);
}

/* When nobody uses the image any more the lane is closed, too. */
static void
give_back (struct qcow2_io *io)
{
  struct lane *const lane = io->opaque;
  bool idle;

  (void) holds (io->ops == &lane_ops);
  pthread_mutex_lock (&lane->lanes->lock);
  idle = lane->lanes->idle;
  pthread_mutex_unlock (&lane->lanes->lock);
  if (idle)
    lane_close (lane);
  release_lane (lane);
}

void
lanes_idle (struct lanes *lanes)
{
  struct lane *lane;

  while (lanes != NULL && (lane = take_open_lane (lanes)) != NULL) {
    lane_close (lane);
    release_lane (lane);
  }
}

static int
borrow (void *opaque, struct qcow2_io *ret_io)
{
  struct below *const below = opaque;
  struct lanes *const lanes = below->lanes;
  const time_t time = now ();
  struct lane *lane = NULL;

  pthread_mutex_lock (&lanes->lock);
  lanes->idle = false;
  for (size_t i = 0; i < MAX_LANES && lane == NULL; ++i)
    if (!lanes->lane[i].busy && lanes->lane[i].broken_until <= time)
      lane = &lanes->lane[i];
  if (lane)
    lane->busy = true;
  pthread_mutex_unlock (&lanes->lock);
  if (lane == NULL)
    return EBUSY;
  *ret_io = below->io;
  ret_io->ops = &lane_ops;
  ret_io->opaque = lane;
  ret_io->concurrent = false;
  return 0;
}

void
lanes_serve (struct lanes *lanes, struct below *below)
{
  /* Contexts of lanes are never lent further. */
  (void) holds (below->lanes == NULL && below->borrowed == 0);
  below->lanes = lanes;
  below->ops.borrow = borrow;
  below->ops.give_back = give_back;
}
