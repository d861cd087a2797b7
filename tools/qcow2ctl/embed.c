/* SPDX-License-Identifier: BSD-3-Clause */
/* embed.c - what host/ is told by this program.
 *
 * Owns      the words that its messages use.
 * Method    warnings go to stderr; nothing else is logged.
 * Locks     none.
 */
#include "config.h"

#include "embed.h"

#include "ctl.h"

#include <stdio.h>

static void __attribute__ ((__format__ (__printf__, 4, 0)))
log_line (const struct host_env *env, enum host_log_level level,
          const char *name, const char *format, va_list args)
{
  char text[1500];

  (void) env;
  if (level == HOST_LOG_DEBUG)
    return;
  vsnprintf (text, sizeof text, format, args);
  warn_line ("%s%s%s", name, name[0] ? ": " : "", text);
}

static void
log_of_engine (void *opaque, enum qcow2_log_level level, const char *text,
               enum qcow2_advice advice)
{
  const char *const words = advice_words (advice);
  const char *const name = opaque;

  if (level == QCOW2_LOG_WARNING)
    warn_line ("%s: %s%s%s", name, text, words[0] ? "; " : "", words);
}

static struct qcow2_options
options_of_image (const struct host_env *env, const char *name)
{
  return (struct qcow2_options) {
    .keyring = env->rules->keyring, .log = log_of_engine,
    /* Only read: the name stays as long as the image. */
    .log_opaque = (void *) name,
  };
}

static const struct host_words words = {
  .program = "program", .process = "this program", .sep = " ",
  .backing = "--backing", .backing_format = "--backing-format",
  .data_file = "--data-file", .follow = "--follow",
  .passphrase = "--passphrase", .read_only = "do not change the image",
  .unlocked = "give --no-lock if you are sure that none will",
  .reading_busy = "where there is an option -U, it reads the image all the "
    "same, but what it shows then may be inconsistent",
  .writing_busy = "end that one first",
};

void
embed_init (struct ctl *ctl)
{
  ctl->env = (struct host_env) {
    .words = &words, .rules = &ctl->rules, .lock = true, .one_image = true,
    .log = log_line, .options = options_of_image,
  };
}
