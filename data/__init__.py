"""Readers and writers of the data set's files, and the simulator; the data themselves are not committed."""
