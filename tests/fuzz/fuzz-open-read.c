/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz-open-read.c - libFuzzer target: the input is an image file.
 *
 * Beyond what sanitizers see, an input is bad if the engine breaks a
 * promise to the host or returns a malformed error or extent; memory_io and
 * exercise check that.
 */
#include "config.h"

#include "exercise.h"
#include "unit.h"

extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  exercise_image (data, size);
  if (unit_failures () > 0)
    abort ();
  return 0;
}
