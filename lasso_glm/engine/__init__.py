"""Fits, runs and reports of the Lasso GLMs."""
