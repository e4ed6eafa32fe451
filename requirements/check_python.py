"""Refuse an unsupported Python in one line, before anything is installed with it (runs on any Python 3)."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit(
        "marserve needs Python 3.11 or 3.12, and {} is {}.{}: name another one, as in `make serve PYTHON=python3.12`".format(
            sys.executable, *sys.version_info[:2]
        )
    )
