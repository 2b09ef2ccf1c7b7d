"""The size of one database's contents, and its bounds: values in a column, rows, and bytes of all rows.

A column is checked before the `ovs` package makes objects of its values, the rest as rows come and go. What rows mean
must not live here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import ovs.db.types

from controller.peers.limits import OvsdbLimits
from controller.peers.memory_budget import MemoryBudget

_WIDE = frozenset({"Bridge", "Open_vSwitch"})
_VALUE_BYTES = 120  # of the Python objects of one value, estimated
_ROW_BYTES = 1000


class ContentsTooLarge(ValueError):
    """The database is larger than the limits allow."""


class ContentsBounds(NamedTuple):
    """Bounds of a database: the limits, and the memory that all databases' contents share."""

    limits: OvsdbLimits
    contents: MemoryBudget


def check_columns(tables: object, limits: OvsdbLimits) -> None:
    """Raises ContentsTooLarge for a row of `tables` (of an update or a first reply) with too many values in a column.

    Anything that is not a map of tables is left to the package, which refuses it.
    """
    if not isinstance(tables, Mapping):
        return
    for table, rows in tables.items():
        most = limits.wide_row_values if table in _WIDE else limits.row_values
        for row in rows.values() if isinstance(rows, Mapping) else ():
            for columns in row.values() if isinstance(row, Mapping) else ():
                for name, value in columns.items() if isinstance(columns, Mapping) else ():
                    if isinstance(value, list) and value and isinstance(value[-1], list) and len(value[-1]) > most:
                        raise ContentsTooLarge(
                            f"column {str(name)[:40]} of a row of {str(table)[:40]} has more than {most:,} values"
                        )


class ContentsSize:
    """The size of one database's rows, in bytes. It belongs to the thread that runs the replica."""

    def __init__(self, limits: OvsdbLimits, budget: MemoryBudget) -> None:
        self._limits, self._budget = limits, budget
        self._sizes: dict[object, int] = {}
        self._size = 0

    def changed(self, row: Any, gone: bool) -> None:
        """A row was added, changed or deleted (`gone`). Raises ContentsTooLarge."""
        size = 0 if gone else _ROW_BYTES + sum(map(_size, row._data.values()))
        known = self._sizes.pop(row.uuid, 0)
        if not gone:
            self._sizes[row.uuid] = size
        if len(self._sizes) > self._limits.rows:
            raise ContentsTooLarge(f"it has more than {self._limits.rows:,} rows")
        after = self._size + size - known
        if not self._budget.resize(self._size, after):
            raise ContentsTooLarge(f"its contents are {after:,} bytes, and the other databases leave no room")
        self._size = after

    def clear(self) -> None:
        """The replica has no rows any more."""
        self._budget.resize(self._size, 0)
        self._sizes.clear()
        self._size = 0


def _size(datum: Any) -> int:
    values, kind = datum.values, datum.type
    size = _VALUE_BYTES * len(values)
    if kind.key.type == ovs.db.types.StringType:
        size += sum(map(_length, values))
    if kind.value is not None and kind.value.type == ovs.db.types.StringType:
        size += sum(map(_length, values.values()))
    return size


def _length(atom: Any) -> int:
    return len(atom.value) if isinstance(atom.value, str) else 0  # a default is an atom in an atom
