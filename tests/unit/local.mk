# SPDX-License-Identifier: BSD-3-Clause
# unit/: C tests of the engine over memory I/O, without nbdkit.

UNIT_TESTS = \
	unit/test-ahead \
	unit/test-base \
	unit/test-below-faults \
	unit/test-bitmap-dir \
	unit/test-budget \
	unit/test-cache \
	unit/test-cipher \
	unit/test-clusters \
	unit/test-codec-pool \
	unit/test-codec-zlib \
	unit/test-codec-zstd \
	unit/test-export-names \
	unit/test-extents \
	unit/test-faults \
	unit/test-gate \
	unit/test-gather \
	unit/test-geometry \
	unit/test-header \
	unit/test-header-plan \
	unit/test-host-chains \
	unit/test-host-files \
	unit/test-host-nbd \
	unit/test-hostile-open \
	unit/test-io \
	unit/test-l2e \
	unit/test-limits \
	unit/test-lock \
	unit/test-luks \
	unit/test-map \
	unit/test-meter \
	unit/test-property \
	unit/test-recount \
	unit/test-refcount \
	unit/test-repair \
	unit/test-slow \
	unit/test-slow-faults \
	unit/test-snapshot-table \
	unit/test-space \
	unit/test-stream \
	unit/test-superblock \
	unit/test-view-bitmaps \
	unit/test-view-diff \
	unit/test-view-faults \
	unit/test-view-snapshots \
	unit/test-workers \
	$(NULL)

TESTS += $(UNIT_TESTS)
check_PROGRAMS += $(UNIT_TESTS)

EXTRA_DIST += \
	unit/cipher-vectors.py \
	unit/cipher_vectors.h \
	unit/luks-aes-128-cbc.bin \
	unit/make-luks-fixture \
	$(NULL)

# What the tests share.
check_LTLIBRARIES += unit/libunit.la
unit_libunit_la_SOURCES = \
	unit/exercise.c \
	unit/exercise.h \
	unit/image_builder.c \
	unit/image_builder.h \
	unit/image_inside.c \
	unit/image_inside.h \
	unit/memory_disk.c \
	unit/memory_disk.h \
	unit/memory_io.c \
	unit/memory_io.h \
	unit/random_image.c \
	unit/random_image.h \
	unit/slow.c \
	unit/slow.h \
	unit/stops.c \
	unit/stops.h \
	unit/threads.h \
	unit/unit.c \
	unit/unit.h \
	unit/views.c \
	unit/views.h \
	$(NULL)
unit_libunit_la_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_libunit_la_CFLAGS = $(UNIT_CFLAGS) $(ZLIB_CFLAGS) $(ZSTD_CFLAGS)
unit_libunit_la_LIBADD = $(UNIT_LIBS)

unit_test_base_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_base_CFLAGS = $(UNIT_CFLAGS)
unit_test_base_LDADD = unit/libunit.la

unit_test_budget_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_budget_CFLAGS = $(UNIT_CFLAGS)
unit_test_budget_LDADD = unit/libunit.la

unit_test_cache_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_cache_CFLAGS = $(UNIT_CFLAGS)
unit_test_cache_LDADD = unit/libunit.la

unit_test_codec_pool_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_codec_pool_CFLAGS = $(UNIT_CFLAGS)
unit_test_codec_pool_LDADD = unit/libunit.la

unit_test_codec_zlib_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_codec_zlib_CFLAGS = $(UNIT_CFLAGS) $(ZLIB_CFLAGS)
unit_test_codec_zlib_LDADD = unit/libunit.la

unit_test_codec_zstd_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_codec_zstd_CFLAGS = $(UNIT_CFLAGS) $(ZSTD_CFLAGS)
unit_test_codec_zstd_LDADD = unit/libunit.la

# What the filter has without nbdkit.
unit_test_export_names_SOURCES = unit/test-export-names.c ../filter/exports.c
unit_test_export_names_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)/filter
unit_test_export_names_CFLAGS = $(UNIT_CFLAGS)
unit_test_export_names_LDADD = unit/libunit.la

unit_test_extents_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_extents_CFLAGS = $(UNIT_CFLAGS)
unit_test_extents_LDADD = unit/libunit.la

ALLOC_WRAP = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free
ALLOC_FAULTS = unit/alloc_faults.c unit/alloc_faults.h

unit_test_faults_SOURCES = unit/test-faults.c $(ALLOC_FAULTS)
unit_test_faults_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_faults_CFLAGS = $(UNIT_CFLAGS)
unit_test_faults_LDADD = unit/libunit.la
unit_test_faults_LDFLAGS = $(ALLOC_WRAP)

unit_test_gate_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_gate_CFLAGS = $(UNIT_CFLAGS)
unit_test_gate_LDADD = unit/libunit.la

unit_test_geometry_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_geometry_CFLAGS = $(UNIT_CFLAGS)
unit_test_geometry_LDADD = unit/libunit.la

unit_test_header_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_header_CFLAGS = $(UNIT_CFLAGS)
unit_test_header_LDADD = unit/libunit.la

unit_test_header_plan_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_header_plan_CFLAGS = $(UNIT_CFLAGS)
unit_test_header_plan_LDADD = unit/libunit.la

# host/, without a server.
HOST_FILES = unit/host_files.c unit/host_files.h
HOST_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)
HOST_LIBS = $(top_builddir)/host/libqcow2host.la unit/libunit.la

unit_test_host_chains_SOURCES = unit/test-host-chains.c $(HOST_FILES)
unit_test_host_chains_CPPFLAGS = $(HOST_CPPFLAGS)
unit_test_host_chains_CFLAGS = $(UNIT_CFLAGS)
unit_test_host_chains_LDADD = $(HOST_LIBS)

unit_test_host_files_SOURCES = unit/test-host-files.c $(HOST_FILES)
unit_test_host_files_CPPFLAGS = $(HOST_CPPFLAGS)
unit_test_host_files_CFLAGS = $(UNIT_CFLAGS)
unit_test_host_files_LDADD = $(HOST_LIBS)

unit_test_host_nbd_SOURCES = unit/test-host-nbd.c $(HOST_FILES)
unit_test_host_nbd_CPPFLAGS = $(HOST_CPPFLAGS)
unit_test_host_nbd_CFLAGS = $(UNIT_CFLAGS)
unit_test_host_nbd_LDADD = $(HOST_LIBS)

unit_test_hostile_open_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_hostile_open_CFLAGS = $(UNIT_CFLAGS)
unit_test_hostile_open_LDADD = unit/libunit.la

unit_test_io_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_io_CFLAGS = $(UNIT_CFLAGS)
unit_test_io_LDADD = unit/libunit.la

unit_test_l2e_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_l2e_CFLAGS = $(UNIT_CFLAGS)
unit_test_l2e_LDADD = unit/libunit.la

unit_test_limits_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_limits_CFLAGS = $(UNIT_CFLAGS)
unit_test_limits_LDADD = unit/libunit.la

unit_test_map_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_map_CFLAGS = $(UNIT_CFLAGS)
unit_test_map_LDADD = unit/libunit.la

unit_test_meter_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_meter_CFLAGS = $(UNIT_CFLAGS)
unit_test_meter_LDADD = unit/libunit.la

unit_test_property_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_property_CFLAGS = $(UNIT_CFLAGS)
unit_test_property_LDADD = unit/libunit.la

unit_test_refcount_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_refcount_CFLAGS = $(UNIT_CFLAGS)
unit_test_refcount_LDADD = unit/libunit.la

unit_test_ahead_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_ahead_CFLAGS = $(UNIT_CFLAGS)
unit_test_ahead_LDADD = unit/libunit.la
unit_test_ahead_LDFLAGS = \
	-Wl,--wrap=pthread_cond_wait,--wrap=clock_gettime,--wrap=malloc,--wrap=calloc

unit_test_cipher_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_cipher_CFLAGS = $(UNIT_CFLAGS) $(NETTLE_CFLAGS)
unit_test_cipher_LDADD = unit/libunit.la $(NETTLE_LIBS)

# With the checks of a debug build, whatever the rest is built with.
unit_test_lock_SOURCES = unit/test-lock.c ../core/base/lock.c
unit_test_lock_CPPFLAGS = $(UNIT_CPPFLAGS) -DDEBUG_ASSERTIONS=1
unit_test_lock_CFLAGS = $(UNIT_CFLAGS)
unit_test_lock_LDADD = unit/libunit.la

unit_test_luks_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_luks_CFLAGS = $(UNIT_CFLAGS) $(NETTLE_CFLAGS)
unit_test_luks_LDADD = unit/libunit.la $(NETTLE_LIBS)
unit_test_luks_LDFLAGS = -Wl,--wrap=mmap,--wrap=munmap,--wrap=q2_pbkdf2

unit_test_clusters_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_clusters_CFLAGS = $(UNIT_CFLAGS)
unit_test_clusters_LDADD = unit/libunit.la
unit_test_clusters_LDFLAGS = \
	-Wl,--wrap=pthread_cond_wait,--wrap=malloc,--wrap=calloc

unit_test_workers_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_workers_CFLAGS = $(UNIT_CFLAGS)
unit_test_workers_LDADD = unit/libunit.la
unit_test_workers_LDFLAGS = \
	-Wl,--wrap=pthread_create,--wrap=pthread_join,--wrap=pthread_cond_timedwait,--wrap=calloc

unit_test_gather_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_gather_CFLAGS = $(UNIT_CFLAGS)
unit_test_gather_LDADD = unit/libunit.la

unit_test_slow_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_slow_CFLAGS = $(UNIT_CFLAGS)
unit_test_slow_LDADD = unit/libunit.la

unit_test_slow_faults_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_slow_faults_CFLAGS = $(UNIT_CFLAGS)
unit_test_slow_faults_LDADD = unit/libunit.la

unit_test_space_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_space_CFLAGS = $(UNIT_CFLAGS)
unit_test_space_LDADD = unit/libunit.la

unit_test_stream_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_stream_CFLAGS = $(UNIT_CFLAGS)
unit_test_stream_LDADD = unit/libunit.la

unit_test_superblock_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_superblock_CFLAGS = $(UNIT_CFLAGS)
unit_test_superblock_LDADD = unit/libunit.la

unit_test_view_bitmaps_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_view_bitmaps_CFLAGS = $(UNIT_CFLAGS)
unit_test_view_bitmaps_LDADD = unit/libunit.la

unit_test_view_faults_SOURCES = unit/test-view-faults.c $(ALLOC_FAULTS)
unit_test_view_faults_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_view_faults_CFLAGS = $(UNIT_CFLAGS)
unit_test_view_faults_LDADD = unit/libunit.la
unit_test_view_faults_LDFLAGS = $(ALLOC_WRAP)

unit_test_view_diff_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_view_diff_CFLAGS = $(UNIT_CFLAGS)
unit_test_view_diff_LDADD = unit/libunit.la

unit_test_view_snapshots_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_view_snapshots_CFLAGS = $(UNIT_CFLAGS)
unit_test_view_snapshots_LDADD = unit/libunit.la

unit_test_below_faults_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_below_faults_CFLAGS = $(UNIT_CFLAGS)
unit_test_below_faults_LDADD = unit/libunit.la
unit_test_bitmap_dir_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_bitmap_dir_CFLAGS = $(UNIT_CFLAGS)
unit_test_bitmap_dir_LDADD = unit/libunit.la

unit_test_recount_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_recount_CFLAGS = $(UNIT_CFLAGS)
unit_test_recount_LDADD = unit/libunit.la

unit_test_repair_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_repair_CFLAGS = $(UNIT_CFLAGS)
unit_test_repair_LDADD = unit/libunit.la

unit_test_snapshot_table_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_test_snapshot_table_CFLAGS = $(UNIT_CFLAGS)
unit_test_snapshot_table_LDADD = unit/libunit.la

# What nbd/test-check-qemu.sh and nbd/test-repair-qemu.sh run.
check_PROGRAMS += unit/header-file
unit_header_file_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_header_file_CFLAGS = $(UNIT_CFLAGS)
unit_header_file_LDADD = $(UNIT_LIBS)

check_PROGRAMS += unit/check-file unit/repair-file
unit_check_file_SOURCES = unit/check-file.c unit/local_file.c \
	unit/local_file.h
unit_check_file_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_check_file_CFLAGS = $(UNIT_CFLAGS)
unit_check_file_LDADD = $(UNIT_LIBS)
unit_repair_file_SOURCES = unit/repair-file.c unit/local_file.c \
	unit/local_file.h
unit_repair_file_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_repair_file_CFLAGS = $(UNIT_CFLAGS)
unit_repair_file_LDADD = $(UNIT_LIBS)
