/* SPDX-License-Identifier: BSD-3-Clause */
/* views.c - see views.h.
 *
 * Locks     none; each thread has its own random numbers.
 */
#include "config.h"

#include "views.h"

#include "stops.h"

struct qcow2_name
view_name (const char *name)
{
  return (struct qcow2_name) { name, strlen (name) };
}

struct qcow2_image *
view_open (struct qcow2_image *image, const struct qcow2_io *io,
           enum qcow2_view_kind kind, const char *name)
{
  const struct qcow2_name n = view_name (name);
  struct qcow2_error err;
  struct qcow2_image *const view =
    qcow2_open_view (image, io, kind, &n, &err);

  if (!unit_check (view != NULL, __FILE__, __LINE__, "view '%s': %s", name,
                   view ? "" : err.text))
    exit (unit_finish ());
  return view;
}

void
view_refuse (struct qcow2_image *image, const struct qcow2_io *io,
             enum qcow2_view_kind kind, const char *name,
             enum qcow2_error_kind error, const char *part)
{
  const struct qcow2_name n = view_name (name);
  struct qcow2_error err = { .text = "" };
  struct qcow2_image *const view =
    qcow2_open_view (image, io, kind, &n, &err);

  if (!CHECK (view == NULL)) {
    qcow2_close (view);
    return;
  }
  CHECK_EQ (err.kind, error);
  CHECK (err.errnum > 0);
  unit_check (strstr (err.text, part) != NULL, __FILE__, __LINE__,
              "'%s' not in: %s", part, err.text);
}

/* ---- Pieces ------------------------------------------------------------ */

/* Of a window: mostly short ones, sometimes all that is left. */
static uint64_t
choose_len (struct rng *rng, uint64_t left)
{
  const uint64_t most = rng_below (rng, 4) ? 20000 : 2000000;
  const uint64_t len = 1 + rng_below (rng, most);

  return len < left ? len : left;
}

static bool
read_piece (struct qcow2_image *view, const struct qcow2_io *io,
            unsigned char *buf, uint64_t guest_off, uint64_t len)
{
  struct qcow2_error err;

  memset (buf, 0xd3, len);
  return unit_check (qcow2_pread (view, io, buf, (uint32_t) len, guest_off,
                                  &err) == 0,
                     __FILE__, __LINE__, "read 0x%" PRIx64 "+0x%" PRIx64
                     ": %s", guest_off, len, err.text);
}

struct seen {
  struct qcow2_image *view;
  const struct qcow2_io *io;
  uint64_t next, base;
  const unsigned char *bytes;   /* of the window */
  unsigned char *target;        /* data is copied to; NULL: nowhere */
  bool first;
  enum qcow2_extent_type last;
  view_expect_fn expect;        /* NULL: anything may be data */
  void *arg;
};

static bool
is_zero (const unsigned char *p, uint64_t len)
{
  while (len > 0 && *p == 0)
    ++p, --len;
  return len == 0;
}

static void
check_expected (struct seen *s, uint64_t from, uint64_t end, bool data)
{
  while (from < end) {
    uint64_t to;
    const bool expected = s->expect (s->arg, from, &to);

    if (!unit_check (data == expected, __FILE__, __LINE__, "0x%" PRIx64
                     " is %s", from, data ? "data" : "zero"))
      return;
    from = to;
  }
}

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  struct seen *const s = opaque;
  const uint64_t at = guest_off - s->base;

  CHECK_EQ (guest_off, s->next);
  CHECK (len > 0);
  CHECK (s->first || type != s->last);
  s->first = false;
  s->last = type;
  s->next = guest_off + len;
  if (s->expect) {
    check_expected (s, guest_off, s->next, type != QCOW2_EXTENT_ZERO);
    if (type == QCOW2_EXTENT_ZERO_ALLOCATED)
      CHECK (is_zero (s->bytes + at, len));
  }
  else if (s->target == NULL && type != QCOW2_EXTENT_DATA)
    CHECK (is_zero (s->bytes + at, len));
  if (s->target && type == QCOW2_EXTENT_DATA)
    read_piece (s->view, s->io, s->target + at, guest_off, len);
  else if (s->target && type == QCOW2_EXTENT_ZERO_ALLOCATED)
    memset (s->target + at, 0, len);
  return 0;
}

/* In pieces, unless 'whole'. */
static void
see_extents (struct seen *s, struct rng *rng, uint64_t len, bool whole)
{
  const uint64_t end = s->base + len;

  s->next = s->base;
  while (s->next < end) {
    const uint64_t from = s->next;
    const uint64_t n = whole ? len : choose_len (rng, end - from);
    struct qcow2_error err;

    s->first = true;
    if (!unit_check (qcow2_extents (s->view, s->io, n, from, see_extent, s,
                                    &err) == 0,
                     __FILE__, __LINE__, "extents: %s", err.text) ||
        !CHECK_EQ (s->next, from + n))
      return;
  }
  if (whole)
    stops_check (s->view, s->io, len, s->base);
}

/* ---- Bytes ------------------------------------------------------------- */

static void
compare_bytes (struct qcow2_image *view, const struct qcow2_io *io,
               struct rng *rng, const unsigned char *bytes, uint64_t base,
               uint64_t len)
{
  unsigned char *const buf = malloc (len);
  uint64_t at = 0;

  REQUIRE (buf != NULL);
  while (at < len) {
    const uint64_t n = choose_len (rng, len - at);

    if (!read_piece (view, io, buf, base + at, n) ||
        !CHECK_BYTES (buf, bytes + at, n))
      break;
    at += n;
  }
  free (buf);
}

void
view_compare (struct qcow2_image *view, const struct qcow2_io *io,
              struct rng *rng, const unsigned char *bytes, uint64_t base,
              uint64_t len)
{
  struct seen s = { .view = view, .io = io, .base = base, .bytes = bytes };

  CHECK_EQ (qcow2_get_info (view).virtual_size, base + len);
  compare_bytes (view, io, rng, bytes, base, len);
  see_extents (&s, rng, len, rng_below (rng, 2));
}

void
view_apply (struct qcow2_image *view, const struct qcow2_io *io,
            struct rng *rng, unsigned char *bytes, uint64_t base,
            uint64_t len)
{
  struct seen s = { .view = view, .io = io, .base = base, .target = bytes };

  CHECK_EQ (qcow2_get_info (view).virtual_size, base + len);
  see_extents (&s, rng, len, rng_below (rng, 2));
}

void
view_check_mask (struct qcow2_image *view, const struct qcow2_io *io,
                 struct rng *rng, view_expect_fn fn, void *arg,
                 const unsigned char *bytes, uint64_t base, uint64_t len)
{
  struct seen s = {
    .view = view, .io = io, .base = base, .expect = fn, .arg = arg,
    .bytes = bytes,
  };
  unsigned char *const shown = calloc (1, len);
  uint64_t at = 0;

  REQUIRE (shown != NULL);
  see_extents (&s, rng, len, true);
  see_extents (&s, rng, len, false);
  while (at < len) {
    uint64_t to;

    if (fn (arg, base + at, &to))
      memcpy (shown + at, bytes + at,
              (to - base < len ? to - base : len) - at);
    at = to - base;
  }
  compare_bytes (view, io, rng, shown, base, len);
  free (shown);
}
