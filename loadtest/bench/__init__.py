"""`python -m loadtest.bench`: marserve and its peers, the same models, one machine, one run."""
