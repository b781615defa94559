"""The summary of a session and the report of the night."""
