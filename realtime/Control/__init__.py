"""Commands of the operator, and what a session publishes."""
