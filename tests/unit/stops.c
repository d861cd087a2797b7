/* SPDX-License-Identifier: BSD-3-Clause */
/* stops.c - see stops.h.
 *
 * Locks     none.
 */
#include "config.h"

#include "stops.h"

#include <errno.h>

/* Of a map with more extents than that only some of them are tried. */
#define MAX_STOPS 48

struct extent {
  uint64_t guest_off, len;
  enum qcow2_extent_type type;
};

struct stops {
  struct qcow2_image *image;
  const struct qcow2_io *io;
  uint64_t guest_off, end;

  struct extent *full;          /* what there is, from end to end */
  size_t nr, room;
};

/* ---- All of it ------------------------------------------------------- */

static int
keep_extent (void *opaque, uint64_t guest_off, uint64_t len,
             enum qcow2_extent_type type)
{
  struct stops *const s = opaque;

  if (s->nr == s->room) {
    s->room = s->room ? 2 * s->room : 64;
    s->full = realloc (s->full, s->room * sizeof *s->full);
    REQUIRE (s->full != NULL);
  }
  s->full[s->nr++] = (struct extent) { guest_off, len, type };
  return 0;
}

/* ---- A part of it ---------------------------------------------------- */

struct part {
  const struct stops *s;
  size_t calls, stop_after;
  int stop_with;
};

static int
see_part (void *opaque, uint64_t guest_off, uint64_t len,
          enum qcow2_extent_type type)
{
  struct part *const p = opaque;
  const size_t i = p->calls++;

  if (unit_check (i < p->stop_after, __FILE__, __LINE__, "called again after "
                  "it had stopped at extent %zu", p->stop_after)) {
    CHECK_EQ (guest_off, p->s->full[i].guest_off);
    CHECK_EQ (len, p->s->full[i].len);
    CHECK_EQ (type, p->s->full[i].type);
  }
  if (p->calls < p->stop_after)
    return 0;
  errno = EXDEV;
  return p->stop_with;
}

static void
stop_at (const struct stops *s, size_t nr, int stop_with)
{
  struct part p = { .s = s, .stop_after = nr, .stop_with = stop_with };
  struct qcow2_error err = { .errnum = 0 };
  const int r = qcow2_extents (s->image, s->io, s->end - s->guest_off,
                               s->guest_off, see_part, &p, &err);

  CHECK_EQ (p.calls, nr);
  if (stop_with == 1)
    CHECK_EQ (r, 0);
  else if (CHECK_EQ (r, -1)) {
    CHECK_EQ (err.kind, QCOW2_ERR_IO);
    CHECK_EQ (err.errnum, EXDEV);
  }
}

/* ---- One after the other --------------------------------------------- */

struct one {
  struct extent extent;
  unsigned calls;
};

static int
see_one (void *opaque, uint64_t guest_off, uint64_t len,
         enum qcow2_extent_type type)
{
  struct one *const one = opaque;

  one->extent = (struct extent) { guest_off, len, type };
  one->calls++;
  return 1;
}

/* The host is not asked about every short run, so a hole of the file may
 * look like data.
 */
static void
check_one (const struct stops *s, const struct extent *e)
{
  for (size_t i = 0; i < s->nr; ++i) {
    const struct extent *const full = &s->full[i];

    if (full->guest_off + full->len <= e->guest_off)
      continue;
    if (full->guest_off >= e->guest_off + e->len)
      break;
    unit_check (e->type == full->type ||
                (e->type == QCOW2_EXTENT_DATA &&
                 full->type == QCOW2_EXTENT_ZERO_ALLOCATED),
                __FILE__, __LINE__, "one at a time, 0x%" PRIx64 "+0x%" PRIx64
                " is of type %d, not %d", e->guest_off, e->len, e->type,
                full->type);
  }
}

/* With the range up to the end each time, or with less. */
static void
one_at_a_time (const struct stops *s, unsigned part)
{
  uint64_t pos = s->guest_off;
  size_t asked = 0;

  while (pos < s->end && asked++ < 4 * MAX_STOPS) {
    const uint64_t len = (s->end - pos + part - 1) / part;
    struct one one = { .calls = 0 };
    struct qcow2_error err;

    if (!unit_check (qcow2_extents (s->image, s->io, len, pos, see_one, &one,
                                    &err) == 0,
                     __FILE__, __LINE__, "one at a time: %s", err.text) ||
        !CHECK_EQ (one.calls, 1) || !CHECK_EQ (one.extent.guest_off, pos) ||
        !CHECK (one.extent.len > 0 && one.extent.len <= len))
      return;
    check_one (s, &one.extent);
    pos += one.extent.len;
  }
}

void
stops_check (struct qcow2_image *image, const struct qcow2_io *io,
             uint64_t len, uint64_t guest_off)
{
  struct stops s = {
    .image = image, .io = io, .guest_off = guest_off, .end = guest_off + len,
  };
  struct qcow2_error err;
  size_t step;

  if (!unit_check (qcow2_extents (image, io, len, guest_off, keep_extent, &s,
                                  &err) == 0,
                   __FILE__, __LINE__, "extents: %s", err.text)) {
    free (s.full);
    return;
  }
  step = 1 + s.nr / MAX_STOPS;
  for (size_t nr = 1; nr <= s.nr; nr += nr + step > s.nr && nr < s.nr
         ? s.nr - nr : step) {
    stop_at (&s, nr, 1);
    stop_at (&s, nr, -1);
  }
  one_at_a_time (&s, 1);
  one_at_a_time (&s, 2);
  free (s.full);
}
