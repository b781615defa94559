"""Cues, arousals and whole nights in real time."""
