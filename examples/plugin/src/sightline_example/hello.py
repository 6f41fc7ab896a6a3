"""A command of its own."""

import click


@click.command("hello")
@click.argument("name")
def command(name: str) -> None:
    """Greets NAME."""
    click.echo(f"Hello, {name}.")
