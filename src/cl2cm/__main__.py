"""``python -m cl2cm`` is the command line."""

from cl2cm.cli import main

main()
