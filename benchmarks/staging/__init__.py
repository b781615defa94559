"""Stagers on a real night."""
