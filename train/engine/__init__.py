"""Training loop, fine-tuning and the run folder."""
