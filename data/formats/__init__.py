"""Readers and writers of the published file layout."""
