"""A lab's own recordings into files of the published layout."""
