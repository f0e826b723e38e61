"""Measures what a rendered service costs, always beside something else in the same run.

Absolute figures of a shared machine say little; the ratio of two things measured in turn says
much. So every figure here is a median of such ratios. See docs/benchmarks.md.
"""
