# SPDX-License-Identifier: BSD-3-Clause
# unit/: C tests of the engine over memory I/O, without nbdkit.

UNIT_TESTS = \
	unit/io/test-ahead \
	unit/io/test-ahead-changes \
	unit/base/test-base \
	unit/image/test-below-faults \
	unit/meta/test-bitmap-dir \
	unit/host/test-bounce \
	unit/base/test-budget \
	unit/meta/test-cache \
	unit/codec/test-cipher \
	unit/read/test-clusters \
	unit/codec/test-codec-pool \
	unit/codec/test-codec-zlib \
	unit/codec/test-codec-zstd \
	unit/filter/test-export-names \
	unit/read/test-extents \
	unit/image/test-faults \
	unit/base/test-gate \
	unit/read/test-gather \
	unit/format/test-geometry \
	unit/format/test-header \
	unit/format/test-header-plan \
	unit/host/test-host-chains \
	unit/host/test-host-files \
	unit/host/test-host-nbd \
	unit/host/test-new-image \
	unit/image/test-hostile-open \
	unit/io/test-io \
	unit/format/test-l2e \
	unit/image/test-limits \
	unit/base/test-lock \
	unit/data/test-luks \
	unit/data/test-store \
	unit/map/test-map \
	unit/io/test-meter \
	unit/read/test-property \
	unit/check/test-recount \
	unit/format/test-refcount \
	unit/tools/test-rehearsal \
	unit/check/test-repair \
	unit/read/test-slow \
	unit/read/test-slow-faults \
	unit/meta/test-snapshot-table \
	unit/alloc/test-space \
	unit/read/test-stream \
	unit/meta/test-superblock \
	unit/track/test-zones \
	unit/view/test-view-bitmaps \
	unit/view/test-view-diff \
	unit/view/test-view-faults \
	unit/view/test-view-snapshots \
	unit/base/test-workers \
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

unit_codec_test_codec_zlib_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_codec_test_codec_zlib_CFLAGS = $(UNIT_CFLAGS) $(ZLIB_CFLAGS)

unit_codec_test_codec_zstd_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_codec_test_codec_zstd_CFLAGS = $(UNIT_CFLAGS) $(ZSTD_CFLAGS)

# What the filter has without nbdkit.
unit_filter_test_export_names_SOURCES = unit/filter/test-export-names.c ../filter/exports.c
unit_filter_test_export_names_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)/filter
unit_filter_test_export_names_CFLAGS = $(UNIT_CFLAGS)

# What qcow2ctl has without the rest of it.
unit_tools_test_rehearsal_SOURCES = unit/tools/test-rehearsal.c ../tools/qcow2ctl/rehearsal.c
unit_tools_test_rehearsal_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)
unit_tools_test_rehearsal_CFLAGS = $(UNIT_CFLAGS)

ALLOC_WRAP = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free
ALLOC_FAULTS = unit/alloc_faults.c unit/alloc_faults.h

unit_image_test_faults_SOURCES = unit/image/test-faults.c $(ALLOC_FAULTS)
unit_image_test_faults_LDFLAGS = $(ALLOC_WRAP)

# host/, without a server.
HOST_FILES = unit/host_files.c unit/host_files.h
HOST_CPPFLAGS = $(UNIT_CPPFLAGS) -I$(top_srcdir)
HOST_LIBS = $(top_builddir)/host/libqcow2host.la unit/libunit.la

unit_host_test_bounce_SOURCES = unit/host/test-bounce.c $(HOST_FILES)
unit_host_test_bounce_CPPFLAGS = $(HOST_CPPFLAGS)
unit_host_test_bounce_CFLAGS = $(UNIT_CFLAGS)
unit_host_test_bounce_LDADD = $(HOST_LIBS)

unit_host_test_host_chains_SOURCES = unit/host/test-host-chains.c $(HOST_FILES)
unit_host_test_host_chains_CPPFLAGS = $(HOST_CPPFLAGS)
unit_host_test_host_chains_CFLAGS = $(UNIT_CFLAGS)
unit_host_test_host_chains_LDADD = $(HOST_LIBS)

unit_host_test_host_files_SOURCES = unit/host/test-host-files.c $(HOST_FILES)
unit_host_test_host_files_CPPFLAGS = $(HOST_CPPFLAGS)
unit_host_test_host_files_CFLAGS = $(UNIT_CFLAGS)
unit_host_test_host_files_LDADD = $(HOST_LIBS)

unit_host_test_host_nbd_SOURCES = unit/host/test-host-nbd.c $(HOST_FILES)
unit_host_test_host_nbd_CPPFLAGS = $(HOST_CPPFLAGS)
unit_host_test_host_nbd_CFLAGS = $(UNIT_CFLAGS)
unit_host_test_host_nbd_LDADD = $(HOST_LIBS)
unit_host_test_new_image_SOURCES = unit/host/test-new-image.c
unit_host_test_new_image_CPPFLAGS = $(HOST_CPPFLAGS)
unit_host_test_new_image_CFLAGS = $(UNIT_CFLAGS)
unit_host_test_new_image_LDADD = $(HOST_LIBS)

unit_io_test_ahead_LDFLAGS = \
	-Wl,--wrap=pthread_cond_wait,--wrap=clock_gettime,--wrap=malloc,--wrap=calloc

unit_codec_test_cipher_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_codec_test_cipher_CFLAGS = $(UNIT_CFLAGS) $(NETTLE_CFLAGS)
unit_codec_test_cipher_LDADD = unit/libunit.la $(NETTLE_LIBS)

# With the checks of a debug build, whatever the rest is built with.
unit_base_test_lock_SOURCES = unit/base/test-lock.c ../core/base/lock.c
unit_base_test_lock_CPPFLAGS = $(UNIT_CPPFLAGS) -DDEBUG_ASSERTIONS=1
unit_base_test_lock_CFLAGS = $(UNIT_CFLAGS)

unit_data_test_luks_CPPFLAGS = $(UNIT_CPPFLAGS)
unit_data_test_luks_CFLAGS = $(UNIT_CFLAGS) $(NETTLE_CFLAGS)
unit_data_test_luks_LDADD = unit/libunit.la $(NETTLE_LIBS)
unit_data_test_luks_LDFLAGS = -Wl,--wrap=mmap,--wrap=munmap,--wrap=q2_pbkdf2

unit_read_test_clusters_LDFLAGS = \
	-Wl,--wrap=pthread_cond_wait,--wrap=malloc,--wrap=calloc

unit_base_test_workers_LDFLAGS = \
	-Wl,--wrap=pthread_create,--wrap=pthread_join,--wrap=pthread_cond_timedwait,--wrap=calloc

unit_view_test_view_faults_SOURCES = unit/view/test-view-faults.c $(ALLOC_FAULTS)
unit_view_test_view_faults_LDFLAGS = $(ALLOC_WRAP)

# What nbd/test-check-qemu.sh and nbd/test-repair-qemu.sh run.
check_PROGRAMS += unit/header-file
unit_header_file_LDADD = $(UNIT_LIBS)

check_PROGRAMS += unit/check-file unit/repair-file
unit_check_file_SOURCES = unit/check-file.c unit/local_file.c \
	unit/local_file.h
unit_check_file_LDADD = $(UNIT_LIBS)
unit_repair_file_SOURCES = unit/repair-file.c unit/local_file.c \
	unit/local_file.h
unit_repair_file_LDADD = $(UNIT_LIBS)
