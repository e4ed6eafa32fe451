"""Whose archives are served, and whether a new version keeps what clients rely on."""
