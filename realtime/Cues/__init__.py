"""Which cue comes when, and how loud."""
