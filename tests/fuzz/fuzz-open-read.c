/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz-open-read.c - libFuzzer target: the input is an image file.
 *
 * Its backing file and data file are the same bytes, and its views are read as
 * well: see exercise.c.  It is used twice: as a local file, and on one of
 * several kinds of slow hosts, with reading ahead and background threads.
 *
 * Beyond what sanitizers see, an input is bad if the engine breaks a rule of
 * host requests or returns a malformed error or extent; memory_io and exercise
 * check that.
 */
#include "config.h"

#include "exercise.h"
#include "unit.h"

extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  /* The first bytes are the same in all images that can be opened. */
  const unsigned kind = size > 0 ? data[size - 1] + (unsigned) size : 0;

  if (exercise_image (data, size))
    exercise_slow_image (data, size, kind);
  if (unit_failures () > 0)
    abort ();
  return 0;
}
