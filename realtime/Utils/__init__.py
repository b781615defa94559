"""Parts of the loop, one file each: source, resampler, buffer, gate, cues, audio, markers, log, engine."""
