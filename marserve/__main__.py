"""`python -m marserve`."""

from marserve.cli import main

main()
