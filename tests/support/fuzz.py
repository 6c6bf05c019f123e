"""Hostile messages derived from valid ones, reproducible by a seed."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "protocol" / "examples"

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "16000"))
"""Number of messages of each test."""

SEED = int(os.environ.get("FUZZ_SEED", "1"))

REQUESTS = ("Connect", "ModifyQuerySet", "Mutation", "Action", "Query", "Authenticate", "Ping")

ERRORS: dict[str, dict[str, Any]] = {
    error["name"]: error for error in json.loads((ROOT / "protocol" / "errors.json").read_text("utf-8"))["errors"]
}

DEEP = (63, 64, 65, 66, 200, 1_000, 5_000)

SCALARS = (
    b"null", b"true", b"false", b"0", b"-0", b"1", b"-1", b"1.0", b"1e0", b"0.1", b"9007199254740991",
    b"9007199254740992", b"9007199254740993", b"-9223372036854775808", b"9223372036854775808", b"18446744073709551616",
    b"1e308", b"1e309", b"-1e400", b"1e-400", b"1" * 400, b"-" + b"9" * 5_000, b"1e99999999999", b"00", b"+1", b".5",
    b"1.", b"NaN", b"-Infinity", b'""', b'"$"', b'"2.0"', b'"tinyvex/ping"', b'"tinyvex/mutation"', b'"tinyvex/nothing"',
    b'"Add"', b'"Remove"', b'"accounts:echo"', b'"accounts:crash"', b'"accounts:purge"', b'"accounts"', b'":"',
    b'"/0/a"', b'"/-"', b'"/~2"', b'""', b'"admin"', b'"__proto__"',
    rb'"\ud800"', rb'"\udfff\ud800"', rb'"a\ud83d"', rb'"\ud83d\ude00"', rb'"\u0000"', rb'"\u0007\u001b[31m\r\n"',
    b'"\x00"', b'"\x1f\x7f"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"',
    "\u2028\u202e\ufeff\U0001f600".encode().join([b'"', b'"']), b'"' + b"x" * 300 + b'"', b'"' + b"y" * 9_000 + b'"',
    b"[]", b"{}", b"[[]]", b'{"":{}}', b"[1,2,3]",
    b'{"$integer":"AAAAAAAAAAA="}', b'{"$integer":"AAAA"}', b'{"$integer":1}', b'{"$float":"AAAAAAAA+H8="}',
    b'{"$float":"AAAAAAAA8D8="}', b'{"$bytes":"////"}', b'{"$bytes":"=="}', b'{"$bytes":"","x":1}', b'{"$other":1}',
    b"[" + b",".join([b"0"] * 8_193) + b"]", b"{" + b",".join(b'"%d":0' % n for n in range(1_025)) + b"}",
)  # fmt: skip
"""Texts that replace any part of a message; many are neither JSON nor values."""

KEYS = ("$integer", "$bytes", "$", "", "id", "method", "params", "args", "type", "token", "\x00", "a" * 300, "ключ")


class Text:
    """A part of a message that is written verbatim."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __deepcopy__(self, memo: object) -> Text:
        return self


def example_messages(*folders: str) -> list[Any]:
    """Return the decoded examples of the protocol; of all folders if none is named."""
    paths = [path for path in sorted(EXAMPLES.glob("*/*.json")) if not folders or path.parent.name in folders]
    return [json.loads(path.read_text("utf-8")) for path in paths]


class Fuzzer:
    """A generator of messages; equal seeds generate equal messages."""

    def __init__(self, seed: int, examples: list[Any]) -> None:
        self.random = random.Random(seed)
        self._examples = examples

    def tree(self) -> Any:
        """Copy an example with some parts replaced, removed, repeated or added."""
        tree = copy.deepcopy(self.random.choice(self._examples))
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 5))):
            tree = self._changed(tree)
        return tree

    def message(self) -> bytes:
        """Return the text of one message: valid, structurally wrong, or noise."""
        text = self.write(self.tree())
        return self.noise(text) if self.random.random() < 0.25 else text

    def noise(self, text: bytes) -> bytes:
        """Corrupt a text."""
        chance = self.random
        data = bytearray(text)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(len(data) + 1)
            end = min(len(data), at + chance.choice((1, 1, 4, 40)))
            match chance.randrange(7):
                case 0:
                    del data[at:]
                case 1:
                    del data[at:end]
                case 2:
                    data[at:at] = data[at:end]
                case 3:
                    data[at:at] = chance.randbytes(chance.choice((1, 3, 20)))
                case 4:
                    data[at:end] = bytes(chance.choice(b'{}[]",:\\\x00\xff0e-') for _ in range(end - at))
                case 5:
                    data[at:at] = b" " * chance.choice((1, 100, 10_000))
                case 6 if at < len(data):
                    data[at] ^= 1 << chance.randrange(8)
        return bytes(data)

    def write(self, node: Any) -> bytes:
        """Serialise a tree as JSON, occasionally with a duplicate key."""
        if isinstance(node, Text):
            return node.data
        if isinstance(node, list):
            return b"[" + b",".join(map(self.write, node)) + b"]"
        if isinstance(node, dict):
            fields = [json.dumps(key).encode() + b":" + self.write(child) for key, child in node.items()]
            if fields and self.random.random() < 0.02:
                fields.append(self.random.choice(fields))
            if fields and self.random.random() < 0.02:
                fields.append(fields[0].partition(b":")[0] + b":" + self._text())
            return b"{" + b",".join(fields) + b"}"
        return json.dumps(node, ensure_ascii=self.random.random() < 0.5).encode()

    def _changed(self, tree: Any) -> Any:
        """Return the tree with one part changed."""
        places = list(containers(tree))
        if not places or self.random.random() < 0.02:
            return Text(self._text())
        place = self.random.choice(places)
        if isinstance(place, dict):
            self._change_object(place)
        else:
            place.insert(self.random.randrange(len(place) + 1), self._part())
        return tree

    def _change_object(self, place: dict[str, Any]) -> None:
        chance = self.random
        key = chance.choice([*place, chance.choice(KEYS)])
        match chance.randrange(5):
            case 0:
                place.pop(key, None)
            case 1:
                place[chance.choice(KEYS)] = place.get(key)
            case 2:
                place[key] = [place.get(key)] * chance.choice((0, 1, 3))
            case _:
                place[key] = self._part()

    def _part(self) -> Any:
        """Return a value for any position: a piece of another example, or an odd text."""
        if self.random.random() < 0.3:
            parts = list(containers(self.random.choice(self._examples)))
            return copy.deepcopy(self.random.choice(parts)) if parts else None
        return Text(self._text())

    def _text(self) -> bytes:
        if self.random.random() < 0.01:
            depth = self.random.choice(DEEP) if self.random.random() < 0.9 else 100_000
            first, last = self.random.choice(((b"[", b"]"), (b'{"a":', b"}")))
            return first * depth + b"0" + last * self.random.choice((depth, depth - 1))
        return self.random.choice(SCALARS)


def containers(tree: Any) -> Iterator[Any]:
    """Yield every object and array of a tree."""
    if isinstance(tree, (dict, list)):
        yield tree
        for child in tree.values() if isinstance(tree, dict) else tree:
            yield from containers(child)


def resident_bytes(pid: int | str = "self") -> int:
    """Return a process's resident memory."""
    try:
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    except OSError:
        return 0  # only Linux tells
    assert match is not None
    return int(match.group(1)) * 1024


def error_fault(error: Any) -> str | None:
    """Describe the defect of an error object from a server; None if `protocol/errors.json` lists it."""
    listed = ERRORS.get(error["data"]["name"])
    if listed is None or error["code"] != listed["code"]:
        return f"{error['code']} {error['data']['name']} is not in errors.json"
    return None
