"""What measures the system and writes pages of docs/; the product imports nothing of it."""
