"""The dashboard's modules in isolation, in a real Chromium: formatting of values, and violations of the protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Page, WebSocketRoute

from tinyvex.values import codec
from tinyvex.values.ids import DocumentId
from tinyvex.values.types import Int64

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    """Return the result of an exported function."""
    run = "async ([module, name, values]) => (await import(`/_dashboard/${module}.js`))[name](...values)"
    return await page.evaluate(run, [module, function, list(arguments)])


@pytest.mark.parametrize("number", [0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
async def test_an_integer_is_wrapped_as_the_server_does(page: Page, number: int) -> None:
    """An integer is wrapped as eight little-endian bytes in base64, as on the server."""
    wrap = "async (text) => (await import('/_dashboard/values.js')).wrapInteger(BigInt(text))"
    assert await page.evaluate(wrap, str(number)) == json.loads(codec.encode(Int64(number)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Int64(-(2**63)), "-9223372036854775808"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (-0.0, "-0"),
        (b"", "0 bytes"),
        (b"x", "1 byte"),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("two\n lines", "two lines"),
        ([1, {"a": "b"}], '[1,{"a":"b"}]'),
        ("x" * 200, "x" * 120 + "…"),
    ],
)
async def test_a_value_is_formatted_on_one_line(page: Page, value: Any, text: str) -> None:
    """A value fits on one line, with wrappers decoded and long values cut."""
    assert await call(page, "values", "brief", json.loads(codec.encode(value))) == text


@pytest.mark.parametrize("value", [None, [], {}, [[], {}], {"a": [1, "x", None], "b": {"c": True}}, "\u2028<b>", 1e300])
async def test_a_value_is_formatted_in_full(page: Page, value: Any) -> None:
    """A value is formatted as equivalent JSON over several lines, indented as Python does it."""
    pieces = await call(page, "values", "pretty", value)
    text = "".join(part for _, part in pieces)
    assert json.loads(text) == value
    assert len(text.splitlines()) == len(json.dumps(value, indent=2, ensure_ascii=False).splitlines())


@pytest.mark.parametrize(
    ("function", "argument", "text"),
    [
        ("duration", 0.00012, "0.12 ms"),
        ("duration", 0.0123, "12.3 ms"),
        ("duration", 0.45, "450 ms"),
        ("duration", 2.5, "2.50 s"),
        ("duration", None, "\u2013"),
        ("age", 59.9, "59 s"),
        ("age", 3600, "1 h 0 min"),
        ("age", 200_000, "2 d 7 h"),
        ("bytes", 999, "999 B"),
        ("bytes", 1500, "1.5 KB"),
        ("bytes", 12_000_000, "12 MB"),
        ("count", 1234567, "1,234,567"),
    ],
)
async def test_figures_have_units(page: Page, function: str, argument: Any, text: str) -> None:
    """Figures have units and a sensible number of digits."""
    assert await call(page, "values", function, argument) == text


IDS = [
    DocumentId(table, bytes([byte] * 16)).text for table, byte in [(1, 0), (10001, 255), (2**20, 7), (2**32 - 1, 128)]
]


@pytest.mark.parametrize("text", IDS)
async def test_an_id_is_recognised_by_its_checksum(page: Page, text: str) -> None:
    """An id is recognised for any table number; with one letter changed it is not an id."""
    assert await call(page, "values", "isId", text)
    assert not await call(page, "values", "isId", text[:5] + ("0" if text[5] != "0" else "1") + text[6:])


async def test_a_hash_is_not_an_id(page: Page) -> None:
    """A hash of 32 hexadecimal digits is not mistaken for an id."""
    assert not await call(page, "values", "isId", "d41d8cd98f00b204e9800998ecf8427e")


FAULT = """
async ([name, data]) => {
  const { RemoteError } = await import("/_dashboard/remote_error.js");
  const { faultOf } = await import("/_dashboard/fault.js");
  const element = faultOf(new RemoteError({ message: "it failed", data: { name, requestId: "abc-1", ...data } }));
  const texts = (selector) => [...element.querySelectorAll(selector)].map((each) => each.textContent);
  return { terms: texts("dt"), links: texts("a"), tracebacks: texts(".traceback") };
}
"""
"""Return the displayed details of an error."""


@pytest.mark.parametrize(("name", "links"), [("FunctionFailed", ["abc-1"]), ("AppError", []), ("InvalidArguments", [])])
async def test_only_logged_errors_link_to_the_log(page: Page, name: str, links: list[str]) -> None:
    """Only errors that the server logs link to the log; app errors and invalid calls are not logged."""
    assert (await page.evaluate(FAULT, [name, {}]))["links"] == links


async def test_a_traceback_is_shown_if_the_server_sends_one(page: Page) -> None:
    """A traceback, which the server sends to developers, is shown line by line as Python prints it."""
    traceback = "Traceback (most recent call last):\n  File 'app.py', line 1\nZeroDivisionError\n"
    shown = await page.evaluate(FAULT, ["FunctionFailed", {"details": {"traceback": traceback}}])
    assert shown["tracebacks"] == [traceback]


WELCOME = {"protocolVersion": 1, "epoch": "e", "lastTs": 0, "databaseId": "d", "limits": {}, "heartbeatMs": 5000}


def transition(start: int, end: int, *modifications: dict[str, Any], query_set: int = 1) -> str:
    """Build a transition between two timestamps."""
    params = {
        "startVersion": {"querySet": query_set if start else 0, "identity": 0, "ts": start},
        "endVersion": {"querySet": query_set, "identity": 0, "ts": end},
        "modifications": list(modifications),
    }
    return json.dumps({"jsonrpc": "2.0", "method": "tinyvex/transition", "params": params})


def updated(value: Any) -> dict[str, Any]:
    return {"type": "QueryUpdated", "queryId": 0, "value": value, "hash": "h", "logLines": []}


BROKEN = {
    "a gap": transition(9, 10, updated("wrong")),
    "an unknown modification": transition(5, 6, {"type": "QueryPainted", "queryId": 0}),
    "a patch": transition(5, 6, {"type": "QueryUpdated", "queryId": 0, "patch": [], "hash": "h"}),
    "a step back": transition(5, 4, updated("wrong")),
    "half a transition": json.dumps(
        {
            "jsonrpc": "2.0",
            "method": "tinyvex/transitionChunk",
            "params": {"transitionId": 0, "partNumber": 1, "partsTotal": 2, "bytesTotal": 9, "chunk": "x"},
        }
    ),
}


SHOWN = """
async (last) => {
  const { Client } = await import("/_dashboard/client.js");
  const client = new Client(`ws://${location.host}/fake`, () => "token", () => null);
  client.connect();
  const seen = [];
  return new Promise((resolve) =>
    client.watch("app:f", {}, ({ value }) => {
      seen.push(value);
      if (value === last) resolve(seen);
    }),
  );
}
"""
"""Return the values that a client shows of a query, up to its last one."""


async def shown(page: Page, last: str, *scripts: list[str]) -> list[str]:
    """Return the values that a client shows when its sockets, one after another, send these scripts."""
    waiting = list(scripts)

    async def serve(socket: WebSocketRoute) -> None:
        script = waiting.pop(0)

        def answer(message: str | bytes) -> None:
            request = json.loads(message)
            result = WELCOME if request["method"] == "tinyvex/connect" else {}
            socket.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))
            for line in script if request["method"] == "tinyvex/modifyQuerySet" else []:
                socket.send(line)

        socket.on_message(answer)

    fresh = await page.context.new_page()
    await fresh.route_web_socket("**/fake", serve)
    await fresh.goto(page.url)
    seen = await fresh.evaluate(SHOWN, last)
    await fresh.close()
    assert waiting == []
    return list(seen)


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_transition_makes_the_client_reconnect(page: Page, kind: str) -> None:
    """S-31: a broken transition is not shown; the client reconnects, adds its queries again, and continues."""
    first = [transition(0, 5, updated("one")), BROKEN[kind], transition(5, 6, updated("too late"))]
    assert await shown(page, "two", first, [transition(0, 7, updated("two"))]) == ["one", "two"]


async def test_an_older_state_is_not_shown_after_a_reconnect(page: Page) -> None:
    """S-37: users only ever see time move forward."""
    first = [transition(0, 5, updated("new")), BROKEN["a gap"]]
    second = [transition(0, 3, updated("old")), transition(3, 8, updated("newest"))]
    assert await shown(page, "newest", first, second) == ["new", "newest"]


async def test_a_chunked_transition_is_joined(page: Page) -> None:
    """S-80: the chunks of a transition are joined, with other messages in between."""
    text = transition(0, 5, updated("whole"))
    parts = [text[:40], text[40:80], text[80:]]
    ping = json.dumps({"jsonrpc": "2.0", "method": "tinyvex/ping"})
    chunks = [
        json.dumps(
            {
                "jsonrpc": "2.0",
                "method": "tinyvex/transitionChunk",
                "params": {"transitionId": 0, "partNumber": n, "partsTotal": 3, "bytesTotal": len(text), "chunk": part},
            }
        )
        for n, part in enumerate(parts)
    ]
    assert await shown(page, "whole", [chunks[0], ping, *chunks[1:]]) == ["whole"]


NAMED = {"enum": [1, 2], "x-enum-varnames": ["LOW", "HIGH"]}
OTHER = {"enum": [1, 3], "x-enum-varnames": ["ONE", "THREE"]}


@pytest.mark.parametrize(
    ("schema", "path", "value", "label"),
    [
        (None, ["x"], 1, "1"),
        ({"properties": {"x": NAMED}}, ["x"], 2, "HIGH (2)"),
        ({"properties": {"x": NAMED}}, ["x"], 3, "3"),
        ({"properties": {"x": {"enum": [1, 2]}}}, ["x"], 1, "1"),
        ({"properties": {"x": NAMED}}, ["constructor"], 1, "1"),
        ({"$ref": "#/$defs/N", "$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}, "x": NAMED}}}}, ["n", "n", "x"], 1, "LOW (1)"),
        ({"items": {"anyOf": [NAMED, {"type": "null"}]}}, [7], 1, "LOW (1)"),
        ({"prefixItems": [OTHER, NAMED], "items": False}, [1], 1, "LOW (1)"),
        ({"additionalProperties": NAMED}, ["any"], 1, "LOW (1)"),
        ({"anyOf": [NAMED, OTHER]}, [], 1, "1"),
        ({"anyOf": [NAMED, OTHER]}, [], 3, "THREE (3)"),
    ],
)  # fmt: skip
async def test_a_member_of_an_enumeration_has_its_name(
    page: Page, schema: Any, path: list[Any], value: int, label: str
) -> None:
    """It is found through references, unions, lists and mappings; if a union has two names for a value, none is shown."""
    find = """async ([schema, path, value]) => {
      const { Shape } = await import('/_dashboard/shape.js');
      return path.reduce((shape, key) => shape.at(key), new Shape(schema)).label(value);
    }"""
    assert await page.evaluate(find, [schema, path, value]) == label
