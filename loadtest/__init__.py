"""Load tests from the users' side, over REST and gRPC. Knows the servers' protocols only, no model and no handler."""
