"""Files in the working directory do not replace the standard library's when the command runs as `python -m tinyvex`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.process import ENVIRONMENT
from tinyvex.import_path import is_command

APP = Path(__file__).resolve().parent / "support" / "shelf.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file for every module of the standard library that Python itself has not imported at its start."""
    started = "import json, runpy, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", started]))
    names = {name for name in sys.stdlib_module_names - set(loaded) if not name.startswith("_")} | {"json"}
    for name in filter(find_spec, names):  # not the modules of other systems, which the library tries to import
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed: ' + __name__)\n")
    assert (tmp_path / "queue.py").exists()
    return tmp_path


def test_no_file_of_the_folder_replaces_the_standard_library(folder: Path) -> None:
    """A server's parts, clients and functions run; `queue.py` once ended the command with an internal error."""
    for arguments in (
        ["run", "shelf:add", '{"title": "A"}', "--app", str(APP), "--data", "data"],
        ["run", "shelf:titles", "--app", str(APP), "--data", "data"],
        ["export", "--path", "all.zip", "--data", "data"],
        ["import", "all.zip", "--replace-all", "--yes", "--app", str(APP), "--data", "data"],
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "tinyvex", *arguments],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr


def test_an_app_can_import_from_the_folder(tmp_path: Path) -> None:
    """The folder is still on the path, after the standard library."""
    (tmp_path / "shared.py").write_text("ANSWER = 42\n")
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "one.py").write_text(
        "import tinyvex as tv\nfrom shared import ANSWER\n"
        "@tv.query\ndef answer(ctx: tv.QueryCtx) -> int:\n    return ANSWER\n"
        "@tv.mutation\ndef begin(ctx: tv.MutationCtx) -> None:\n    return None\n"
    )
    for call, printed in (("one:begin", "null\n"), ("one:answer", "42\n")):
        ended = subprocess.run(
            [sys.executable, "-m", "tinyvex", "run", call, "--app", "functions", "--data", "data"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (0, printed), ended.stderr


@pytest.mark.parametrize(
    ("arguments", "original", "expected"),
    [
        (["-m", "dev"], ["python", "-m", "tinyvex", "dev"], True),
        (["-m"], ["python", "-X", "dev", "-m", "tinyvex"], True),
        (["-m"], ["python", "-mtinyvex"], True),
        (["-m"], ["python", "-m", "myprogram"], False),  # which imports this package
        (["serve.py"], ["python", "serve.py", "-m", "tinyvex"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_only_the_command_moves_the_folder(arguments: list[str], original: list[str], expected: bool) -> None:
    """The path of other programs is theirs."""
    assert is_command(arguments, original) == expected
