"""Tools shared by the scripts: one purpose a module."""
