"""Evaluation of trained networks, and the comparison of runs."""
