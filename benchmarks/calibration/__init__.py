"""How often a statistic errs where nothing is to be found, and how often its intervals cover."""
