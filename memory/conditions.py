"""Conditions on the metadata of vectors: `{"source": "x", "parameters": {"$gte": 1, "$lte": 2}}`, all have to hold."""

import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

Where = Mapping[str, Any]

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def meets(metadata: Mapping[str, Any], where: Where) -> bool:
    """Whether all conditions hold; what is missing equals nothing and is neither above nor below anything."""
    return matcher(where)(metadata)


def matcher(where: Where) -> Callable[[Mapping[str, Any]], bool]:
    """`meets` for many: what says of metadata whether they meet the conditions."""
    checks = [(key, *one) for key, wanted in where.items() for one in _operators(wanted)]

    def met(metadata: Mapping[str, Any]) -> bool:
        return all(_holds(metadata.get(key), symbol, operand) for key, symbol, operand in checks)

    return met


def chroma_conditions(where: Where) -> dict[str, Any] | None:
    """As Chroma takes them: one condition, or several below `$and`; None where there are none."""
    found = [{key: {operator: operand}} for key, wanted in where.items() for operator, operand in _operators(wanted)]
    return {"$and": found} if len(found) > 1 else next(iter(found), None)


def _operators(wanted: Any) -> Collection[tuple[str, Any]]:
    return wanted.items() if isinstance(wanted, Mapping) else [("$eq", wanted)]


def _holds(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$eq":
        return bool(value == operand) and value is not None
    if operator == "$ne":
        return bool(value != operand)
    if operator in ("$in", "$nin"):
        return (value in operand) == (operator == "$in")
    return value is not None and _ORDERS[operator](value, operand)
