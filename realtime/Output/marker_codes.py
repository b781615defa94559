"""The codes of one byte that go to other programs and amplifiers (published)."""

CUE_BASE = 1
DECODED_BASE = 21
DECODE_FAILED = 36
GROUP_BASE = 90
