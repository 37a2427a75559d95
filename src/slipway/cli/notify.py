"""Commands about notifications: who is told of runs that need somebody."""

from dataclasses import asdict

import click

from slipway.cli.project import find_root, json_option, show_json
from slipway.errors import ConfigError


@click.group()
def notify() -> None:
    """Who is told when a run crashed, failed, was rejected or waits: configs/notify.yaml.

    \b
      slipway notify test
    """


@notify.command()
@json_option
def test(as_json: bool) -> int:
    """Send a test message to every target of configs/notify.yaml.

    Each is named with what became of it: sent, or why not. Exit code 1 if any was not.

    \b
      slipway notify test
      slipway notify test --json
    """
    from slipway.notify.message import TEST
    from slipway.notify.send import Post
    from slipway.notify.targets import FILE, load_notify

    root = find_root()
    config = load_notify(root)
    if config is None:
        problem = "no such file; docs/prefect.md shows one to start from"
        raise ConfigError(str(FILE), [problem])
    post = Post(root)
    done = [post.send(TEST, target) for target in config.targets]
    if as_json:
        show_json([asdict(sent) for sent in done])
    else:
        for sent in done:
            click.echo(f"{sent.target}: {'sent' if sent.ok else f'not sent: {sent.problem}'}")
    return 0 if all(sent.ok for sent in done) else 1
