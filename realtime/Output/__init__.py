"""Sound and markers."""
