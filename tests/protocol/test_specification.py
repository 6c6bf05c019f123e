"""Every rule of SPEC.md has a vector or a test, and every citation has a rule."""

import json
import re
from collections import Counter
from pathlib import Path

from tests.support.sessions import VECTORS
from tinyvex.wire import schema

SPECIFICATION = (schema.FOLDER / "SPEC.md").read_text(encoding="utf-8")
TESTS = Path(__file__).resolve().parents[1]
RULE = re.compile(r"\*\*(S-\d+)\*\*")
CITATION = re.compile(r"\bS-\d+\b")


def rules() -> list[str]:
    """Return the numbers of the rules, in order, without the sentence that explains them."""
    return RULE.findall(SPECIFICATION.partition("## All messages")[2])


def cited() -> set[str]:
    """Return the rules cited by vectors and tests."""
    citations: set[str] = set()
    for path in VECTORS.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        citations |= set(content.get("spec", []))
        citations |= {rule for case in content.get("cases", []) for rule in case.get("spec", [])}
    for path in TESTS.rglob("test_*.py"):
        if path != Path(__file__):
            citations |= set(CITATION.findall(path.read_text(encoding="utf-8")))
    return citations


def test_rules_are_numbered_once_and_in_order() -> None:
    """Each number names one rule."""
    assert [number for number, count in Counter(rules()).items() if count > 1] == []
    assert rules() == [f"S-{number}" for number in range(1, len(rules()) + 1)]


def test_every_rule_is_decided_by_something() -> None:
    """Every rule is cited by a vector or a test."""
    assert sorted(set(rules()) - cited()) == []


def test_every_citation_has_a_rule() -> None:
    """Every cited rule exists."""
    assert sorted(cited() - set(rules())) == []


def test_references_inside_the_specification_have_a_rule() -> None:
    """Rules refer to existing rules."""
    assert set(CITATION.findall(SPECIFICATION)) <= set(rules())


def test_every_message_is_in_the_specification() -> None:
    """The table of all messages has every method, and the errors that rules name exist."""
    for name in [*schema.METHODS, *schema.NOTIFICATIONS]:
        assert f"`{name}`" in SPECIFICATION
    table = {row["name"] for row in json.loads((schema.FOLDER / "errors.json").read_text())["errors"]}
    named = set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", SPECIFICATION))
    types = set(json.loads((schema.FOLDER / "schema.json").read_text())["$defs"])
    others = {"AppError", "Int64", "Add", "Remove", "InvalidValue", "ValueTooLarge"}
    assert named <= table | types | others, sorted(named - table - types - others)
