"""Scorings of sleep as other programs write them, a module a format."""
