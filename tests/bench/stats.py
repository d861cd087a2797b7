# SPDX-License-Identifier: BSD-3-Clause
"""Medians, quartiles and paired comparisons.

Samples are lists indexed by round; every recipe is sampled once in each
round, so sample i of one recipe and sample i of another were taken within
seconds of each other.  Comparing inside a round first and taking the median
afterwards keeps slow drifts of the machine out of the result.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    median: float
    low: float          # first quartile
    high: float         # third quartile
    n: int


def summarise(samples: Sequence[float]) -> Summary:
    if len(samples) == 1:
        return Summary(samples[0], samples[0], samples[0], 1)
    low, median, high = statistics.quantiles(samples, n=4,
                                             method="inclusive")
    return Summary(median, low, high, len(samples))


def _paired(how: Callable[[float, float], float], ours: Sequence[float],
            base: Sequence[float]) -> Summary | None:
    pairs = [how(a, b) for a, b in zip(ours, base)
             if how is operator.sub or b != 0]
    return summarise(pairs) if pairs else None


def ratio(ours: Sequence[float], base: Sequence[float]) -> Summary | None:
    """The median, over the rounds, of ours / base of the same round."""
    return _paired(operator.truediv, ours, base)


def difference(ours: Sequence[float], base: Sequence[float]) \
        -> Summary | None:
    """The median, over the rounds, of ours - base of the same round."""
    return _paired(operator.sub, ours, base)
