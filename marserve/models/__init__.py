"""`marserve models`: the versions of a running server, one made the default after the other, and who did that."""
