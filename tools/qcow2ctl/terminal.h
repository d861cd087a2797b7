/* SPDX-License-Identifier: BSD-3-Clause */
/* terminal.h - asking for a passphrase. */
#ifndef TERMINAL_H
#define TERMINAL_H

#include "qcow2.h"

/* See ask_fn in host/secrets.h. */
extern int terminal_ask (const char *key, char **ret_typed,
                         struct qcow2_error *err);

#endif /* TERMINAL_H */
