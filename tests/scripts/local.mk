# SPDX-License-Identifier: BSD-3-Clause
# What people meet first: scripts/, make install, programs of tools/.

scripts_tests = \
	scripts/test-install.sh \
	$(NULL)

TESTS += $(scripts_tests)

EXTRA_DIST += \
	$(scripts_tests) \
	$(NULL)
