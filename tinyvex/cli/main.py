"""
The `tinyvex` command: finds the command's file, runs it, and turns every error into one line and an exit code.

A command is imported only when it is called, so that `tinyvex serve` starts as fast as its own imports allow.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from tinyvex.errors import DiskFull, RemoteError, TinyvexError, error_classes, violation_lines

COMMANDS = {
    "new": "tinyvex.cli.new",
    "dev": "tinyvex.cli.dev",
    "serve": "tinyvex.cli.serve",
    "run": "tinyvex.cli.run",
    "data": "tinyvex.cli.data",
    "history": "tinyvex.cli.history",
    "function-spec": "tinyvex.cli.function_spec",
    "dashboard": "tinyvex.cli.dashboard",
    "pair": "tinyvex.cli.pair",
    "tokens": "tinyvex.cli.tokens",
    "browse": "tinyvex.cli.browse",
    "stats": "tinyvex.cli.stats",
    "check": "tinyvex.cli.check",
    "export": "tinyvex.cli.export",
    "import": "tinyvex.cli.import_documents",
    "wipe": "tinyvex.cli.wipe",
    "backup": "tinyvex.cli.backup",
    "restore": "tinyvex.cli.restore",
    "compact": "tinyvex.cli.compact",
}
"""Each command's module, in the order in which `--help` lists them; its `command` is what runs."""

EXIT_CRASH = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

LEFT_THREADS_SECONDS = 2.0
"""How long threads that a command leaves behind may keep its process."""


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from tinyvex.version import __version__

        click.echo(f"tinyvex {__version__}")
        context.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print it and exit."
)
def group() -> None:
    """
    A realtime document database that starts with your app.

    \b
    Begin with:   tinyvex new notes
                  cd notes
                  tinyvex dev

    APP is a Python file or a folder of them.
    Left out, it is the one that [tool.tinyvex] in pyproject.toml names, else the one served last.
    The data lies in .tinyvex beside the app unless --data names another folder.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run one command and end the process.

    Exit codes are documented in the README; `tinyvex.errors` has each error's own.
    """
    code = run(arguments)
    _end_in_time(code)
    sys.exit(code)


def _end_in_time(code: int) -> None:
    """
    End the process soon, also where threads go on that an app or a library began.

    Python waits for them, however long: one that an action began may fetch something from a server that does not answer.
    """

    def cut() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    if threading.active_count() > 1:  # daemons, too: those of an executor are waited for all the same
        timer = threading.Timer(LEFT_THREADS_SECONDS, cut)
        timer.daemon = True
        timer.start()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors go to stderr as one line; returns the exit code."""
    try:
        # Not `group.main`: it takes a reader that has enough of our output for a failure.
        with group.make_context("tinyvex", list(sys.argv[1:] if arguments is None else arguments)) as context:
            group.invoke(context)
        return 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        hint = f" (see: {error.ctx.command_path} --help)" if error.ctx is not None else ""
        _complain(f"{error.format_message()}{hint}")
        return EXIT_USAGE
    except click.ClickException as error:
        _complain(error.format_message())
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except TinyvexError as error:
        for violation in violation_lines(error):
            click.echo(violation, err=True)
        _complain(f"{error.message} ({error.name})")
        return exit_code(error)
    except BrokenPipeError:
        # Whoever read our output has enough of it, or is gone: nothing is said any more, not even by the last flush.
        _drop_output()
        return 0
    except Exception as error:  # noqa: BLE001 - the last frame: a defect is reported with its traceback
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            # Storage has its own error for a full disk: this is where our output goes.
            _complain("what this prints cannot be written: the disk is full (DiskFull)")
            _drop_output()
            return DiskFull.exit_code
        traceback.print_exc()
        _complain(f"internal error, please report it with the lines above: {error!r}")
        return EXIT_CRASH


def _drop_output() -> None:
    assert sys.__stdout__ is not None
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


def exit_code(error: TinyvexError) -> int:
    """The process's exit code for an error; an error that a server answered with counts as if raised here."""
    if isinstance(error, RemoteError):
        codes = {cls.number: cls.exit_code for cls in error_classes()}
        return codes.get(error.remote_number, error.exit_code)
    return error.exit_code


def _complain(message: str) -> None:
    click.echo(f"tinyvex: {message}", err=True)
