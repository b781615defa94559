"""Speed as a share of the machine's own matrix multiplication."""
