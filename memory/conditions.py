"""Conditions on the metadata of vectors: `{"source": "x", "parameters": {"$gte": 1, "$lte": 2}}`, all have to hold."""

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Where = Mapping[str, Any]

_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
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
    checks = list(checks_of(where))

    def met(metadata: Mapping[str, Any]) -> bool:
        return all(_holds(metadata.get(key), symbol, operand) for key, symbol, operand in checks)

    return met


def checks_of(where: Where) -> Iterator[tuple[str, str, Any]]:
    """Each condition by itself: key, operator, operand."""
    return ((key, *one) for key, wanted in where.items() for one in _operators(wanted))


def holds_in(values: "NDArray[Any]", symbol: str, operand: Any, missing: int) -> "NDArray[Any]":
    """Of each of many integers whether a condition holds, as `meets` has it; those that are `missing` are none."""
    if symbol in ("$in", "$nin"):
        return np.isin(values, operand, invert=symbol == "$nin")
    found: NDArray[Any] = _ORDERS[symbol](values, operand)
    return found if symbol in ("$eq", "$ne") else found & (values != missing)


def chroma_conditions(where: Where) -> dict[str, Any] | None:
    """As Chroma takes them: one condition, or several below `$and`; None where there are none."""
    found = [{key: {operator: operand}} for key, wanted in where.items() for operator, operand in _operators(wanted)]
    return {"$and": found} if len(found) > 1 else next(iter(found), None)


def _operators(wanted: Any) -> Collection[tuple[str, Any]]:
    return wanted.items() if isinstance(wanted, Mapping) else [("$eq", wanted)]


def _holds(value: Any, operator: str, operand: Any) -> bool:
    if operator in ("$in", "$nin"):
        return (value in operand) == (operator == "$in")
    return (value is not None or operator == "$ne") and bool(_ORDERS[operator](value, operand))
