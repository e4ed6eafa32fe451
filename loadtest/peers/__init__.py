"""The same models on other servers: a short module each, as that server's documentation writes them.

`NAME.txt` locks the environment of NAME.py, every package of it. What the modules share is in `common`.
"""
