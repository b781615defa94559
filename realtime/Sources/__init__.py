"""Where samples come from: files, streams, simulated sleepers."""
