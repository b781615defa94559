"""From a command line to a session that runs."""
