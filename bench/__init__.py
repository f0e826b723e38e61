"""Measures what a rendered service costs, always in comparison with something else in the same run.

Absolute figures of a shared machine mean little, because its speed changes. The ratio of two things
measured in turn is stable, so most figures here are medians of ratios. See docs/benchmarks.md.
"""
