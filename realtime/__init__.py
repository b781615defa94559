"""The real-time TMR loop: staging, cueing and decoding on the sample clock of a stream."""
