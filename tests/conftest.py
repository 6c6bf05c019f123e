"""Puts the repository root on the path, so that tests can import their support code."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
