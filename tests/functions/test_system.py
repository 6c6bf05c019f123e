"""The queries that every app has beside its own."""

import pytest

from tinyvex.errors import FunctionNotFound
from tinyvex.functions.app import App
from tinyvex.functions.system import PAGE_ROWS, system_functions
from tinyvex.limits import DOCUMENT_BYTES_MAX, RESULT_BYTES_MAX


@pytest.mark.parametrize("path", system_functions())
def test_every_app_has_them(path: str) -> None:
    """Whoever may call internal functions finds them by their paths."""
    kind = system_functions()[path].kind
    assert App([], []).lookup(path, kind=kind, internal_allowed=True).path == path


@pytest.mark.parametrize("path", system_functions())
def test_clients_do_not_reach_them(path: str) -> None:
    """Without the admin token they do not exist."""
    kind = system_functions()[path].kind
    with pytest.raises(FunctionNotFound):
        App([], []).lookup(path, kind=kind)


def test_they_are_not_among_the_apps_own() -> None:
    """`function-spec` and the fingerprint know the app's functions only."""
    assert App([], []).functions == {}


def test_a_page_of_the_largest_documents_is_one_result() -> None:
    """A page never fails for its size."""
    assert 0 < PAGE_ROWS * DOCUMENT_BYTES_MAX < RESULT_BYTES_MAX
