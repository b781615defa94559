"""What the scripts in train/ and test/ call."""
