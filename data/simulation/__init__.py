"""The simulator: head, sleep, memory, data sets and live sleepers."""
