"""Simulated nights measured beside real sleep."""
