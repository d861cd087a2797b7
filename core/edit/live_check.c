/* SPDX-License-Identifier: BSD-3-Clause */
/* live_check.c - checks an image while others write to it.
 *
 * Owns      the passes and windows of such a check, and its result.
 * Method    one window after the other: a walk finds suspects (check/live.h).
 *           Then, in rounds (live_rounds.c):
 *
 *             watch   with the gate closed for a moment: no request is between
 *                     taking a cluster and linking it
 *             drain   what was let go before, and still counts, is free
 *             count   the references of suspects
 *             judge   those that nobody has touched
 *
 *           What was touched is a suspect of the next round; after some rounds
 *           it is left undecided, and nothing is said of it.
 *
 *           References change otherwise only by edits of the image, which hold
 *           the gate from their beginning to their end, or close it when they
 *           begin and say when they end: then the round, or the walk, is done
 *           once more, after it.  An edit never waits for a check for longer
 *           than judging takes.
 *
 *           A repair is a second pass, after one that has seen everything:
 *           only then is it known that no reference was missed.
 * Locks     the gate is closed, or entered, as said above; none over a walk.
 *           image->live_check keeps a second check off.
 */
#include "config.h"

#include "edit/live.h"

#include "check/check.h"
#include "image/request.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_MEMORY (UINT64_C (64) << 20)
#define DEFAULT_MAX_FINDINGS 1000
#define MAX_NOTED 1000          /* findings of a walk, until it is believed */
#define MAX_SUSPECTS 65536
#define MIN_SUSPECTS 64

/* Looking for suspects computes for a tenth of the time at most while others
 * write; but what is soon done is done at once, since suspects that change in
 * between are not seen.
 */
#define REST_TIMES 9
#define AT_ONCE_NS UINT64_C (100000000)

#define MAX_ROUNDS 6
#define MAX_EDITS 50            /* that may disturb one check */

/* ---- Progress ----------------------------------------------------------- */

/* Of a walk; what comes before the window is done. */
static bool
tell_progress (void *opaque, unsigned percent)
{
  struct q2_live_job *const j = opaque;
  const bool counting = j->w->suspects != NULL;
  const uint64_t end = q2_max (j->check.end, j->check.begin + 1);
  const unsigned before = (unsigned) (j->check.begin * 100 / end);
  unsigned now = counting ? 70 + percent * 3 / 10 : percent * 7 / 10;

  /* A round goes on, or more suspects are touched meanwhile. */
  if (!counting && q2_pace_used (&j->pace) > AT_ONCE_NS)
    q2_pace_rest (&j->pace, &j->image->gate, REST_TIMES);
  if (j->options->progress == NULL)
    return true;
  now = before + (100 - before) * now / 100;
  if (j->options->repair != QCOW2_REPAIR_NONE)
    now = now / 2 + (j->repair ? 50 : 0);
  j->percent = now > j->percent ? now : j->percent;
  return j->options->progress (j->options->opaque, j->percent);
}

/* ---- Windows ------------------------------------------------------------ */

/* What a walk has found by itself is true if nobody has edited the image. */
struct noted {
  struct qcow2_finding *finding;
  size_t nr, max;
};

static void
note (void *opaque, const struct qcow2_finding *finding)
{
  struct noted *const n = opaque;
  char *const text = strdup (finding->text);

  if (text == NULL || n->nr == n->max)
    free (text);
  else {
    n->finding[n->nr] = *finding;
    n->finding[n->nr++].text = text;
  }
}

static void
forget (struct noted *n)
{
  while (n->nr > 0)
    free ((char *) n->finding[--n->nr].text);
}

static void
add_findings (struct q2_live_job *j, const struct q2_findings *f,
              const struct noted *n)
{
  struct q2_findings *const all = &j->findings;

  for (size_t i = 0; i < n->nr && all->passed < all->max_passed; ++i) {
    all->passed++;
    all->fn (all->opaque, &n->finding[i]);
  }
  for (unsigned i = 0; i < QCOW2_NR_SEVERITIES; ++i)
    all->nr[i] += f->nr[i];
  for (unsigned i = 0; i < QCOW2_NR_FINDINGS; ++i)
    all->nr_kind[i] += f->nr_kind[i];
  all->incomplete |= f->incomplete;
}

/* One walk; 0, or -1, perhaps because of an edit. */
static int
find_suspects (struct q2_live_job *j, struct noted *n,
               struct qcow2_error *err)
{
  const uint64_t unread_block = j->check.unread_block;
  struct q2_findings f = {
    .fn = j->findings.fn != NULL && !j->repair ? note : NULL, .opaque = n,
    .max_passed = n->max,
  };
  int r;

  if (q2_live_enter (j, err) == -1)
    return -1;
  q2_live_look (j);
  q2_gate_leave (&j->image->gate);
  /* A set that is watched is constant. */
  if (!q2_assume (j->w->suspects == NULL, err))
    return -1;
  j->suspects.nr = 0;
  j->check.skipped = 0;
  j->check.findings = &f;
  r = q2_live_suspect (&j->check, err);
  if (q2_live_was_edited (j))
    r = q2_live_fail_edited (j, err);
  if (r == 0 && !j->repair)
    add_findings (j, &f, n);
  if (r == -1)
    j->check.unread_block = unread_block;
  j->findings.incomplete |= r == 0 && j->check.skipped > 0;
  forget (n);
  j->check.findings = NULL;
  return r == 0 && !q2_assume (j->suspects.nr <= j->max, err) ? -1 : r;
}

/* What was touched before it was judged; nobody tells them any more. */
static void
keep_undecided (struct q2_live_job *j)
{
  for (size_t i = 0; i < j->suspects.nr; ++i)
    if (j->verdicts[i].known)
      q2_suspects_settle (&j->suspects, i);
  q2_suspects_keep_touched (&j->suspects);
}

static int
run_window (struct q2_live_job *j, struct noted *n, unsigned *edits,
            struct qcow2_error *err)
{
  int r;

  j->edited = false;
  while ((r = find_suspects (j, n, err)) == -1 && j->edited)
    if (++*edits > MAX_EDITS || q2_live_go_on (j, err) == -1)
      return -1;
  for (unsigned i = 0; r == 0 && j->suspects.nr > 0 && i < MAX_ROUNDS; ++i) {
    while ((r = q2_live_round (j, err)) == -1 && j->edited)
      if (++*edits > MAX_EDITS || q2_live_go_on (j, err) == -1)
        return -1;
    if (r == 0)
      keep_undecided (j);
  }
  if (r == 0 && !j->repair)
    j->undecided += j->suspects.nr;
  return r;
}

static int
run_pass (struct q2_live_job *j, bool repair, struct qcow2_error *err)
{
  struct noted n = {
    .max = repair ? 0 : q2_min (j->findings.max_passed, MAX_NOTED),
  };
  unsigned edits = 0;
  int r = 0;

  n.finding = calloc (n.max + 1, sizeof *n.finding);
  if (n.finding == NULL)
    return q2_fail_nomem (err, "checking the image");
  j->repair = repair;
  j->check.begin = j->check.unread_block = 0;
  do {
    r = run_window (j, &n, &edits, err);
    if (r == 0 && !q2_assume (j->check.stop > j->check.begin, err))
      r = -1;
    j->check.begin = j->check.stop;
    j->windows += !repair;
  } while (r == 0 && j->check.stop != UINT64_MAX);
  free (n.finding);
  return r;
}

/* ---- A check ------------------------------------------------------------ */

static bool
wants_repair (const struct q2_live_job *j)
{
  const struct q2_findings *const f = &j->findings;

  return j->options->repair != QCOW2_REPAIR_NONE && !f->incomplete &&
    f->nr[QCOW2_FINDING_ERROR] == 0 &&
    f->nr[QCOW2_FINDING_LEAK] + f->nr[QCOW2_FINDING_WARNING] > 0;
}

static int
run_passes (struct q2_live_job *j, struct qcow2_error *err)
{
  int r = 0;

  q2_gate_enter (&j->image->gate);
  if (!j->w->prepared || j->options->repair != QCOW2_REPAIR_NONE)
    r = q2_writer_begin (j->w, &j->io, Q2_FOR_IMAGE, err);
  q2_gate_leave (&j->image->gate);
  if (r == 0)
    r = run_pass (j, false, err);
  if (r == 0 && wants_repair (j)) {
    r = run_pass (j, true, err);
    if (r == 0)
      r = q2_writer_commit (j->w, &j->io, err);
  }
  return r;
}

/* The pass that repairs may decide what the one before it could not, and has
 * told nobody of; so it may fix more than was told, and what it has seen and
 * left alone is there in any case.
 */
static uint64_t
rest (uint64_t told, uint64_t fixed, uint64_t seen)
{
  return q2_max (told - q2_min (told, fixed), seen);
}

static void
fill_result (const struct q2_live_job *j, struct qcow2_check_result *ret)
{
  const uint64_t *const nr = j->findings.nr;
  uint64_t found = 0;

  for (unsigned i = 0; i < QCOW2_NR_SEVERITIES; ++i)
    found += nr[i];
  q2_check (found >= j->findings.passed);
  q2_check (nr[QCOW2_FINDING_CORRUPTION] >= j->flags_wrong);
  *ret = (struct qcow2_check_result) {
    .corruptions = nr[QCOW2_FINDING_CORRUPTION] - j->flags_wrong +
      rest (j->flags_wrong, j->flags_fixed, j->flags_left),
    .leaks = rest (nr[QCOW2_FINDING_LEAK], j->leaks_fixed, j->leaks_left),
    .warnings = rest (nr[QCOW2_FINDING_WARNING], j->warnings_fixed,
                      j->warnings_left),
    .check_errors = nr[QCOW2_FINDING_ERROR],
    .corruptions_fixed = j->flags_fixed, .leaks_fixed = j->leaks_fixed,
    .findings_left_out = found - j->findings.passed,
    .total_clusters = q2_ceil_shift (j->check.header->virtual_size,
                                     j->geo.cluster_bits),
    .allocated_clusters = j->check.allocated,
    .compressed_clusters = j->check.compressed,
    .image_end = j->check.end << j->geo.cluster_bits,
    .incomplete = j->findings.incomplete,
    .short_snapshots = j->findings.nr_kind[QCOW2_FINDING_SHORT_SNAPSHOT],
    .refcounts_unusable =
      j->findings.nr_kind[QCOW2_FINDING_REFCOUNT_BLOCK] > 0,
    .windows = j->windows, .undecided = j->undecided,
  };
}

static int
init (struct q2_live_job *j, struct qcow2_error *err)
{
  const uint64_t memory =
    j->options->memory ? j->options->memory : DEFAULT_MEMORY;
  const size_t each = 9 + sizeof *j->tallies + sizeof *j->verdicts;

  j->max = (size_t) q2_min (q2_max (memory / 16 / each, MIN_SUSPECTS),
                            MAX_SUSPECTS);
  if (q2_budget_take (q2_budget_outermost (q2_io_budget (&j->io)),
                      j->max * each, "checking the image", err) == -1)
    return -1;
  j->charge = j->max * each;
  j->tallies = calloc (j->max, sizeof *j->tallies);
  j->verdicts = calloc (j->max, sizeof *j->verdicts);
  if (!q2_suspects_init (&j->suspects, j->max) || j->tallies == NULL ||
      j->verdicts == NULL)
    return q2_fail_nomem (err, "checking the image");
  j->live = q2_live_memory (j);
  j->check = (struct q2_live_check) {
    .io = &j->io, .geo = &j->geo, .live = &j->live,
    .suspects = &j->suspects, .tallies = j->tallies,
    .memory = q2_max (memory - memory / 16, 1),
    .progress = tell_progress,
    .opaque = j,
  };
  return 0;
}

static void
destroy (struct q2_live_job *j)
{
  q2_check (j->charge == 0 || j->w->suspects != &j->suspects);
  q2_suspects_destroy (&j->suspects);
  free (j->tallies);
  free (j->verdicts);
  q2_budget_give (q2_budget_outermost (q2_io_budget (&j->io)), j->charge);
}

static int
check (struct qcow2_image *image, const struct qcow2_io *host,
       const struct qcow2_check_options *options,
       struct qcow2_check_result *ret, struct qcow2_error *err)
{
  struct q2_live_job j = {
    .image = image, .w = &image->writer, .io = q2_image_io (image, host),
    .options = options,
    .findings = {
      .fn = options->finding, .opaque = options->opaque,
      .max_passed = options->max_findings ? options->max_findings
        : DEFAULT_MAX_FINDINGS,
    },
  };
  int r;

  j.io = q2_io_patient (&j.io);
  q2_pace_begin (&j.pace, &image->gate);
  r = init (&j, err);
  if (r == 0)
    r = run_passes (&j, err);
  if (r == 0)
    fill_result (&j, ret);
  destroy (&j);
  return q2_request_end_reading (&j.io, r, err);
}

int
qcow2_check_live (struct qcow2_image *image, const struct qcow2_io *host,
                  const struct qcow2_check_options *options,
                  struct qcow2_check_result *ret, struct qcow2_error *err)
{
  int r;

  if (image->view != NULL || image->inspect || !q2_image_info (image).writable
      || q2_image_info (image).version < 2)
    return qcow2_check (image, host, options, ret, err);
  if (options->repair > QCOW2_REPAIR_LEAKS)
    return q2_fail (err, QCOW2_ERR_REFUSED, QCOW2_NO_OFFSET, "only leaks can "
                    "be repaired while an image is in use");
  if (atomic_exchange (&image->live_check, true))
    return q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET, "the image is being "
                    "checked already");
  r = check (image, host, options, ret, err);
  atomic_store (&image->live_check, false);
  return r;
}
