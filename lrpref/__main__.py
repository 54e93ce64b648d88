"""Run the command line: `python -m lrpref`."""

from lrpref.cli import main

main()
