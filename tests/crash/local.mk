# SPDX-License-Identifier: BSD-3-Clause
# crash/: what a crash at any moment leaves behind.

SLOW_CRASH_TESTS = \
	unit/check/test-unread \
	crash/test-bitmaps-crowd \
	crash/test-bitmaps-crowd-planted \
	crash/test-bitmaps-kept \
	crash/test-bitmaps-kept-planted \
	crash/test-bitmaps-live \
	crash/test-bitmaps-live-planted \
	crash/test-check \
	crash/test-check-planted \
	crash/test-crash \
	crash/test-apply-bitmaps \
	crash/test-apply-bitmaps-planted \
	crash/test-snapshots \
	crash/test-snapshots-planted \
	crash/test-snapshots-busy \
	crash/test-snapshots-busy-planted \
	crash/test-deletes-busy \
	crash/test-deletes-busy-planted \
	crash/test-undos-busy \
	crash/test-checkpoints-busy \
	crash/test-checkpoints-busy-planted \
	crash/test-edit-bitmaps \
	crash/test-edit-bitmaps-planted \
	crash/test-commit \
	crash/test-commit-planted \
	crash/test-edits \
	crash/test-edits-planted \
	unit/write/test-write-faults \
	unit/write/test-write-model \
	crash/test-planted \
	crash/test-fsck \
	unit/write/test-refusals \
	unit/write/test-chain \
	unit/view/test-view-decompressed-planted \
	unit/view/test-view-history \
	$(NULL)

CRASH_TESTS = \
	unit/image/test-bugs \
	unit/check/test-again \
	unit/check/test-fetch \
	unit/edit/test-bitmaps \
	unit/edit/test-bitmaps-broken \
	unit/edit/test-bitmaps-many \
	unit/edit/test-create \
	unit/edit/test-snapshot-faults \
	unit/edit/test-snapshots \
	unit/edit/test-crowd \
	unit/edit/test-snapshot-between \
	unit/edit/test-snapshot-stalled \
	unit/edit/test-keys \
	unit/edit/test-grow \
	unit/edit/test-live \
	unit/edit/test-live-between \
	unit/edit/test-live-decompressed \
	unit/edit/test-live-unread \
	unit/edit/test-amend \
	unit/edit/test-backing \
	unit/edit/test-resize \
	unit/edit/test-transact \
	unit/edit/test-transact-holds \
	unit/edit/test-vm-state \
	unit/image/test-requests \
	unit/read/test-ahead-after \
	unit/read/test-ahead-writes \
	unit/read/test-ahead-writes-planted \
	unit/view/test-view-decompressed \
	unit/view/test-view-writes \
	unit/write/test-write-compressed \
	unit/write/test-write-disasters \
	unit/write/test-write-flushes \
	unit/write/test-write-flushes-planted \
	unit/write/test-write-hostile \
	unit/write/test-write-races \
	unit/write/test-write-crowd \
	unit/write/test-write-room \
	unit/write/test-write-small \
	unit/write/test-write-space \
	unit/write/test-write-trust \
	$(NULL)

TESTS += $(CRASH_TESTS)
check_PROGRAMS += $(SLOW_CRASH_TESTS) $(CRASH_TESTS)
EXTRA_DIST += crash/local.mk
LONG_TESTS += crash/test-crash-long.sh crash/test-model-long.sh

JITTER_WRAP = \
	-Wl,--wrap=pthread_mutex_lock,--wrap=pthread_mutex_unlock \
	-Wl,--wrap=pthread_rwlock_unlock
CRASH_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(srcdir)/crash

# The host, the replayer, and those that judge; unit/ uses them too.
check_LTLIBRARIES += crash/libcrash.la
crash_libcrash_la_SOURCES = \
	crash/beside.c \
	crash/beside.h \
	crash/bitmap_set.c \
	crash/bitmap_set.h \
	crash/busy.c \
	crash/busy.h \
	crash/seen.c \
	crash/seen.h \
	crash/campaign.c \
	crash/campaign.h \
	crash/choice.c \
	crash/choice.h \
	crash/crowd.c \
	crash/crowd.h \
	crash/edit_cases.c \
	crash/edits.c \
	crash/edits.h \
	crash/fsck.c \
	crash/fsck.h \
	crash/guest.c \
	crash/guest.h \
	crash/host.c \
	crash/host.h \
	crash/jitter.c \
	crash/jitter.h \
	crash/layers.c \
	crash/layers.h \
	crash/late.c \
	crash/late.h \
	crash/ledger.c \
	crash/ledger.h \
	crash/qemu.c \
	crash/qemu.h \
	crash/qemu_bits.c \
	crash/qemu_bits.h \
	crash/recipe.c \
	crash/recipe.h \
	crash/replay.c \
	crash/replay.h \
	crash/tag.c \
	crash/tag.h \
	crash/variants.c \
	crash/variants.h \
	crash/verify.c \
	crash/verify.h \
	crash/workloads.c \
	unit/hooked_disk.c \
	unit/hooked_disk.h \
	unit/slow_disk.c \
	unit/slow_disk.h \
	$(NULL)
crash_libcrash_la_CPPFLAGS = $(CRASH_CPPFLAGS)
crash_libcrash_la_CFLAGS = $(UNIT_CFLAGS)

# The engine comes last, and from unit/libunit.la the other tests' one.
crash_test_crash_LDFLAGS = $(JITTER_WRAP)
crash_test_crash_LDADD = crash/libcrash.la unit/libunit.la

crash_test_check_LDFLAGS = $(JITTER_WRAP) -Wl,--wrap=nanosleep
crash_test_check_LDADD = crash/libcrash.la unit/libunit.la

crash_test_apply_bitmaps_LDFLAGS = $(JITTER_WRAP)
crash_test_apply_bitmaps_LDADD = crash/libcrash.la unit/libunit.la
crash_test_snapshots_LDFLAGS = $(JITTER_WRAP)
crash_test_snapshots_LDADD = crash/libcrash.la unit/libunit.la
crash_test_snapshots_busy_LDFLAGS = $(JITTER_WRAP)
crash_test_snapshots_busy_LDADD = crash/libcrash.la unit/libunit.la
crash_test_deletes_busy_LDFLAGS = $(JITTER_WRAP)
crash_test_deletes_busy_LDADD = crash/libcrash.la unit/libunit.la
crash_test_undos_busy_LDFLAGS = $(JITTER_WRAP)
crash_test_undos_busy_LDADD = crash/libcrash.la unit/libunit.la
crash_test_checkpoints_busy_LDFLAGS = $(JITTER_WRAP)
crash_test_checkpoints_busy_LDADD = crash/libcrash.la unit/libunit.la
crash_test_bitmaps_crowd_LDFLAGS = $(JITTER_WRAP)
crash_test_bitmaps_crowd_LDADD = crash/libcrash.la unit/libunit.la
crash_test_bitmaps_kept_LDFLAGS = $(JITTER_WRAP)
crash_test_bitmaps_kept_LDADD = crash/libcrash.la unit/libunit.la
crash_test_bitmaps_live_LDFLAGS = $(JITTER_WRAP)
crash_test_bitmaps_live_LDADD = crash/libcrash.la unit/libunit.la

crash_test_edit_bitmaps_LDFLAGS = $(JITTER_WRAP)
crash_test_edit_bitmaps_LDADD = crash/libcrash.la unit/libunit.la

# Allocations that fail.
crash_test_edits_SOURCES = crash/test-edits.c $(ALLOC_FAULTS)
crash_test_edits_CPPFLAGS = $(CRASH_CPPFLAGS)
crash_test_edits_CFLAGS = $(UNIT_CFLAGS)
crash_test_edits_LDFLAGS = $(JITTER_WRAP) $(ALLOC_WRAP)
crash_test_edits_LDADD = crash/libcrash.la unit/libunit.la

crash_test_commit_SOURCES = crash/test-commit.c $(ALLOC_FAULTS)
crash_test_commit_CPPFLAGS = $(CRASH_CPPFLAGS)
crash_test_commit_CFLAGS = $(UNIT_CFLAGS)
crash_test_commit_LDFLAGS = $(JITTER_WRAP) $(ALLOC_WRAP)
crash_test_commit_LDADD = crash/libcrash.la unit/libunit.la

crash_test_fsck_LDFLAGS = $(JITTER_WRAP)
crash_test_fsck_LDADD = crash/libcrash.la unit/libunit.la

unit_view_test_view_history_LDFLAGS = $(JITTER_WRAP)
unit_view_test_view_history_LDADD = crash/libcrash.la unit/libunit.la

unit_view_test_view_writes_LDFLAGS = $(JITTER_WRAP)
unit_view_test_view_writes_LDADD = crash/libcrash.la unit/libunit.la

unit_view_test_view_decompressed_LDFLAGS = $(JITTER_WRAP)
unit_view_test_view_decompressed_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_chain_LDFLAGS = $(JITTER_WRAP)
unit_write_test_chain_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_bitmaps_LDFLAGS = $(JITTER_WRAP) $(ALLOC_WRAP)
unit_edit_test_bitmaps_SOURCES = \
	unit/edit/test-bitmaps.c \
	unit/alloc_faults.c \
	unit/alloc_faults.h \
	$(NULL)
unit_edit_test_bitmaps_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_vm_state_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_vm_state_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_bitmaps_broken_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_bitmaps_broken_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_bitmaps_many_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_bitmaps_many_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_amend_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_amend_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_backing_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_backing_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_create_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_create_LDADD = crash/libcrash.la unit/libunit.la
unit_edit_test_keys_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_keys_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_grow_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_grow_LDADD = crash/libcrash.la unit/libunit.la
unit_edit_test_live_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_live_LDADD = crash/libcrash.la unit/libunit.la
unit_edit_test_live_between_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_live_between_LDADD = crash/libcrash.la unit/libunit.la
unit_edit_test_live_decompressed_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_live_decompressed_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_snapshots_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_snapshots_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_crowd_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_crowd_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_snapshot_between_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_snapshot_between_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_snapshot_stalled_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_snapshot_stalled_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_snapshot_faults_SOURCES = \
	unit/edit/test-snapshot-faults.c $(ALLOC_FAULTS)
unit_edit_test_snapshot_faults_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_edit_test_snapshot_faults_CFLAGS = $(UNIT_CFLAGS)
unit_edit_test_snapshot_faults_LDFLAGS = $(JITTER_WRAP) $(ALLOC_WRAP)
unit_edit_test_snapshot_faults_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_transact_SOURCES = \
	unit/edit/test-transact.c $(ALLOC_FAULTS)
unit_edit_test_transact_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_edit_test_transact_CFLAGS = $(UNIT_CFLAGS)
unit_edit_test_transact_LDFLAGS = $(JITTER_WRAP) $(ALLOC_WRAP)
unit_edit_test_transact_LDADD = crash/libcrash.la unit/libunit.la
unit_edit_test_transact_holds_SOURCES = \
	unit/edit/test-transact-holds.c
unit_edit_test_transact_holds_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_edit_test_transact_holds_CFLAGS = $(UNIT_CFLAGS)
unit_edit_test_transact_holds_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_transact_holds_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_live_unread_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_live_unread_LDADD = crash/libcrash.la unit/libunit.la

unit_check_test_fetch_LDFLAGS = $(JITTER_WRAP)
unit_check_test_fetch_LDADD = crash/libcrash.la unit/libunit.la

unit_check_test_again_LDFLAGS = $(JITTER_WRAP)
unit_check_test_again_LDADD = crash/libcrash.la unit/libunit.la

unit_check_test_unread_LDFLAGS = $(JITTER_WRAP)
unit_check_test_unread_LDADD = crash/libcrash.la unit/libunit.la

unit_edit_test_resize_LDFLAGS = $(JITTER_WRAP)
unit_edit_test_resize_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_disasters_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_disasters_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_compressed_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_compressed_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_faults_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_faults_LDFLAGS = \
	$(JITTER_WRAP) \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc

unit_image_test_bugs_LDFLAGS = $(JITTER_WRAP)
unit_image_test_bugs_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_refusals_LDFLAGS = $(JITTER_WRAP)
unit_write_test_refusals_LDADD = crash/libcrash.la unit/libunit.la

unit_image_test_requests_LDFLAGS = $(JITTER_WRAP)
unit_image_test_requests_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_hostile_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_hostile_LDADD = crash/libcrash.la unit/libunit.la

unit_read_test_ahead_after_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_read_test_ahead_after_CFLAGS = $(UNIT_CFLAGS)
unit_read_test_ahead_after_LDFLAGS = $(JITTER_WRAP)
unit_read_test_ahead_after_LDADD = crash/libcrash.la unit/libunit.la

unit_read_test_ahead_writes_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_read_test_ahead_writes_CFLAGS = $(UNIT_CFLAGS)
unit_read_test_ahead_writes_LDFLAGS = $(JITTER_WRAP)
unit_read_test_ahead_writes_LDADD = crash/libcrash.la unit/libunit.la

unit_read_test_ahead_writes_planted_SOURCES = \
	unit/read/test-ahead-writes.c \
	unit/image_builder.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
unit_read_test_ahead_writes_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
unit_read_test_ahead_writes_planted_CFLAGS = $(UNIT_CFLAGS)
unit_read_test_ahead_writes_planted_LDFLAGS = $(JITTER_WRAP)
unit_read_test_ahead_writes_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

unit_write_test_write_trust_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_trust_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_races_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_races_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_room_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_room_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_crowd_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_crowd_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_flushes_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_write_test_write_flushes_CFLAGS = $(UNIT_CFLAGS)
unit_write_test_write_flushes_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_flushes_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_flushes_planted_SOURCES = \
	unit/write/test-write-flushes.c \
	unit/image_builder.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
unit_write_test_write_flushes_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
unit_write_test_write_flushes_planted_CFLAGS = $(UNIT_CFLAGS)
unit_write_test_write_flushes_planted_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_flushes_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

unit_write_test_write_small_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_small_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_space_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_space_LDADD = crash/libcrash.la unit/libunit.la

unit_write_test_write_model_LDFLAGS = $(JITTER_WRAP)
unit_write_test_write_model_LDADD = crash/libcrash.la unit/libunit.la

# Not with unit/libunit.la, which brings the engine without the bugs.
crash_test_planted_SOURCES = \
	crash/test-planted.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_check_planted_SOURCES = \
	crash/test-check.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_check_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_check_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_check_planted_LDFLAGS = $(JITTER_WRAP) -Wl,--wrap=nanosleep
crash_test_check_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_bitmaps_crowd_planted_SOURCES = \
	crash/test-bitmaps-crowd.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_bitmaps_crowd_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_bitmaps_crowd_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_bitmaps_crowd_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_bitmaps_crowd_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_bitmaps_kept_planted_SOURCES = \
	crash/test-bitmaps-kept.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_bitmaps_kept_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_bitmaps_kept_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_bitmaps_kept_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_bitmaps_kept_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_bitmaps_live_planted_SOURCES = \
	crash/test-bitmaps-live.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_bitmaps_live_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_bitmaps_live_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_bitmaps_live_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_bitmaps_live_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_edit_bitmaps_planted_SOURCES = \
	crash/test-edit-bitmaps.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_edit_bitmaps_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_edit_bitmaps_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_edit_bitmaps_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_edit_bitmaps_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_apply_bitmaps_planted_SOURCES = \
	crash/test-apply-bitmaps.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_apply_bitmaps_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_apply_bitmaps_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_apply_bitmaps_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_apply_bitmaps_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_snapshots_planted_SOURCES = \
	crash/test-snapshots.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_snapshots_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_snapshots_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_snapshots_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_snapshots_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_snapshots_busy_planted_SOURCES = \
	crash/test-snapshots-busy.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_snapshots_busy_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_snapshots_busy_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_snapshots_busy_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_snapshots_busy_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_deletes_busy_planted_SOURCES = \
	crash/test-deletes-busy.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_deletes_busy_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_deletes_busy_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_deletes_busy_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_deletes_busy_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_checkpoints_busy_planted_SOURCES = \
	crash/test-checkpoints-busy.c \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_checkpoints_busy_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_checkpoints_busy_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_checkpoints_busy_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_checkpoints_busy_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

unit_view_test_view_decompressed_planted_SOURCES = \
	unit/view/test-view-decompressed.c \
	unit/memory_io.c \
	unit/unit.c \
	unit/stops.c \
	unit/views.c \
	$(NULL)
unit_view_test_view_decompressed_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
unit_view_test_view_decompressed_planted_CFLAGS = $(UNIT_CFLAGS)
unit_view_test_view_decompressed_planted_LDFLAGS = $(JITTER_WRAP)
unit_view_test_view_decompressed_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_commit_planted_SOURCES = \
	crash/test-commit.c \
	$(ALLOC_FAULTS) \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_commit_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_commit_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_commit_planted_LDFLAGS = $(JITTER_WRAP) $(ALLOC_WRAP)
crash_test_commit_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

crash_test_edits_planted_SOURCES = \
	crash/test-edits.c \
	$(ALLOC_FAULTS) \
	unit/memory_io.c \
	unit/unit.c \
	$(NULL)
crash_test_edits_planted_CPPFLAGS = $(CRASH_CPPFLAGS) -DQ2_PLANTS
crash_test_edits_planted_CFLAGS = $(UNIT_CFLAGS)
crash_test_edits_planted_LDFLAGS = $(JITTER_WRAP) $(ALLOC_WRAP)
crash_test_edits_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

$(top_builddir)/core/libqcow2planted.la: crash-always
	cd $(top_builddir)/core && $(MAKE) $(AM_MAKEFLAGS) libqcow2planted.la
crash-always:
.PHONY: crash-always
