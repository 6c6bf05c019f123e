"""Promise 8: the programs and pages that may connect to a local port, and no others."""

import pytest

from tinyvex.server.access.origin_rules import AccessRules, find_refusal, is_loopback

LOOPBACK = ["localhost:4800", "127.0.0.1:4800", "127.0.0.1", "[::1]:4800", "LOCALHOST:1"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_are_let_in(host: str) -> None:
    """Every spelling of this machine is a valid Host."""
    assert find_refusal(AccessRules(), [host], []) is None


@pytest.mark.parametrize(
    "hosts", [[], ["evil.example"], ["localhost", "localhost"], ["localhost.evil.example"], ["[::1"]]
)
def test_other_names_are_refused(hosts: list[str]) -> None:
    """A name rebound to loopback, a missing name, two names and a malformed one are refused."""
    assert find_refusal(AccessRules(), hosts, []) is not None


@pytest.mark.parametrize(
    "host", ["evil@localhost", "localhost/evil", "localhost#evil", "localhost?evil", "local\thost"]
)
def test_a_host_with_other_parts_of_a_url_is_refused(host: str) -> None:
    """It is malformed, whichever name a parser of URLs finds in it."""
    refusal = find_refusal(AccessRules(), [host], [])
    assert refusal is not None
    assert refusal.endswith("--allow-host NAME.")


@pytest.mark.parametrize("origin", ["", "http://a;reboot", "http://$(reboot)", "http://a b", "http://a`b", "http://ÿ"])
def test_no_option_is_suggested_that_a_shell_would_take_apart(origin: str) -> None:
    """The sentence is for copying, and the client chose its text."""
    refusal = find_refusal(AccessRules(), ["localhost"], [origin])
    assert refusal is not None
    assert refusal.endswith("--allow-origin ORIGIN.")


def test_a_name_may_contain_an_underscore() -> None:
    """Container networks have such names."""
    assert find_refusal(AccessRules(hosts=["my_db"]), ["my_db:4800"], []) is None


def test_an_allowed_host_is_let_in() -> None:
    """`--allow-host` adds a name."""
    assert find_refusal(AccessRules(hosts=["Desk.Local"]), ["desk.local:4800"], []) is None


@pytest.mark.parametrize("host", ["192.168.1.20:4800", "[fd00::2]:4800", "203.0.113.9", "127.0.0.1:4800", "localhost"])
def test_beyond_loopback_every_address_is_let_in(host: str) -> None:
    """An address cannot be rebound, and the server cannot know the addresses by which it is reached."""
    assert find_refusal(AccessRules(listens_on="0.0.0.0"), [host], []) is None


@pytest.mark.parametrize("host", ["database.local", "evil.example:4800", "192.168.1.20.evil.example", "1.2.3", ""])
def test_beyond_loopback_names_are_refused(host: str) -> None:
    """A name can be rebound to any address."""
    assert find_refusal(AccessRules(listens_on="0.0.0.0"), [host], []) is not None


def test_on_loopback_other_addresses_are_refused() -> None:
    """No legitimate client of a loopback port names a network address."""
    assert find_refusal(AccessRules(), ["192.168.1.20:4800"], []) is not None


def test_the_address_listened_on_is_let_in() -> None:
    """The address may be a name, or another loopback address."""
    assert find_refusal(AccessRules(listens_on="Desk.local"), ["desk.local:4800"], []) is None
    assert find_refusal(AccessRules(listens_on="127.0.0.2"), ["127.0.0.2:4800"], []) is None


def test_with_tls_a_page_without_it_is_of_another_origin() -> None:
    """An attacker in between can forge any page of http, and none of https."""
    rules = AccessRules(secure=True)
    assert find_refusal(rules, ["localhost:4800"], ["https://localhost:4800"]) is None
    assert find_refusal(rules, ["localhost:4800"], ["http://localhost:4800"]) is not None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.20", False), ("", False), ("localhost.example", False), ("desk.local", False)],
)  # fmt: skip
def test_what_counts_as_loopback(host: str, loopback: bool) -> None:
    """Only addresses that other machines certainly cannot reach count as loopback."""
    assert is_loopback(host) == loopback


def test_the_servers_own_origin_is_let_in() -> None:
    """A page served by this server may connect."""
    assert find_refusal(AccessRules(), ["localhost:4800"], ["http://localhost:4800"]) is None


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "https://evil.example", "null", "http://127.0.0.1:4800", "file://", "http://[", ""],
)
def test_other_origins_are_refused(origin: str) -> None:
    """Another port, another site, an opaque origin and an empty one are other origins."""
    assert find_refusal(AccessRules(), ["localhost:4800"], [origin]) is not None


@pytest.mark.parametrize("origin", ["tauri://localhost", "http://localhost:3000", "HTTP://LOCALHOST:3000"])
def test_an_allowed_origin_is_let_in(origin: str) -> None:
    """`--allow-origin` adds an origin, in any letter case."""
    rules = AccessRules(origins=["tauri://localhost", "http://localhost:3000/"])
    assert find_refusal(rules, ["localhost:4800"], [origin]) is None


def test_two_origins_are_refused() -> None:
    """No browser sends two."""
    rules = AccessRules(origins=["http://a"])
    assert find_refusal(rules, ["localhost"], ["http://a", "http://a"]) is not None


@pytest.mark.parametrize(
    ("host", "origin", "sentence"),
    [
        ("evil.example:80", None, "Host `evil.example:80` is not allowed. If it is yours, start the server with --allow-host evil.example."),
        ("localhost", "https://App.example", "Origin `https://App.example` is not allowed. If it is yours, start the server with --allow-origin https://app.example."),
        ("a\x1b2J", None, "Host `a?2J` is not allowed. If it is yours, start the server with --allow-host NAME."),
    ],
)  # fmt: skip
def test_a_refusal_has_the_value_and_the_option(host: str, origin: str | None, sentence: str) -> None:
    """The sentence goes to the client and to the log, whose terminal it must not control."""
    assert find_refusal(AccessRules(), [host], [] if origin is None else [origin]) == sentence


def test_a_long_value_is_shortened() -> None:
    """A line of the log stays readable."""
    reason = find_refusal(AccessRules(), ["x" * 10_000], [])
    assert reason is not None
    assert len(reason) < 500
