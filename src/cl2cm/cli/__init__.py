"""The command line: parse, call, print."""


def main() -> None:
    """Run the command line; scripts of earlier installations start here."""
    from cl2cm.cli.app import main as run

    run()
