"""
`python -m tests.mutation`: change the code in small ways and count the changes that no test notices.

A sample of mutations is drawn from the lines of the package, by a seed that is printed. Each is applied in a copy of
the tree, and the tests that execute its line run until one fails. A mutant that passes them is printed as a diff.
Some survivors are equivalent: no input can tell them from the original. To tell those from holes is a human's work.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.mutation.line_map import LineMap, files_for, record
from tests.mutation.mutations import Mutation, sample
from tests.mutation.sandbox import ROOT, Sandbox, spread


class Verdict(NamedTuple):
    """The end of one mutant: noticed, timed out, survived, or without a test that could notice it."""

    path: str
    mutation: Mutation
    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:<12} {self.path}:{self.mutation.line} {self.mutation.kind} {self.detail}".rstrip()


def judge(sandbox: Sandbox, line_map: LineMap, path: str, mutation: Mutation, seconds_max: float) -> Verdict:
    """Run the tests of one mutant."""
    tests = line_map.tests_of(path, mutation.line, seconds_max)
    if not tests:
        return Verdict(path, mutation, "no test")
    source = (sandbox.tree / path).read_text(encoding="utf-8")
    sandbox.write(path, mutation.apply(source))
    try:
        # The tests took `seconds_max` at most when they passed; starting pytest takes seconds on a busy machine.
        finished = sandbox.pytest("-x", "--hypothesis-seed=0", tests=tests, seconds=60 + 4 * seconds_max)
    finally:
        sandbox.write(path, source)
    if finished.status is None:
        return Verdict(path, mutation, "timed out", f"in one of {len(tests)} tests")
    if finished.status == 0:
        return Verdict(path, mutation, "survived", f"{len(tests)} tests")
    failures = [line for line in finished.output.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))]
    return Verdict(path, mutation, "noticed", failures[0][:160] if failures else f"pytest ended with {finished.status}")


def modules(tree: Path, names: list[str], since: str | None) -> dict[str, str]:
    """Return the text of the chosen modules by path: all of the package, those named, or those changed since a commit."""
    files = set()
    for name in names or ["tinyvex"]:
        files.update([tree / name] if name.endswith(".py") else (tree / name).rglob("*.py"))
    if since is not None:
        changed = subprocess.run(
            ["git", "-C", str(ROOT), "diff", "--name-only", since], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.split()
        files &= {tree / name for name in changed}
    return {file.relative_to(tree).as_posix(): file.read_text(encoding="utf-8") for file in files}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", help="files or folders, such as tinyvex/sync; all of the package otherwise"
    )
    parser.add_argument("--since", metavar="COMMIT", help="only files changed since a commit")
    parser.add_argument("--count", type=int, default=300, help="mutants to test (300)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="repeats a sample")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (2)")
    parser.add_argument("--seconds", type=float, default=30, help="run time of the tests of one mutant (30)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    with Sandbox() as original:
        # The working tree may change meanwhile, so all is read from one copy.
        run(original.tree, options)


def run(tree: Path, options: argparse.Namespace) -> None:
    """Draw a sample, judge it and print the survivors."""
    started = time.monotonic()
    sources = modules(tree, options.modules, options.since)
    chosen = sample(sources, options.count, options.seed)
    print(f"seed {options.seed}: {len(chosen)} mutants of {len(sources)} modules", flush=True)
    files = files_for({path for path, _ in chosen}, tree)
    line_map = record(files, tree, options.jobs, lambda text: print(text, flush=True))
    print(f"{len(line_map.seconds)} tests in {len(files)} files, {time.monotonic() - started:.0f} s", flush=True)

    def judge_one(sandbox: Sandbox, item: tuple[str, Mutation]) -> Verdict:
        verdict = judge(sandbox, line_map, *item, options.seconds)
        print(verdict, flush=True)
        return verdict

    verdicts = spread(chosen, options.jobs, tree, judge_one)

    for verdict in verdicts:
        if verdict.outcome in {"survived", "no test"}:
            print(f"\n{verdict}\n{verdict.mutation.diff(verdict.path, sources[verdict.path])}", end="")
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    noticed = outcomes["noticed"] + outcomes["timed out"]
    print(
        f"\nseed {options.seed}: {noticed} of {len(verdicts)} noticed ({dict(outcomes)}), {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
