"""
The `tinyvex` command: import one command's file, run it, and turn every error into one line and an exit code.

Only the called command is imported, so that each starts as fast as its own imports allow.
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

from tinyvex.errors import DiskFull, SchemaRejected, TinyvexError

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
    "drop": "tinyvex.cli.drop",
    "backup": "tinyvex.cli.backup",
    "restore": "tinyvex.cli.restore",
    "compact": "tinyvex.cli.compact",
}
"""The module of each command, in the order of `--help`. The module's `command` is run."""

EXIT_CRASH = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

THREAD_EXIT_SECONDS = 2.0
"""The longest time for which threads that outlive a command may delay the end of its process."""


class _LazyGroup(click.Group):
    """Imports a command when it is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            import difflib

            similar = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean `{similar[0]}`?" if similar else ""
            raise click.UsageError(f"`{args[0]}` is not a command{hint}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(context: click.Context, _parameter: click.Parameter, is_set: bool) -> None:
    if is_set:
        from tinyvex.version import __version__

        click.echo(f"tinyvex {__version__}")
        context.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def group() -> None:
    """
    A realtime document database that starts with your app.

    \b
    To begin:   tinyvex new notes
                cd notes
                tinyvex dev

    APP is a Python file or a folder of Python files.
    By default it is the app named by [tool.tinyvex] in pyproject.toml, else the app served last.
    Data is stored in .tinyvex next to the app unless --data names another folder.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run one command and end the process.

    The README lists the exit codes; `tinyvex.errors` defines the code of each error.
    """
    _open_standard_streams()
    _disable_core_dumps()
    code = run(arguments)
    _bound_thread_exit(code)
    sys.exit(code)


def _open_standard_streams() -> None:
    """
    Open /dev/null for each standard stream that the parent closed.

    Otherwise the next file or socket would get the number of stderr, and a library's message would be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - it stays open; no import of pathlib
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _disable_core_dumps() -> None:
    """
    Set the limit of core dumps to zero: the memory of a process has the admin token.

    The soft limit alone, so that a program that the app starts can raise it again. Windows has no such limit.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _bound_thread_exit(code: int) -> None:
    """
    End the process within THREAD_EXIT_SECONDS even if the app or a library left threads running.

    Python waits for threads without a limit, and a thread started by an action may wait for a server that never answers.
    """

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    if threading.active_count() > 1:  # daemon threads count: Python waits for those of an executor
        timer = threading.Timer(THREAD_EXIT_SECONDS, end)
        timer.daemon = True
        timer.start()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command, print errors as one line on stderr, and return the exit code."""
    try:
        # Not `group.main`, which treats a closed output pipe as a failure.
        with group.make_context("tinyvex", list(sys.argv[1:] if arguments is None else arguments)) as context:
            group.invoke(context)
        return 0
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # since click 8.2
            click.echo(error.format_message(), err=True)
            return EXIT_USAGE
        hint = f" (see: {error.ctx.command_path} --help)" if error.ctx is not None else ""
        _print_error(f"{error.format_message()}{hint}")
        return EXIT_USAGE
    except click.ClickException as error:
        _print_error(error.format_message())
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except TinyvexError as error:
        if isinstance(error, SchemaRejected):
            from tinyvex.storage.schema.violation_lines import violation_lines

            for line in violation_lines(error):
                _print(line)
        _print_error(f"{error.message} ({error.name})")
        return error.exit_code
    except BrokenPipeError:
        # The reader of stdout closed the pipe, as `head` does. Discard the rest, including the flush at exit.
        _discard_output()
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost frame: report a defect with its traceback
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            # Storage raises DiskFull itself. This is the disk that stdout is redirected to.
            _print_error("the output cannot be written because the disk is full; free some space (DiskFull)")
            _discard_output()
            return DiskFull.exit_code
        _print(traceback.format_exc())
        _print_error("internal error; please report it with the traceback above")
        return EXIT_CRASH


def _discard_output() -> None:
    assert sys.__stdout__ is not None
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


def _print(text: str) -> None:
    from tinyvex.cli.terminal import echo

    echo(text, err=True)


def _print_error(message: str) -> None:
    from tinyvex.cli.terminal import echo_error

    echo_error(message)
