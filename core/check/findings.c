/* SPDX-License-Identifier: BSD-3-Clause */
/* findings.c - what a check has found.
 *
 * Owns      counting findings, and how many of them the caller hears of.
 * Method    a hostile image can have billions of faults, so only the first
 *           max_passed ones become text; all of them are counted.
 * Locks     none; one thread at a time.
 */
#include "config.h"

#include "check/findings.h"

#include "base/assume.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *
qcow2_severity_name (enum qcow2_severity severity)
{
  switch (severity) {
  case QCOW2_FINDING_CORRUPTION:
    return "corruption";
  case QCOW2_FINDING_LEAK:
    return "leak";
  case QCOW2_FINDING_WARNING:
    return "warning";
  case QCOW2_FINDING_ERROR:
    return "error";
  }
  return "?";
}

void
q2_find (struct q2_findings *f, const struct qcow2_finding *like,
         const char *fmt, ...)
{
  struct qcow2_finding finding = *like;
  char text[QCOW2_FINDING_TEXT];
  va_list args;

  if (!q2_check (like->severity < QCOW2_NR_SEVERITIES &&
                 like->kind < QCOW2_NR_FINDINGS))
    return;
  f->nr[like->severity]++;
  f->nr_kind[like->kind]++;
  if (f->fn == NULL || f->passed >= f->max_passed)
    return;
  f->passed++;
  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  finding.text = text;
  f->fn (f->opaque, &finding);
}

int
q2_find_error (struct q2_findings *f, enum qcow2_finding_kind kind,
               const struct qcow2_error *err)
{
  struct qcow2_finding like = {
    .kind = kind, .severity = QCOW2_FINDING_CORRUPTION,
    .host_off = err->offset, .table_off = QCOW2_NO_OFFSET,
  };

  if (err->kind == QCOW2_ERR_IO) {
    like.kind = QCOW2_FINDING_UNREADABLE;
    like.severity = QCOW2_FINDING_ERROR;
  }
  else if (err->kind != QCOW2_ERR_CORRUPT &&
           err->kind != QCOW2_ERR_TRUNCATED)
    return -1;
  q2_find (f, &like, "%s", err->text);
  return 0;
}

void
q2_find_unread_block (struct q2_findings *f, const struct q2_geometry *geo,
                      uint64_t idx, uint64_t host_off,
                      struct qcow2_error *err)
{
  const unsigned bits = geo->refblock_bits + geo->cluster_bits;
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_REFCOUNT_BLOCK, .severity = QCOW2_FINDING_ERROR,
    .host_off = host_off, .length = geo->cluster_size,
    .table_off = QCOW2_NO_OFFSET,
  };
  char text[sizeof err->text];

  memcpy (text, err->text, sizeof text);
  snprintf (err->text, sizeof err->text, "the refcount block at offset 0x%"
            PRIx64 ", which counts the clusters from offset 0x%" PRIx64
            " up to 0x%" PRIx64 ", cannot be read: %.*s", host_off,
            idx << bits, (idx + 1) << bits, (int) sizeof text - 200, text);
  err->advice = QCOW2_ADVICE_REBUILD;
  if (f != NULL)
    q2_find (f, &like, "%s", err->text);
}
