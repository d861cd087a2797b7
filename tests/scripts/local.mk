# SPDX-License-Identifier: BSD-3-Clause
# First steps of a user: scripts/, make install, programs of tools/.

scripts_tests = \
	scripts/test-install.sh \
	scripts/test-serve.sh \
	scripts/test-setup.sh \
	$(NULL)

TESTS += $(scripts_tests)

EXTRA_DIST += \
	$(scripts_tests) \
	scripts/leave.py \
	scripts/lib.sh \
	scripts/terminal.py \
	$(NULL)
