/* SPDX-License-Identifier: BSD-3-Clause */
/* talk.h - a conversation with the control socket of a server.
 *
 * Who opens a talk owns it until talk_close.  Values are as in output.h; what
 * is borrowed lives as long as the reply, and that until the next command.
 */
#ifndef TALK_H
#define TALK_H

#include "ctl.h"

struct talk;
struct value;

/* Connect to ctl->socket.  NULL having said what is wrong, with the exit code
 * in *ret_code.
 */
extern struct talk *talk_open (const struct ctl *ctl, int *ret_code);
extern void talk_close (struct talk *t);

struct talk_argument {
  const char *name;             /* NULL: the last one */
  enum { TALK_TEXT, TALK_NUMBER, TALK_TRUE, TALK_TEXTS } type;
  const char *text;             /* NULL: the argument is left out */
  uint64_t number;              /* 0: the same */
  bool is_true;                 /* false: the same */
  const char *const *texts;
  size_t nr_texts;
};
/* Send a command.  Returns an exit code, having said what is wrong; it is
 * CODE_CHANGED if the command changes something, and no answer has come.
 */
extern int talk_send (struct talk *t, const char *command,
                      const struct talk_argument *arguments);
/* The last command had no answer. */
extern bool talk_is_lost (const struct talk *t);
/* Say that of one that changes something.  Returns CODE_CHANGED. */
extern int talk_fail_lost (void);

/* A talk of that one command.  What it returns goes to 'print', unless it is
 * printed as JSON, or not at all; NULL: it returns nothing.
 */
extern int talk_once (const struct ctl *ctl, const char *command,
                      const struct talk_argument *arguments,
                      void (*print) (struct talk *t));

/* ---- What the last command has returned --------------------------------- */

/* The whole of it, which the caller takes over. */
extern struct value *talk_result (struct talk *t);
/* If that is a list: item 'i', borrowed, or NULL. */
extern struct value *talk_item (struct talk *t, size_t i);
/* A member of an object: 0 and "" if it is not there, or something else. */
extern uint64_t talk_number (const struct value *object, const char *key);
extern struct qcow2_name talk_text (const struct value *object,
                                    const char *key);
extern bool talk_is_true (const struct value *object, const char *key);
/* Item 'i' of a list, borrowed, or NULL. */
extern struct value *talk_item_of (const struct value *list, size_t i);
extern bool talk_has (const struct value *object, const char *key);
/* A member that is a list has that text. */
extern bool talk_has_item (const struct value *object, const char *key,
                           const char *text);
/* A member that is an object, or NULL. */
extern struct value *talk_object (const struct value *object,
                                  const char *key);
/* Call the function for each member that is a number. */
extern void talk_each (const struct value *object,
                       void (*fn) (const char *key, uint64_t number));

#endif /* TALK_H */
