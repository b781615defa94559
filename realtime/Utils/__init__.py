"""Helpers of the loop: terminal, LSL's settings, registered parts."""
