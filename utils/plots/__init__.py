"""Figures and the pages that hold them; matplotlib is imported here alone."""
