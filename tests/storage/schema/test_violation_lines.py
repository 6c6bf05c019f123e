"""The problems of a refused schema, as lines."""

from tinyvex.errors import SchemaRejected, UnknownTable
from tinyvex.storage.schema.violation_lines import violation_lines


def kind(problem: str, documents: int = 1, table: str = "notes") -> dict[str, object]:
    """Return the documents with one problem."""
    return {"table": table, "id": "x1", "problem": problem, "documents": documents}


def test_documents_with_the_same_problem_share_a_line() -> None:
    """With the first document, and the number of the others."""
    error = SchemaRejected("…", kinds=[kind("$.text: missing", 60), kind("$.size: missing")], total=61)
    assert violation_lines(error) == [
        "notes: $.text: missing (document x1, and 59 more)",
        "notes: $.size: missing (document x1)",
    ]


def test_a_field_with_many_problems_is_summarised() -> None:
    """Each document has another wrong value: two are shown, and the others are counted."""
    kinds = [kind(f"$.state: invalid enum value 's{number}'") for number in range(60)]
    error = SchemaRejected("…", kinds=[*kinds, kind("$.size: missing")], total=61)
    assert violation_lines(error) == [
        "notes: $.state: invalid enum value 's0' (document x1)",
        "notes: $.state: invalid enum value 's1' (document x1)",
        "notes: $.state: 58 more with other problems",
        "notes: $.size: missing (document x1)",
    ]


def test_problems_that_are_not_listed_are_counted() -> None:
    """The error lists a limited number."""
    error = SchemaRejected("…", kinds=[kind("$.text: missing", 3)], total=10)
    assert violation_lines(error)[-1] == "and 7 more problems"


def test_other_errors_have_no_lines() -> None:
    """Their message is complete."""
    assert violation_lines(UnknownTable("…")) == []
