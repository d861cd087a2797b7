/* SPDX-License-Identifier: BSD-3-Clause */
/* settings.h - what the parameters have set, and what is known of the plugin.
 *
 * The global 'config' belongs to the main thread until .get_ready has run;
 * from then on it is constant, and any thread may read it.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "qcow2.h"
#include "exports.h"

/* Constant after get_ready. */
struct config {
  uint64_t cache_size;          /* 0: the engine's default */
  uint64_t cluster_cache_size;
  uint64_t memory;              /* of all images together */
  struct qcow2_budget *budget;  /* with that bound; not NULL */
  uint64_t readahead;
  unsigned chain_depth;         /* 0: the default of host/ */
  enum qcow2_discard discard;
  bool discard_snapshots;
  unsigned clean_interval;      /* seconds, 0: never */
  enum qcow2_overlap_check overlap_check;
  enum qcow2_setting lazy_refcounts;
  enum qcow2_refcounts refcounts;
  bool compress;
  unsigned compress_level;      /* 0: the usual one */
  enum qcow2_detect_zeroes detect_zeroes;
  enum qcow2_bitmaps bitmaps;
  bool grow;                    /* local files, when they are full */
  bool lock;                    /* local files */
  bool check_at_start;
  bool control;                 /* there is a control socket */
  bool allow_retry;             /* writing over a filter that reopens */
  const char *reopens;          /* that filter, or NULL */
  int thread_model;             /* of the whole server */
  enum export_names names;
  char *file;                   /* absolute, or NULL: a local file below */
  char *dir;                    /* absolute, or NULL */
  char *folder;                 /* absolute, or NULL: that images are in */
  char *label;                  /* what to call the image, or NULL */
  bool descriptor;              /* the plugin has a file of ours open */
};
extern struct config config;

#endif /* SETTINGS_H */
