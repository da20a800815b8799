"""``python -m cl2cm`` is the command line."""

from cl2cm.cli.app import main

main()
