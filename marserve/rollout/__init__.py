"""Trying a version of a model on live traffic before it answers all of it."""
