"""
The tablets of the system tables: fixed numbers, below those of the user's tables.

====  ============  ==============================================================
   1  `_tables`     a document for each table: name, number, tablet
   2  `_indexes`    a document for each index: tablet, fields, state
   3  `_code`       one document: the fingerprint of the code that serves
   4  `_tablets`    a document for each tablet that no table leads to
====  ============  ==============================================================
"""

from __future__ import annotations

__all__ = ["CODE_INTERNAL", "CODE_TABLET", "INDEXES_TABLET", "TABLES_TABLET", "TABLETS_TABLET"]

TABLES_TABLET = 1
INDEXES_TABLET = 2
CODE_TABLET = 3
TABLETS_TABLET = 4

CODE_INTERNAL = b"the served code."
"""The document key of the one document of `_code`."""
