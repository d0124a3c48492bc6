"""Whether a version of the service keeps working on another version's tables: the rule of expand and contract.

Before a migration the new version makes its tables in a scratch database and describes them; the version that runs
compares the description with its own models. It reads and writes through these models only, so what they do not name
may come and go, as long as rows can be inserted without it.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Column, Connection, Table, UniqueConstraint, text
from sqlalchemy.dialects import mysql

from memo.models import Base

Description = dict[str, Any]

_TEXT_SIZES = ("tinytext", "text", "mediumtext", "longtext")
_INTEGER_SIZES = ("tinyint", "smallint", "mediumint", "int", "bigint")
_SIZED = re.compile(r"(varchar|char|varbinary|binary)\((\d+)\)")
_COLLATION = re.compile(r"collate (\w+)")

_COLUMNS = text(
    "SELECT table_name AS tbl, column_name AS col, column_type AS type, is_nullable AS nullable,"
    " column_default AS standard, extra AS extra, collation_name AS collation"
    " FROM information_schema.columns WHERE table_schema = DATABASE()"
)
_UNIQUE = text(
    "SELECT table_name AS tbl, index_name AS idx, column_name AS col FROM information_schema.statistics"
    " WHERE table_schema = DATABASE() AND non_unique = 0 ORDER BY table_name, index_name, seq_in_index"
)
_REFERENCES = text(
    "SELECT table_name AS tbl, column_name AS col, referenced_table_name AS other"
    " FROM information_schema.key_column_usage WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL"
)


def describe(connection: Connection) -> Description:
    """Describe the tables of a connection's database.

    Returns:
        By table: `columns` (by name: `type` as MySQL writes it, `collation`, and whether it is `nullable` and is
        `filled` when an INSERT leaves it out), `unique` (lists of columns) and `references` (pairs of column
        and other table). Plain data, for JSON. Source: MySQL 9.7 Reference Manual, "INFORMATION_SCHEMA".
    """
    tables: Description = {}
    for row in connection.execute(_COLUMNS):
        table = tables.setdefault(row.tbl, {"columns": {}, "unique": [], "references": []})
        table["columns"][row.col] = {
            "type": row.type,
            "collation": row.collation,
            "nullable": row.nullable == "YES",
            "filled": row.standard is not None or "auto_increment" in row.extra or "DEFAULT_GENERATED" in row.extra,
        }
    indexes: dict[tuple[str, str], list[str]] = {}
    for row in connection.execute(_UNIQUE):
        indexes.setdefault((row.tbl, row.idx), []).append(row.col)
    for (name, _), columns in sorted(indexes.items()):
        tables[name]["unique"].append(columns)
    for row in connection.execute(_REFERENCES):
        tables[row.tbl]["references"].append([row.col, row.other])
    return tables


def problems(tables: Description) -> list[str]:
    """Say what this version of the service could not live with.

    Args:
        tables: another version's tables, from `describe`.

    Returns:
        A sentence for each problem; empty when this version keeps working.
    """
    found = []
    for table in Base.metadata.sorted_tables:
        if table.name not in tables:
            found.append(f"The table {table.name} is gone, and the version that runs uses it.")
        else:
            found += _table_problems(table, tables[table.name])
    return found


def _table_problems(table: Table, theirs: Description) -> list[str]:
    found = []
    for column in table.columns:
        name = f"{table.name}.{column.name}"
        if column.name not in theirs["columns"]:
            found.append(f"The column {name} is gone, and the version that runs uses it.")
        else:
            found += _column_problems(name, column, theirs["columns"][column.name])
    for name, column in theirs["columns"].items():
        if name not in table.columns and not column["nullable"] and not column["filled"]:
            found.append(f"The column {table.name}.{name} needs a value, and the version that runs gives none.")
    known = _unique_sets(table)
    for columns in theirs["unique"]:
        # One that contains a set that is unique already refuses nothing more.
        if not any(one <= set(columns) for one in known) and set(columns) <= set(table.columns.keys()):
            found.append(
                f"{table.name}({', '.join(columns)}) is unique now: that refuses rows which the running version writes."
            )
    referring = {(key.parent.name, key.column.table.name) for key in table.foreign_keys}
    for column, other in theirs["references"]:
        if column in table.columns and (column, other) not in referring:
            found.append(
                f"{table.name}.{column} refers to {other} now: that refuses rows which the running version writes."
            )
    return found


def _column_problems(name: str, ours: Column[Any], theirs: dict[str, Any]) -> list[str]:
    found = []
    wanted = ours.type.compile(dialect=mysql.dialect()).lower()
    if not _holds(theirs["type"].lower(), wanted):
        found.append(f"The column {name} is {theirs['type']} now, and the version that runs needs {_plain(wanted)}.")
    collation = _COLLATION.search(wanted)
    if collation and collation[1] != theirs["collation"]:
        found.append(f"The column {name} is compared by {theirs['collation']} now, no longer by {collation[1]}.")
    if ours.nullable and not theirs["nullable"]:
        found.append(f"The column {name} must not be empty now, and the version that runs may leave it so.")
    if not ours.nullable and theirs["nullable"]:
        found.append(f"The column {name} may be empty now, and the version that runs does not expect it.")
    return found


def _holds(theirs: str, wanted: str) -> bool:
    """Whether a column of one type takes and gives back all that one of another does."""
    wanted = _plain(wanted)
    theirs = _plain(theirs)
    if theirs == wanted:
        return True
    sized, needed = _SIZED.fullmatch(theirs), _SIZED.fullmatch(wanted)
    if sized and needed:
        return sized[1] == needed[1] and int(sized[2]) >= int(needed[2])
    for sizes in (_TEXT_SIZES, _INTEGER_SIZES):
        if theirs.split()[0] in sizes and wanted.split()[0] in sizes:
            same_sign = ("unsigned" in theirs) == ("unsigned" in wanted)
            return same_sign and sizes.index(theirs.split()[0]) >= sizes.index(wanted.split()[0])
    return False


def _plain(kind: str) -> str:
    kind = kind.partition(" character set")[0].partition(" charset")[0].partition(" collate")[0].strip()
    # Display widths say nothing of what a column holds (MySQL Reference Manual, "Integer Types").
    return re.sub(r"^((?:tiny|small|medium|big)?int)(?:eger)?\(\d+\)", r"\1", "tinyint" if kind == "bool" else kind)


def _unique_sets(table: Table) -> list[set[str]]:
    sets = [{column.name for column in table.primary_key}]
    sets += [{column.name for column in index.columns} for index in table.indexes if index.unique]
    sets += [{c.name for c in one.columns} for one in table.constraints if isinstance(one, UniqueConstraint)]
    return sets
