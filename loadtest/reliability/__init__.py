"""What a server behind its edge does when clients send garbage, workers die, or more comes than it can do."""
