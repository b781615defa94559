"""Adapters from the project's networks and YASA onto the loop; no network is defined here."""
