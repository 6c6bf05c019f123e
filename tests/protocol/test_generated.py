"""`schema.json` and `errors.json` match the types."""

from tinyvex.wire import schema


def test_the_generated_files_are_current() -> None:
    """`python -m tinyvex.wire.schema --check` passes."""
    assert schema.main(["--check"]) == 0
