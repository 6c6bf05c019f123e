"""Everything that users encounter is documented: commands, options, limits, exit codes, errors, files."""

import ast
import json
import re
from pathlib import Path

import click
import pytest

from tests.support.readme import README, programs
from tinyvex import errors, limits
from tinyvex.cli import main as cli
from tinyvex.errors import error_classes

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a section's tables, without headings."""
    table = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    return [row for number, row in enumerate(table) if set(row[0]) != {"-"} and not _is_heading(table, number)]


def _is_heading(table: list[list[str]], number: int) -> bool:
    return number + 1 < len(table) and set(table[number + 1][0]) == {"-"}


def command(name: str) -> click.Command:
    command = cli.group.get_command(click.Context(cli.group), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    """The table of commands lists every command."""
    assert f"`tinyvex {name}" in section("The command")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_is_in_the_readme(name: str) -> None:
    """The section on the command names every option of every command."""
    options = [name for option in command(name).params if isinstance(option, click.Option) for name in option.opts]
    assert [option for option in options if option not in section("The command")] == []


def test_no_option_is_invented() -> None:
    """Every option that the section names exists."""
    known = {"--help", "--version"} | {
        text for name in cli.COMMANDS for option in command(name).params for text in option.opts
    }
    assert set(re.findall(r"--[a-z][a-z-]+", section("The command"))) - known == set()


UNITS = {"s": 1, "h": 3600, "KiB": 1 << 10, "MiB": 1 << 20}


@pytest.mark.parametrize("row", rows(section("Limits")), ids=lambda row: row[2])
def test_limits_in_the_readme_are_the_real_ones(row: list[str]) -> None:
    """Each number in the table equals its constant."""
    _, amount, constant = row
    number, _, unit = amount.partition(" ")
    assert float(number) * UNITS.get(unit, 1) == getattr(limits, constant.strip("`"))


def test_the_limit_before_admission_in_the_specification_is_the_real_one() -> None:
    """S-73 names it, because `ConnectResult.limits` comes too late for it."""
    spec = (ROOT / "protocol" / "SPEC.md").read_text(encoding="utf-8")
    assert f"more than {limits.UNAUTHENTICATED_BYTES_MAX} bytes" in spec


def documented_exit_codes() -> dict[str, int]:
    return {name.strip(): int(row[0]) for row in rows(section("Exit codes")) for name in row[1].split(",") if name}


def test_exit_codes_in_the_readme_are_those_of_the_errors() -> None:
    """Each error's code in the table equals that of its class."""
    assert documented_exit_codes() == {name: getattr(errors, name).exit_code for name in documented_exit_codes()}


def test_every_exit_code_is_in_the_readme() -> None:
    """The table lists every exit code of an error."""
    listed = {int(row[0]) for row in rows(section("Exit codes"))}
    own = {cli.EXIT_CRASH, cli.EXIT_USAGE, cli.EXIT_INTERRUPTED, 0}
    assert {error.exit_code for error in [errors.StartError, *error_classes()]} | own == listed


def test_every_error_is_in_the_protocol() -> None:
    """The table for clients of every language has each number and name."""
    table = (ROOT / "protocol" / "errors.json").read_text(encoding="utf-8")
    listed = {(entry["code"], entry["name"]) for entry in json.loads(table)["errors"]}
    assert {(error.number, error.__name__) for error in error_classes()} - listed == set()


def test_every_error_stands_in_the_printed_tree() -> None:
    """The tree at the top of errors.py is complete, with the right numbers."""
    tree = errors.__doc__ or ""
    missing = [
        error.__name__ for error in error_classes() if not re.search(rf"\b{error.__name__} +{error.number}\b", tree)
    ]
    assert missing == []


DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "protocol/*.md", "bench/**/*.md", "tests/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_headings(name: str) -> None:
    """Every linked file exists, and has the heading that the link names."""
    document = ROOT / name
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_reading_the_source_is_a_walk_of_ten_files() -> None:
    """The README's tour has ten stations."""
    assert len(re.findall(r"^\d+\. \[`tinyvex/", section("Reading the source"), re.MULTILINE)) == 10


def test_programs_are_well_formed() -> None:
    """Every Python program in the README compiles."""
    for name, text in programs().items():
        if name.endswith(".py"):
            compile(text, name, "exec")


def test_make_targets_are_explained() -> None:
    """`make` alone lists every target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    assert phony == set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))


def test_the_architecture_names_real_files() -> None:
    """Every module that ARCHITECTURE.md mentions exists."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|[a-z]+)/[a-z_/]+\.py|[a-z]+\.py)`", text)
    assert [name for name in named if not ((ROOT / name).exists() or (ROOT / "tinyvex" / name).exists())] == []


@pytest.mark.parametrize(
    "row", [row for row in rows(section("What it guarantees")) if row[0].isdecimal()], ids=lambda row: row[0]
)
def test_every_promise_names_a_test_that_states_it(row: list[str]) -> None:
    """The listed files exist, and the first line of each names the promise."""
    number, _, links = row
    files = re.findall(r"\((tests/[^)]+)\)", links)
    assert files
    for file in files:
        docstring = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or ""
        first = docstring.partition("\n")[0]
        assert re.search(rf"Promises? [\d ,and]*\b{number}\b", first), first
