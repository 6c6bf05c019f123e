"""The invariants of a world: for every result a client receives, for every caller, and for the final file."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.administrator import Attempt
from tests.support.board import CALLERS, Board
from tests.support.model import Model
from tests.support.users import Issuer, Said, Who, Witness
from tinyvex.client.client import Client
from tinyvex.client.query_set import QueryFailure
from tinyvex.client.query_value import QueryValue
from tinyvex.client.state import ClientState
from tinyvex.errors import RemoteError, TinyvexError
from tinyvex.storage.maintenance.check import check_folder


@dataclass
class Checkers:
    """
    Compares every received result with the model.

    Args:
        seed: named by failures.
        data: the data folder, whose log the model follows.
        note: adds to the world's trace.

    Attributes:
        imports: the imports that were started.
        acknowledged: number of acknowledgements of each mutation, by its key.
        refused: the keys of mutations whose user could not sign in.
        asked: the times at which each mutation was sent, by its key.
        checks: number of results compared.
        floor: the oldest readable timestamp.
        finished: the sessions whose every mutation was completed, and acknowledged with the last one.
    """

    seed: int
    data: Path
    board: Board
    issuer: Issuer
    note: Callable[[str], None]
    model: Model = field(default_factory=Model)
    imports: list[Attempt] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    asked: dict[str, list[Said]] = field(default_factory=dict)
    checks: int = 0
    floor: int = 0
    finished: list[str] = field(default_factory=list)

    def watch(self, client: Client, number: int) -> Witness:
        """Check every result that a client receives from now on."""
        state = client._session
        receive, next_message, receive_transition = state.receive, state.next_message, state._receive_transition
        witness = Witness(self.issuer, self._check_query, self.asked)

        def heard(data: bytes | str) -> None:
            witness.heard(data)
            receive(data)

        def said() -> bytes | None:
            message = next_message()
            if message is not None:
                witness.said(message)
            return message

        def checked(transition: Any) -> None:
            receive_transition(transition)
            if state._is_consistent():
                self.check_client(state, number, witness)

        state.receive, state.next_message, state._receive_transition = heard, said, checked  # type: ignore[method-assign]
        return witness

    def _check_query(self, request: Said, answer: dict[str, Any]) -> None:
        """Check that a one-shot query's answer equals a fresh run at its `ts`, under the caller's identity."""
        self.catch_up()
        path, args = request.params["udfPath"], request.params["args"]
        if "result" in answer:
            ts, value = answer["result"]["ts"], answer["result"]["value"]
        elif answer["error"]["data"]["name"] == "AppError":
            return  # at which `ts` is not told
        else:
            raise AssertionError(answer)
        self.issuer.seen["queries_answered"] += 1
        possible = [self.board.expected(self.model, ts, path, args, who) for who in request.speakers()]
        assert value in possible, f"seed {self.seed}: {path} {args} at {ts}\nis {value}\nnone of {possible}"
        self.checks += 1

    def check_client(self, state: ClientState, number: int, witness: Witness) -> None:
        """Check that the client's results equal fresh runs of its queries at its version, under its identity then."""
        ts, who = state.version.ts, witness.versions[state.version.identity]
        self.catch_up()
        assert ts <= self.model.last_ts or ts == 0, "no transition before its commit is durable"
        shown = []
        for query in state.queries:
            if query.query_id not in state.queries._on_server or query.result is None:
                continue
            args = json.loads(query.args)
            expected = self.board.expected(self.model, ts, query.path, args, who)
            actual = outcome(query.result)
            assert actual == expected, (
                f"seed {self.seed}, client {number}, {who} at {ts}: {query.path} {args}\nhas {actual}\nnot {expected}"
            )
            self.issuer.seen["results_of_users"] += who is not None and query.path.removeprefix("board:") in CALLERS
            shown.append(f"{query.query_id}={query.result.hash if isinstance(query.result, QueryValue) else '!'}")
            self.checks += 1
        self.note(f"client {number} at {state.version} {' '.join(shown)}")

    def catch_up(self) -> None:
        """Read the commits since the last call, directly from the file."""
        if not (self.data / "data.sqlite3").exists():
            return
        connection = sqlite3.connect(f"file:{self.data / 'data.sqlite3'}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "SELECT ts, table_id, hex(id), json_value FROM documents WHERE ts > ? ORDER BY ts, rowid",
                (self.model.last_ts,),
            ).fetchall()
            stored = dict(
                connection.execute("SELECT key, json_value FROM globals WHERE key IN ('last_ts', 'floor_ts')")
            )
            present = set(connection.execute("SELECT DISTINCT table_id, hex(id) FROM documents"))
        finally:
            connection.close()
        commits: dict[int, list[tuple[int, str, bytes | None]]] = {}
        for ts, tablet, internal, text in rows:
            commits.setdefault(ts, []).append((tablet, internal, text))
        floor = int(stored["floor_ts"])
        if floor > self.model.last_ts:
            # Documents deleted since may have expired, and no read below the floor is possible.
            commits.setdefault(floor, []).extend((*gone, None) for gone in self.model.live() - present)
        for ts in sorted(commits):
            self.model.commit(ts, commits[ts])
        self.model.last_ts = max(self.model.last_ts, int(stored["last_ts"]))
        before, self.floor = self.floor, floor
        assert before <= self.floor <= self.model.last_ts, "what is forgotten stays so, and the newest state never is"

    def check_file(self) -> None:
        """Check that the file is sound, with every acknowledged mutation exactly once and no refused one."""
        assert check_folder(self.data) == []
        self.catch_up()
        self._check_callers()
        self._check_imports()
        self._check_stored_requests()
        marks = [row["key"] for row in self.model.documents("marks", self.model.last_ts) if row["key"]]
        assert len(marks) == len(set(marks)), f"seed {self.seed}: a mutation happened twice"
        assert set(self.acknowledged) <= set(marks), f"seed {self.seed}: an acknowledged mutation is lost"
        assert all(count == 1 for count in self.acknowledged.values())
        assert not self.refused & set(marks), f"seed {self.seed}: a mutation ran although its user could not sign in"

    def _check_stored_requests(self) -> None:
        """Check that a session stores no request that its client can no longer send: at most the last one is left."""
        with closing(sqlite3.connect(f"file:{self.data / 'data.sqlite3'}?mode=ro", uri=True)) as connection:
            stored = Counter(
                session
                for (session,) in connection.execute(
                    "SELECT session_id FROM requests JOIN sessions ON sessions.number = requests.session"
                )
            )
        assert {session: stored[session] for session in self.finished if stored[session] > 1} == {}, f"seed {self.seed}"

    def _check_imports(self) -> None:
        """
        Check that all documents of an import appear in one commit, or none ever; an acknowledged import appears in
        full.
        """
        for attempt in self.imports:
            appeared = self.model.appeared(attempt.mark)
            assert len(set(appeared)) <= 1, f"seed {self.seed}: {attempt} is seen from {appeared} on"
            assert len(appeared) in {0, attempt.documents}, f"seed {self.seed}: {attempt} is seen in part"
            assert appeared or not attempt.acknowledged or not attempt.documents, f"seed {self.seed}: {attempt} is lost"

    def _check_callers(self) -> None:
        """
        Check that each mutation ran under an identity that had sent it, and that its result was disclosed to no other.
        """
        for row in self.model.documents("marks", self.model.last_ts):
            who: Who = None if row["caller"] is None else (row["caller"][0], row["caller"][1])
            sent = self.asked.get(row["key"], [])
            possible = {speaker for request in sent for speaker in request.speakers()}
            assert not row["key"] or who in possible, f"seed {self.seed}: {row['key']} ran for {who}, not {possible}"
            for request in sent:
                informed = {_subject(speaker) for speaker in request.speakers()}
                assert not request.has_result or _subject(who) in informed, (
                    f"seed {self.seed}: {informed} learned of a result of {who}"
                )
            self.issuer.seen["mutations_of_users"] += who is not None


def _subject(who: Who) -> str | None:
    return None if who is None else who[0]


def outcome(result: QueryValue | QueryFailure) -> Any:
    """Convert a result to the board's form."""
    if isinstance(result, QueryValue):
        return json.loads(result.json)
    error: TinyvexError = result.error
    assert isinstance(error, RemoteError), error
    assert error.name == "AppError", error
    return ("odd", error.app_data["odd"])
