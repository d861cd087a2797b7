/* SPDX-License-Identifier: BSD-3-Clause */
/* refuse_syscalls.c - runs a program for which some system calls fail.
 *
 * Usage     refuse_syscalls RULE[,RULE...] PROGRAM [ARGUMENT...]
 *           A RULE is NAME=ERRNO, or NAME:N:VALUE=ERRNO for calls whose
 *           argument N, counted from 0, has this value; all numbers are
 *           decimal.  So fcntl:1:37=37 makes F_OFD_SETLK fail with ENOLCK.
 * Method    a seccomp filter, which children inherit.  It works for any
 *           program, whatever it is linked with or has preloaded.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_RULES 8

static const struct {
  const char *name;
  unsigned number;
} calls[] = {
  { "fcntl", SYS_fcntl },
  { "openat", SYS_openat },
  { "pread", SYS_pread64 },
};

static struct sock_filter program[MAX_RULES * 5 + 1];
static unsigned short length;

static void
die (const char *what)
{
  fprintf (stderr, "refuse_syscalls: %s\n", what);
  exit (99);
}

static void
emit (unsigned code, unsigned k, unsigned char jt, unsigned char jf)
{
  program[length++] = (struct sock_filter) { code, jt, jf, k };
}

/* Continue with what comes after the rule unless all is as it says. */
static void
add_rule (char *rule)
{
  char *const error = strchr (rule, '=');
  char *const argument = strchr (rule, ':');
  char *const value = argument ? strchr (argument + 1, ':') : NULL;
  unsigned i = 0;

  if (error == NULL || (argument && value == NULL))
    die ("not a rule");
  *error = '\0';
  if (argument)
    *argument = '\0';
  while (i < sizeof calls / sizeof calls[0] &&
         strcmp (calls[i].name, rule) != 0)
    ++i;
  if (i == sizeof calls / sizeof calls[0])
    die ("an unknown system call");
  emit (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr), 0, 0);
  emit (BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, value ? 3 : 1);
  if (value) {
    emit (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, args) +
          8 * atoi (argument + 1), 0, 0);
    emit (BPF_JMP | BPF_JEQ | BPF_K, atoi (value + 1), 0, 1);
  }
  emit (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi (error + 1), 0, 0);
}

int
main (int argc, char *argv[])
{
  struct sock_fprog filter = { .filter = program };
  unsigned rules = 0;

  if (argc < 3)
    die ("usage: refuse_syscalls RULE[,RULE...] PROGRAM [ARGUMENT...]");
  for (char *rule = strtok (argv[1], ","); rule; rule = strtok (NULL, ",")) {
    if (++rules > MAX_RULES)
      die ("too many rules");
    add_rule (rule);
  }
  emit (BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
  filter.len = length;
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
      prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == -1)
    die (strerror (errno));
  execvp (argv[2], argv + 2);
  die (strerror (errno));
}
