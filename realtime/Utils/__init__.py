"""Helpers of the loop: ring buffer, terminal, locks, LSL's settings, registered parts."""
