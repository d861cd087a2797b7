/* SPDX-License-Identifier: BSD-3-Clause */
/* fault.c - what is said of streams that are not at fault.
 *
 * Owns      the strings.
 */
#include "config.h"

#include "codec/fault.h"

const char q2_codec_no_memory[] = "out of memory";
const char q2_codec_no_library[] = "built without the library";
