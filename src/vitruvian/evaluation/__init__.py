"""Measuring: held-out people, scores and the benchmarks made of them."""
