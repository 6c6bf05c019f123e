"""Running functions: what the executor reports if a call cannot run."""

from types import SimpleNamespace
from typing import Any

from tinyvex import errors
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.code_switch import CodeSwitch
from tinyvex.functions.run.executor import Executor
from tinyvex.runtime import Runtime


def test_a_query_that_could_not_run_belongs_to_no_identity() -> None:
    """A query that is refused for lack of room must not be split by identity."""

    def refuse(*_: object, **__: object) -> None:
        raise errors.Overloaded("too many")

    store: Any = SimpleNamespace(last_ts=10, read_nowait=refuse)
    outcomes: list[Any] = []
    app: Any = SimpleNamespace()
    Executor(store, Runtime(), CodeSwitch(app)).query_nowait(Call("m:f", b"{}"), outcomes.append)
    assert isinstance(outcomes[0].error, errors.Overloaded)
    assert not outcomes[0].read_auth
    assert outcomes[0].ts == 10
