"""Decoders on simulated cohorts and on real EEG."""
