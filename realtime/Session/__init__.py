"""The session on the sample clock: staging, cueing, decoding, monitoring."""
