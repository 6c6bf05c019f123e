"""
The users of a world, whose tokens are renewed, expire, are refused and forged; and a witness of their identities.

The witness reads the messages between a client and its server, and trusts neither.
From the messages and the world's clock it derives the identity of each version, and the possible callers of each
request.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from tests.support.tokens import OTHER_SECRET, claims, signed
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.errors import TinyvexError
from tinyvex.server.access.jwt import UserTokens
from tinyvex.sync.identity import UserIdentity

Who: TypeAlias = tuple[str, int] | None
"""Subject and grade, or None if anonymous."""

SUBJECTS = ("ada", "bob")
GRADES = 3
"""Claims that vary among a subject's tokens, so that a renewal changes the identity."""
LASTS_SECONDS = (0.02, 0.3, 1.0, 4.0, 60.0)


class Token(NamedTuple):
    """A token's true subject, its expiry at the server, and whether the server ever accepts it."""

    who: Who
    ends_at: float
    is_good: bool = True


NOBODY = Token(None, math.inf)


@dataclass
class Issuer:
    """
    The issuer of all tokens of a world.

    Attributes:
        seen: what happened to the tokens, and the requests sent under them.
    """

    runtime: WorldRuntime
    seen: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, Token] = field(default_factory=dict)
    newest: dict[str, str] = field(default_factory=dict)

    def issue(self, pick: random.Random, subject: str, *, is_good: bool = True) -> str:
        """Issue a token of a subject with a lifetime; now and then return another client's token."""
        if is_good and subject in self.newest and pick.random() < 0.3:
            return self.newest[subject]
        grade, lasts = pick.randrange(GRADES), pick.choice(LASTS_SECONDS)
        token_claims = claims(self.runtime.now_us(), subject=subject, grade=grade, n=len(self.tokens))
        ends_at = self.runtime.monotonic() + lasts
        token_claims["exp"] = self.runtime.now_us() / 1e6 + lasts - limits.AUTH_LEEWAY_SECONDS
        text = signed(token_claims) if is_good else signed(token_claims, OTHER_SECRET)
        self.tokens[text] = Token((subject, grade), ends_at, is_good)
        if is_good:
            self.newest[subject] = text
        return text

    def source(self, pick: random.Random, subject: str) -> Callable[[], str | Awaitable[str | None] | None]:
        """Return the function that a client calls for its user's tokens; usually it returns one."""

        async def late(token: str | None) -> str | None:
            await self.runtime.sleep(pick.random())
            return token

        def give() -> str | Awaitable[str | None] | None:
            dice = pick.random()
            if dice < 0.05:
                raise RuntimeError("no token today")
            token: str | None = self.issue(pick, subject)
            if dice < 0.1:
                token = None
            elif dice < 0.2:
                token = self.issue(pick, subject, is_good=False)
            elif dice < 0.25:
                token = self.issue(pick, pick.choice(SUBJECTS))
            return late(token) if pick.random() < 0.3 else token

        return give

    def reliable_source(self, pick: random.Random, subject: str) -> Callable[[], str]:
        """Return a function that returns a new token of the subject at every call."""

        def give() -> str:
            self.newest.pop(subject, None)
            return self.issue(pick, subject)

        return give


class SlowTokens(UserTokens):
    """Checks tokens as the server does, sometimes with a delay, as if keys had to be fetched."""

    def check(self, token: str, done: Callable[[UserIdentity | TinyvexError], None]) -> None:
        runtime = self._runtime
        assert isinstance(runtime, WorldRuntime)
        seconds = runtime.random.choice((0.0, 0.0, 0.01, 0.3))

        def check() -> None:
            if not runtime.killed:
                UserTokens.check(self, token, done)

        if seconds:
            runtime.loop.call_later(seconds, check)
        else:
            check()


@dataclass(eq=False)
class Voice:
    """
    The identity on a socket from one `tinyvex/authenticate` on: the token's user once accepted, the previous one
    before.
    """

    token: Token
    before: Voice | None = None
    taken: bool | None = None
    """Not known before the answer has come."""

    def speakers(self, since: float, until: float) -> set[Who]:
        """Return every identity that the server may have assumed between two times."""
        identities: set[Who] = set()
        if self.taken is not False:
            identities |= {self.token.who} if since < self.token.ends_at else set()
            identities |= {None} if until >= self.token.ends_at else set()
        if self.taken is not True and self.before is not None:
            identities |= self.before.speakers(since, until)
        return identities


@dataclass(eq=False)
class Said:
    """A request, with its possible callers and the time."""

    params: dict[str, Any]
    voice: Voice
    at: float
    until: float = math.inf
    """The time by which it had been answered."""
    has_result: bool = False
    """And with a result."""

    @property
    def key(self) -> str:
        """Return the key of a mutation."""
        return str(self.params["args"]["steps"][0]["key"])

    def speakers(self) -> set[Who]:
        """Return every identity under which the server may have run the request."""
        return self.voice.speakers(self.at, self.until)


@dataclass
class Witness:
    """
    Observes all messages between one client and its servers.

    Args:
        issuer: knows the validity of every token.
        answered: called with each answered one-shot query, and the answer.
        mutations: collects each time that a mutation was sent, by its key.

    Attributes:
        versions: the identity of each identity version of this socket.
        calls: the parameters of every mutation, as last sent, by request id.
    """

    issuer: Issuer
    answered: Callable[[Said, dict[str, Any]], None]
    mutations: dict[str, list[Said]]
    versions: list[Who] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self.versions = [None]
        self._voice = Voice(NOBODY, None, taken=True)
        self._voices: dict[int, tuple[Voice, float]] = {}
        self._queries: dict[int, Said] = {}
        self._sent: dict[int, Said] = {}
        self._owner: str | None = None

    def said(self, message: bytes) -> None:
        """Observe a message from the client."""
        request = json.loads(message)
        number, params, now = request["id"], request["params"], self.issuer.runtime.monotonic()
        if request["method"] == "tinyvex/mutation":
            self.calls[params["requestId"]] = params
        match request["method"]:
            case "tinyvex/connect":
                self._open()
            case "tinyvex/authenticate":
                token = NOBODY if params["kind"] == "none" else self.issuer.tokens[params["token"]]
                self._voice = Voice(token, self._voice)
                self._voices[number] = self._voice, now
            case "tinyvex/query":
                self._queries[number] = Said(params, self._voice, now)
            case "tinyvex/mutation" if params["args"]["steps"]:
                said = self._sent[number] = Said(params, self._voice, now)
                self.mutations.setdefault(said.key, []).append(said)

    def heard(self, message: bytes | str) -> None:
        """Observe a message from the server."""
        said = json.loads(message)
        if said.get("method") == "tinyvex/authError" and not said["params"]["authUpdateAttempted"]:
            self._ended(said["params"]["baseVersion"])
        if "id" in said and "method" not in said:
            self._answered(said)

    def _ended(self, version: int) -> None:
        self.issuer.seen["tokens_ended"] += 1
        self.versions.append(None)
        assert version == len(self.versions) - 1, "the end of a token is a version"
        assert any(token.ends_at <= self.issuer.runtime.monotonic() for token in self.issuer.tokens.values())

    def _answered(self, answer: dict[str, Any]) -> None:
        number, now = answer["id"], self.issuer.runtime.monotonic()
        if number in self._voices:
            voice, at = self._voices.pop(number)
            voice.taken = "result" in answer
            self._check_answer(voice.token, voice.taken, at, now)
            if voice.taken:
                self.issuer.seen["identities_changed"] += voice.token.who != self.versions[-1]
                self.issuer.seen["signed_out"] += voice.token.who is None
                self.versions.append(voice.token.who)
        elif number in self._queries:
            said = self._queries.pop(number)
            said.until = now
            self.answered(said, answer)
        elif number in self._sent:
            said = self._sent.pop(number)
            said.has_result = "result" in answer
            for once in self.mutations[said.key]:
                once.until = min(once.until, now)

    def _check_answer(self, token: Token, taken: bool, at: float, now: float) -> None:
        """Check that a token is accepted if and only if it is valid at that time and belongs to the session's user."""
        subject = None if token.who is None else token.who[0]
        is_owners = subject is None or self._owner in (None, subject)
        if taken:
            assert token.is_good, "a forged token was taken"
            assert at < token.ends_at, "a token was taken after its end"
            assert is_owners, "a session was taken over"
            self.issuer.seen["tokens_taken"] += subject is not None
            self._owner = self._owner or subject
        else:
            self.issuer.seen["tokens_refused"] += 1
            assert not token.is_good or now >= token.ends_at or not is_owners, "a token that is right was refused"
