/* SPDX-License-Identifier: BSD-3-Clause */
/* commands.h - all commands; each is a constant in a file of its own. */
#ifndef COMMANDS_H
#define COMMANDS_H

struct command;

extern const struct command cmd_amend;
extern const struct command cmd_bitmap_add;
extern const struct command cmd_bitmap_clear;
extern const struct command cmd_bitmap_disable;
extern const struct command cmd_bitmap_enable;
extern const struct command cmd_bitmap_list;
extern const struct command cmd_bitmap_merge;
extern const struct command cmd_bitmap_remove;
extern const struct command cmd_cancel;
extern const struct command cmd_check;
extern const struct command cmd_checkpoint;
extern const struct command cmd_commit;
extern const struct command cmd_create;
extern const struct command cmd_empty;
extern const struct command cmd_flush;
extern const struct command cmd_info;
extern const struct command cmd_jobs;
extern const struct command cmd_key_add;
extern const struct command cmd_key_change;
extern const struct command cmd_key_list;
extern const struct command cmd_key_remove;
extern const struct command cmd_map;
extern const struct command cmd_measure;
extern const struct command cmd_rebase;
extern const struct command cmd_resize;
extern const struct command cmd_set_backing;
extern const struct command cmd_snapshot_apply;
extern const struct command cmd_snapshot_create;
extern const struct command cmd_snapshot_delete;
extern const struct command cmd_snapshot_list;
extern const struct command cmd_snapshot_vmstate;
extern const struct command cmd_stats;

#endif /* COMMANDS_H */
