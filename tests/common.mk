# SPDX-License-Identifier: BSD-3-Clause
# Variables that the folders of tests append to.

# Log rules for tests that only make check-long names.
TEST_EXTENSIONS = .sh .py

TESTS =
XFAIL_TESTS =
check_PROGRAMS =
check_LTLIBRARIES =
noinst_PROGRAMS =
EXTRA_PROGRAMS =
CLEANFILES =
DISTCLEANFILES =
EXTRA_DIST = \
	common.mk \
	fuzz/local.mk \
	unit/local.mk \
	nbd/local.mk \
	scripts/local.mk \
	style/local.mk \
	tools/local.mk \
	lib/README.md \
	lib/bin/qemu-img \
	$(PYTHON_LIB) \
	bench/local.mk \
	$(LONG_TESTS) \
	$(NULL)

PYTHON_LIB = \
	lib/build.py \
	lib/chains.py \
	lib/hostile.py \
	lib/hostile_images.py \
	lib/luks.py \
	lib/matrix.py \
	lib/matrix_images.py \
	lib/oracle.py \
	lib/qfmt.py \
	lib/qgen.py \
	lib/qgen_selftest.py \
	lib/qpack.py \
	lib/qsnap.py \
	lib/qwrite.py \
	$(NULL)

# Run by make check-long in addition.
LONG_TESTS =

# Tests in shell and Python need to find the build and the sources.
AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	PYTHON='$(PYTHON)'; export PYTHON; \
	QCOW2_ABORT_ON_BUGS=1; export QCOW2_ABORT_ON_BUGS; \
	SANITIZER='$(SANITIZER)'; export SANITIZER; \
	VALGRIND='$(VALGRIND)'; export VALGRIND; \
	LC_ALL=C; export LC_ALL; \
	PATH='$(abs_top_srcdir)/tests/lib/bin':"$$PATH"; export PATH; \
	$(NULL)

# A command that ends a test which hangs; scripts/test has one.
LIMIT =
LOG_COMPILER = $(LIMIT)
SH_LOG_COMPILER = $(LIMIT)

# C tests link the engine statically and may look at all of it.
UNIT_CPPFLAGS = -I$(top_srcdir)/core -I$(srcdir)/unit
UNIT_CFLAGS = $(WARN_CFLAGS) $(SANITIZER_CFLAGS)
UNIT_LIBS = $(top_builddir)/core/libqcow2core.la

# So does any program that says nothing else.
AM_CPPFLAGS = $(CRASH_CPPFLAGS)
AM_CFLAGS = $(UNIT_CFLAGS)
LDADD = unit/libunit.la

check-long: check
	$(MAKE) check TESTS="$(LONG_TESTS)"
