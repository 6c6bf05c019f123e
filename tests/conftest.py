"""Puts the repository root on the path, so that tests can import their support code; settings of all property tests."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# How long an example takes says more about the machine than about the code. A failure prints how to see it again.
settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")
