"""The results of a run, as JSON and as tables; every ratio is relative to Tinyvex."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from bench.harness import Bench, Figure, format_number
from bench.peers.peer import Line, Measure, Peer

__all__ = ["record", "tables"]

BASE = "tinyvex"
"""The line that all others are compared with."""

TITLES: dict[Measure, str] = {
    "writes": "Acknowledged writes",
    "latency": "From sending a write to its arrival at one subscriber",
    "fanout": "Deliveries to 1, 10, 100, 1000 subscribers, each write after all have the previous one",
    "start": "Restart on a used folder",
}

Benches = Mapping[str, Bench]
_DETAIL = ": "
"""Separator between the name of a figure and its detail."""


def record(measure: Measure, line: Line, benches: Benches) -> dict[str, object]:
    """Convert one line's figures of one measure, with their ratios."""
    return {
        "measure": measure,
        "line": line.label,
        **_circumstances(measure, line),
        "parameters": benches[line.label].parameters,
        "figures": [
            {**figure.record(), "times tinyvex": _ratio(figure, benches)} for figure in benches[line.label].figures()
        ],
    }


def tables(peers: list[Peer], versions: Mapping[str, str], results: Mapping[Measure, Benches]) -> list[str]:
    """Format a table for each measure, with every requested peer."""
    text = [", ".join(f"{name} {version}" for name, version in versions.items())]
    for measure, benches in results.items():
        lines = [line for peer in peers for line in peer.lines if measure in line.measures]
        text += ["", TITLES[measure]]
        for main in [it.name for it in benches[BASE].figures() if _DETAIL not in it.name]:
            text += [_row(main, measure, line, benches) for line in lines if line.label in benches]
        text += [f"  {line.label:<26} not installed" for line in lines if line.label not in benches]
    return text


def _row(main: str, measure: Measure, line: Line, benches: Benches) -> str:
    figures = {it.name: it for it in benches[line.label].figures()}
    figure = figures[main]
    details = [
        f"{name.partition(_DETAIL)[2]} {format_number(it.median)} {it.unit}"
        for name, it in figures.items()
        if name.startswith(main + _DETAIL)
    ]
    circumstances = [f"{name} {value}" for name, value in _circumstances(measure, line).items()]
    spread = f"± {figure.spread:.0%}" if len(figure.samples) > 1 else ""
    ratio = _ratio(figure, benches)
    return (
        f"  {line.label:<26} {main:<11} {format_number(figure.median):>9} {figure.unit:<3} {spread:<6} "
        f"{f'x {ratio:.2f}' if ratio is not None else '':<8} {'; '.join(circumstances + details)}"
    ).rstrip()


def _circumstances(measure: Measure, line: Line) -> dict[str, object]:
    match measure:
        case "writes":
            return {"connections": line.connections, "in flight": line.in_flight, "survives": line.durability}
        case "latency" | "fanout":
            return {"sends": line.sends, "survives": line.durability}
        case "start":
            return {}


def _ratio(figure: Figure, benches: Benches) -> float | None:
    """Return the median of each round's ratio: other load in a round affects both alike."""
    if figure.better == "neither":
        return None
    base = next((it for it in benches[BASE].figures() if it.name == figure.name), None)
    if base is None or not all(base.samples):
        return None
    return statistics.median(mine / its for mine, its in zip(figure.samples, base.samples, strict=True))
