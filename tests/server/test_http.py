"""HTTP on the server's port: health, metrics, and nothing else."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tinyvex.client.blocking import connect_blocking

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has committed one mutation and has one live query."""
    with (
        ServerProcess(APP, tmp_path_factory.mktemp("data"), "--no-token", "--allow-host", "box.example") as process,
        connect_blocking(process.url) as client,
        client.subscribe("shelf:titles") as titles,
    ):
        assert next(titles) == []
        client.mutation("shelf:add", {"title": "Emma"})
        assert next(titles) == ["Emma"]
        yield process


def ask(server: ServerProcess, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.ready["port"], timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def metrics(server: ServerProcess) -> dict[str, float]:
    """The samples by name and labels, as a scraper reads them."""
    status, headers, text = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(number) for name, _, number in lines}


def test_health_says_that_it_is_alive(server: ServerProcess) -> None:
    """Status, version, last commit and database are there."""
    status, headers, text = ask(server, "/healthz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    found = json.loads(text)
    assert (found["status"], found["version"]) == ("ok", tv.__version__)
    assert found["lastTs"] > 0
    assert found["databaseId"]


def test_metrics_count_what_happened(server: ServerProcess) -> None:
    """Connections, live queries, commits, their latency and group size are those of this server's short life."""
    found = metrics(server)
    assert found["tinyvex_connections"] >= 2  # the client's and the scrape's own
    assert found["tinyvex_live_queries"] == 1
    assert found["tinyvex_mutations_total"] == 1
    assert found["tinyvex_commits_total"] >= 1
    assert found["tinyvex_transitions_sent_total"] >= 2
    assert found["tinyvex_recomputations_total"] >= 2
    assert found["tinyvex_bytes_sent_total"] > 0
    assert found["tinyvex_wal_bytes"] > 0
    assert found['tinyvex_group_size_bucket{le="+Inf"}'] >= 1
    assert found['tinyvex_commit_seconds_bucket{le="+Inf"}'] >= 1
    assert found["tinyvex_commit_seconds_sum"] > 0


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz/more", "/sync2"])
def test_anything_else_is_not_found(server: ServerProcess, path: str) -> None:
    """A plain 404."""
    assert ask(server, path)[::2] == (404, "Not found.\n")


def test_a_strange_host_is_refused(server: ServerProcess) -> None:
    """A name that an attacker's page was rebound from does not reach the server."""
    assert ask(server, "/healthz", Host="evil.example")[0] == 403


def test_an_allowed_host_is_answered(server: ServerProcess) -> None:
    """`--allow-host` adds a name."""
    assert ask(server, "/healthz", Host="box.example")[0] == 200


def test_a_strange_page_is_refused(server: ServerProcess) -> None:
    """A browser page of another origin may not even look."""
    assert ask(server, "/healthz", Origin="https://evil.example")[0] == 403
