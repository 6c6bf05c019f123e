"""The comparison with other programs, as far as it runs without them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.harness import Bench
from bench.peers.__main__ import NAMES, peers, run_peers
from bench.peers.connection import MarkedStream
from bench.peers.http import HttpWriter
from bench.peers.measures import MEASURES
from bench.peers.peer import on_path
from bench.peers.report import record, tables


def test_tinyvex_and_sqlite_run_small():
    """Every measure completes for the lines that need no other program, and each figure is recorded."""
    lines = [line for peer in peers(["tinyvex", "sqlite"]) for line in peer.lines]
    results = run_peers(lines, list(MEASURES), real=False, rounds=1)
    for measure, benches in results.items():
        assert set(benches) == {line.label for line in lines if measure in line.measures}
        for bench in benches.values():
            assert all(figure.median >= 0 for figure in bench.figures())
    main = record("writes", lines[0], results["writes"])["figures"][0]
    assert main["name"] == "writes"
    assert main["times tinyvex"] == 1.0


def test_missing_program_is_reported():
    """A peer whose program is missing keeps its rows, marked as not installed."""
    (tinyvex, nats) = peers(["nats"])
    absent = replace(nats, installed=on_path("tinyvex-no-such-program"))
    assert tinyvex.installed()
    assert not absent.installed()
    results = run_peers([tinyvex.lines[0]], ["latency"], real=False, rounds=1)
    text = tables([tinyvex, absent], {"tinyvex": "0"}, results)
    assert [line for line in text if "nats publish" in line and line.endswith("not installed")]


def test_ratio_is_taken_round_by_round():
    """A round that was slow for all changes the medians but not the ratios."""
    line = peers(["tinyvex"])[0].lines[0]
    benches = {"tinyvex": Bench("b", real=True, rounds=3), "other": Bench("b", real=True, rounds=3)}
    for label, samples in (("tinyvex", (100.0, 10.0, 90.0)), ("other", (200.0, 20.0, 19.0))):
        for sample in samples:
            benches[label].add("writes", "/s", sample, "higher")
    (figure,) = record("writes", replace(line, label="other"), benches)["figures"]
    assert (figure["median"], figure["times tinyvex"]) == (20.0, 2.0)


def test_every_peer_has_lines():
    """Each name on the command line is a module with a peer of that name, and no two rows share a label."""
    all_peers = peers([])
    assert [peer.name for peer in all_peers] == list(NAMES)
    labels = [line.label for peer in all_peers for line in peer.lines]
    assert len(set(labels)) == len(labels)


class TestConnection:
    @pytest.mark.parametrize("cut", range(1, 28))
    def test_marks_in_two_reads(self, cut):
        """A message is counted once, at whatever byte two reads split it."""
        data = b"x#~#00000001 y #~#00000002 z"
        seen: list[int] = []
        stream = MarkedStream(seen.append)
        stream._needle = None
        stream.received(data[:cut])
        stream.received(data[cut:])
        assert seen == [1, 2]
        assert stream.received_bytes == len(data)

    @pytest.mark.parametrize("cut", [1, 20, 45, 60])
    def test_http_answers_in_two_reads(self, cut):
        """An HTTP answer counts when its body is complete, however it was split."""
        answers = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" * 2
        writer = HttpWriter()
        assert writer.answers(answers[:cut]) + writer.answers(answers[cut:]) == 2

    def test_http_refusal_is_an_error(self):
        """An unsuccessful answer ends the benchmark."""
        with pytest.raises(RuntimeError, match="400"):
            HttpWriter().answers(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
