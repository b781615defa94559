"""Channels, units, recordings, resampling and preprocessing of signals."""
