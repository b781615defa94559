"""What is written down: signals, events, exports."""
