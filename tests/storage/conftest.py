"""An open store for every test that asks for one; the file is checked when the test ends."""

import pytest

from tests.support.storage import opened


@pytest.fixture
async def store(tmp_path):
    async with opened(tmp_path / "data") as store:
        yield store
