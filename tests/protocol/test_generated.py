"""`schema.json` and `errors.json` are what the types say."""

from tinyvex.wire import schema


def test_the_generated_files_are_current() -> None:
    """`python -m tinyvex.wire.schema --check` passes."""
    assert schema.main(["--check"]) == 0
