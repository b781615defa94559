"""Errors, paths, settings, command line, locks, provenance: what every package stands on."""
