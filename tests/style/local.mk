# SPDX-License-Identifier: BSD-3-Clause
# The sources and the documentation themselves.

slow_style_tests = \
	style/test-no-nbdkit.sh \
	style/test-clang-analyzer.sh \
	style/test-gcc-analyzer.sh \
	style/test-clang-tidy.sh \
	style/test-warnings.sh \
	style/test-cppcheck.sh \
	style/test-shellcheck.sh \
	$(NULL)

style_tests = \
	style/test-awk.sh \
	style/test-codespell.sh \
	style/test-columns.sh \
	style/test-docs.sh \
	style/test-examples.sh \
	style/test-filters.sh \
	style/test-headers.sh \
	style/test-help-vs-man.sh \
	style/test-html.sh \
	style/test-layers.sh \
	style/test-loops.sh \
	style/test-man.sh \
	style/test-neutral.sh \
	style/test-ranks.sh \
	style/test-spdx.sh \
	$(NULL)

TESTS += $(style_tests)
LONG_TESTS += \
	style/test-clang-analyzer-long.sh \
	style/test-dist.sh \
	style/test-html-long.sh \
	style/test-shellcheck-long.sh \
	$(NULL)

EXTRA_DIST += \
	$(slow_style_tests) \
	$(style_tests) \
	style/examples.py \
	style/find-awk.py \
	style/html_check.py \
	style/lib.sh \
	$(NULL)
