/* SPDX-License-Identifier: BSD-3-Clause */
/* check_print.h - a check, and how its result is printed. */
#ifndef CHECK_PRINT_H
#define CHECK_PRINT_H

#include "ctl.h"
#include "output.h"
#include "progress.h"

struct check_job {
  const struct ctl *ctl;
  struct progress progress;
  enum qcow2_repair repair;     /* that the user wants */
  bool dry_run;
  uint64_t rehearsal;           /* memory for what the repair would write */
  struct value *findings;       /* JSON */
  uint64_t told, untold;        /* those that are shown, and only counted */
  bool cut_off;                 /* entries name what is past the end */
  bool blind;                   /* more than refcounts could not be read */
  struct qcow2_check_result r;

  /* Of a dry run: what the repair would leave, or why it would fail, or why
   * that cannot be told.
   */
  struct qcow2_check_result after;
  bool fails, cannot_tell;
  char why[600];
};

/* Of a dry run: how many of the findings a repair would see to. */
extern uint64_t check_would_repair (const struct check_job *job);
extern uint64_t check_would_stay (const struct check_job *job);
extern void check_print (const struct check_job *job);
extern int check_code (const struct qcow2_check_result *r);

#endif /* CHECK_PRINT_H */
