# SPDX-License-Identifier: BSD-3-Clause
# First steps of a user: scripts/, make install, programs of tools/.

slow_scripts_tests = \
	scripts/test-serve.sh \
	$(NULL)

scripts_tests = \
	scripts/test-completion.sh \
	scripts/test-install.sh \
	scripts/test-setup.sh \
	$(NULL)

TESTS += $(scripts_tests)

EXTRA_DIST += \
	$(slow_scripts_tests) \
	$(scripts_tests) \
	scripts/leave.py \
	scripts/lib.sh \
	scripts/terminal.py \
	$(NULL)
