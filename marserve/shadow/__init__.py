"""Copies of a model's requests for a version that answers no client yet, and what comes of comparing the answers."""
