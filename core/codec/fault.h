/* SPDX-License-Identifier: BSD-3-Clause */
/* fault.h - why a stream could not be decompressed.
 *
 * A fault of the stream is a constant string that says what is wrong with it.
 * Two are no fault of the stream, and have one address each, to be compared
 * with ==.
 */
#ifndef QCOW2_CODEC_FAULT_H
#define QCOW2_CODEC_FAULT_H

extern const char q2_codec_no_memory[];
extern const char q2_codec_no_library[];

#endif /* QCOW2_CODEC_FAULT_H */
