"""Events of sleep found in recordings."""
