"""How often the statistics of the reports are wrong, by simulation."""
