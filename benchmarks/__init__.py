"""Runnable comparisons: each figure beside its reference, both taken in one run."""
