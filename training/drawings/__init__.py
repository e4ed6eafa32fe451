"""Drawn pictures of vessels, empty or with a drink in them. The same seed draws the same picture."""
