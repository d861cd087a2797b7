# SPDX-License-Identifier: BSD-3-Clause
# crash/: what a crash at any moment leaves behind.

SLOW_CRASH_TESTS = \
	crash/test-check \
	crash/test-check-planted \
	crash/test-crash \
	unit/test-write-faults \
	unit/test-write-model \
	crash/test-planted \
	crash/test-fsck \
	unit/test-refusals \
	unit/test-chain \
	unit/test-view-history \
	$(NULL)

CRASH_TESTS = \
	unit/test-bugs \
	unit/test-create \
	unit/test-requests \
	unit/test-view-writes \
	unit/test-write-disasters \
	unit/test-write-hostile \
	unit/test-write-races \
	unit/test-write-crowd \
	unit/test-write-room \
	unit/test-write-small \
	unit/test-write-space \
	unit/test-write-trust \
	$(NULL)

TESTS += $(CRASH_TESTS)
check_PROGRAMS += $(SLOW_CRASH_TESTS) $(CRASH_TESTS)
EXTRA_DIST += crash/local.mk
LONG_TESTS += crash/test-crash-long.sh crash/test-model-long.sh

JITTER_WRAP = \
	-Wl,--wrap=pthread_mutex_lock,--wrap=pthread_mutex_unlock
CRASH_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(srcdir)/crash

# The host, the replayer, and those that judge; unit/ uses them too.
check_LTLIBRARIES += crash/libcrash.la
crash_libcrash_la_SOURCES = \
	crash/campaign.c \
	crash/campaign.h \
	crash/choice.c \
	crash/choice.h \
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
	$(NULL)
crash_libcrash_la_CPPFLAGS = $(CRASH_CPPFLAGS)
crash_libcrash_la_CFLAGS = $(UNIT_CFLAGS)

# The engine comes last, and from unit/libunit.la the other tests' one.
crash_test_crash_CPPFLAGS = $(CRASH_CPPFLAGS)
crash_test_crash_CFLAGS = $(UNIT_CFLAGS)
crash_test_crash_LDFLAGS = $(JITTER_WRAP)
crash_test_crash_LDADD = crash/libcrash.la unit/libunit.la

crash_test_check_CPPFLAGS = $(CRASH_CPPFLAGS)
crash_test_check_CFLAGS = $(UNIT_CFLAGS)
crash_test_check_LDFLAGS = $(JITTER_WRAP)
crash_test_check_LDADD = crash/libcrash.la unit/libunit.la

crash_test_fsck_CPPFLAGS = $(CRASH_CPPFLAGS)
crash_test_fsck_CFLAGS = $(UNIT_CFLAGS)
crash_test_fsck_LDFLAGS = $(JITTER_WRAP)
crash_test_fsck_LDADD = crash/libcrash.la unit/libunit.la

unit_test_view_history_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_view_history_CFLAGS = $(UNIT_CFLAGS)
unit_test_view_history_LDFLAGS = $(JITTER_WRAP)
unit_test_view_history_LDADD = crash/libcrash.la unit/libunit.la

unit_test_view_writes_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_view_writes_CFLAGS = $(UNIT_CFLAGS)
unit_test_view_writes_LDFLAGS = $(JITTER_WRAP)
unit_test_view_writes_LDADD = crash/libcrash.la unit/libunit.la

unit_test_chain_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_chain_CFLAGS = $(UNIT_CFLAGS)
unit_test_chain_LDFLAGS = $(JITTER_WRAP)
unit_test_chain_LDADD = crash/libcrash.la unit/libunit.la

unit_test_create_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_create_CFLAGS = $(UNIT_CFLAGS)
unit_test_create_LDFLAGS = $(JITTER_WRAP)
unit_test_create_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_disasters_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_disasters_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_disasters_LDFLAGS = $(JITTER_WRAP)
unit_test_write_disasters_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_faults_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_faults_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_faults_LDADD = crash/libcrash.la unit/libunit.la
unit_test_write_faults_LDFLAGS = \
	$(JITTER_WRAP) \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc

# What these share.
HOOKED_DISK = unit/hooked_disk.c unit/hooked_disk.h

unit_test_bugs_SOURCES = unit/test-bugs.c $(HOOKED_DISK)
unit_test_bugs_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_bugs_CFLAGS = $(UNIT_CFLAGS)
unit_test_bugs_LDFLAGS = $(JITTER_WRAP)
unit_test_bugs_LDADD = crash/libcrash.la unit/libunit.la

unit_test_refusals_SOURCES = unit/test-refusals.c $(HOOKED_DISK)
unit_test_refusals_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_refusals_CFLAGS = $(UNIT_CFLAGS)
unit_test_refusals_LDFLAGS = $(JITTER_WRAP)
unit_test_refusals_LDADD = crash/libcrash.la unit/libunit.la

unit_test_requests_SOURCES = unit/test-requests.c $(HOOKED_DISK)
unit_test_requests_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_requests_CFLAGS = $(UNIT_CFLAGS)
unit_test_requests_LDFLAGS = $(JITTER_WRAP)
unit_test_requests_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_hostile_SOURCES = unit/test-write-hostile.c $(HOOKED_DISK)
unit_test_write_hostile_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_hostile_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_hostile_LDFLAGS = $(JITTER_WRAP)
unit_test_write_hostile_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_trust_SOURCES = unit/test-write-trust.c $(HOOKED_DISK)
unit_test_write_trust_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_trust_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_trust_LDFLAGS = $(JITTER_WRAP)
unit_test_write_trust_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_races_SOURCES = unit/test-write-races.c $(HOOKED_DISK)
unit_test_write_races_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_races_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_races_LDFLAGS = $(JITTER_WRAP)
unit_test_write_races_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_room_SOURCES = unit/test-write-room.c $(HOOKED_DISK)
unit_test_write_room_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_room_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_room_LDFLAGS = $(JITTER_WRAP)
unit_test_write_room_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_crowd_SOURCES = unit/test-write-crowd.c $(HOOKED_DISK)
unit_test_write_crowd_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_crowd_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_crowd_LDFLAGS = $(JITTER_WRAP)
unit_test_write_crowd_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_small_SOURCES = unit/test-write-small.c $(HOOKED_DISK)
unit_test_write_small_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_small_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_small_LDFLAGS = $(JITTER_WRAP)
unit_test_write_small_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_space_SOURCES = unit/test-write-space.c $(HOOKED_DISK)
unit_test_write_space_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_space_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_space_LDFLAGS = $(JITTER_WRAP)
unit_test_write_space_LDADD = crash/libcrash.la unit/libunit.la

unit_test_write_model_CPPFLAGS = $(CRASH_CPPFLAGS)
unit_test_write_model_CFLAGS = $(UNIT_CFLAGS)
unit_test_write_model_LDFLAGS = $(JITTER_WRAP)
unit_test_write_model_LDADD = crash/libcrash.la unit/libunit.la

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
crash_test_check_planted_LDFLAGS = $(JITTER_WRAP)
crash_test_check_planted_LDADD = crash/libcrash.la \
	$(top_builddir)/core/libqcow2planted.la

$(top_builddir)/core/libqcow2planted.la: crash-always
	cd $(top_builddir)/core && $(MAKE) $(AM_MAKEFLAGS) libqcow2planted.la
crash-always:
.PHONY: crash-always
