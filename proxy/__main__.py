"""`python -m proxy`."""


def main() -> None:
    """Run the command line."""
