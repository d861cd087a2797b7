/* SPDX-License-Identifier: BSD-3-Clause */
/* remedy.h - what can be done about a finding of a check. */
#ifndef REMEDY_H
#define REMEDY_H

#include "qcow2.h"

/* The least repair that sees to it; QCOW2_REPAIR_NONE if none does. */
extern enum qcow2_repair remedy_repair (const struct qcow2_finding *finding);

/* In words, for a line. */
extern const char *remedy_words (const struct qcow2_finding *finding);

#endif /* REMEDY_H */
