"""Versions under load: promoted, rolled out, shadowed, and what happens when something dies meanwhile."""
