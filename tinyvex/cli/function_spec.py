"""`tinyvex function-spec`: what an app offers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinyvex.cli.options import app_argument
from tinyvex.cli.place import find_place

if TYPE_CHECKING:
    from tinyvex.functions.registry import FunctionSpec


@click.command("function-spec", short_help="List an app's functions with their schemas.")
@app_argument
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json"]),
    default="pretty",
    show_default=True,
    help="One line per function, or JSON with the schemas of arguments and results.",
)
def command(app: Path | None, output: str) -> None:
    """List the functions of APP: path, kind, and the JSON schemas of arguments and result."""
    from tinyvex.functions.loader import load_app

    functions = load_app(find_place(app, None).app).functions.values()
    if output == "json":
        described = {"functions": [_described(spec) for spec in functions]}
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for spec in functions:
        click.echo(f"{_kind(spec):<17} {spec.path}({_arguments(spec)})")


def _described(spec: FunctionSpec) -> dict[str, Any]:
    return {
        "path": spec.path,
        "kind": spec.kind,
        "internal": spec.internal,
        "arguments": spec.arguments_schema,
        "result": spec.result_schema,
    }


def _kind(spec: FunctionSpec) -> str:
    return f"internal {spec.kind}" if spec.internal else spec.kind


def _arguments(spec: FunctionSpec) -> str:
    """The arguments' names; those that may be left out in brackets."""
    schema = spec.arguments_schema
    required = schema.get("required", [])
    return ", ".join(name if name in required else f"[{name}]" for name in schema["properties"])
