"""A new version of a model beside the one before: a growing share of the traffic, until it is known to be good."""
