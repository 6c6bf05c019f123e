"""The keys by which identities are compared."""

import pytest

from tinyvex.functions.run.identity_keys import identity_key, session_key


def test_equal_identities_have_one_key() -> None:
    """The order of the claims does not matter; an anonymous caller is not the empty identity."""
    assert identity_key({"a": 1, "b": 2}) == identity_key({"b": 2, "a": 1})
    assert identity_key(None) != identity_key({})


def test_a_renewed_token_has_the_same_session_key() -> None:
    """Claims besides issuer and subject may change."""
    old, new = ({"issuer": "i", "subject": "s", "exp": exp} for exp in (1, 2))
    assert session_key(old) == session_key(new)


@pytest.mark.parametrize(
    "other",
    [{"issuer": "i", "subject": "t"}, {"issuer": "j", "subject": "s"}, {"issuer": "i"}, None],
    ids=["subject", "issuer", "no subject", "anonymous"],
)
def test_other_users_have_other_session_keys(other: dict[str, str] | None) -> None:
    """Issuer and subject tell users apart."""
    assert session_key({"issuer": "i", "subject": "s"}) != session_key(other)
