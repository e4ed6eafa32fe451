"""Refuse an unsupported Python in one line, before anything is installed with it (runs on any Python 3)."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit("marserve needs Python 3.11 or 3.12, this is " + found + ": try `make serve PYTHON=python3.12`")
