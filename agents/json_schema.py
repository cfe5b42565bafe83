"""A pydantic model as the JSON schema that chat endpoints accept for constrained answers.

OpenAI's strict mode wants every property required, no further ones, no defaults, and references without siblings.
llama.cpp is content with the same form, so there is only one.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

# pydantic's titles repeat the names; a default of a required property means nothing; a discriminator is OpenAPI's.
_DROPPED = frozenset({"title", "default", "discriminator", "examples"})


def strict_json_schema(schema: type[BaseModel], refused_keywords: frozenset[str] = frozenset()) -> dict[str, Any]:
    """JSON schema with title and description at the top, references put in place, and without `refused_keywords`.

    Raises:
        ValueError: the model refers to itself; such answers are not supported.
    """
    source = schema.model_json_schema()
    result: dict[str, Any] = {"title": schema.__name__, "description": (schema.__doc__ or schema.__name__).strip()}
    return result | _strict(source, source.get("$defs", {}), _DROPPED | refused_keywords | {"$defs"}, ())


def _strict(
    node: Mapping[str, Any], definitions: Mapping[str, Any], dropped: frozenset[str], inside: tuple[str, ...]
) -> dict[str, Any]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name in inside:
            raise ValueError(f"the answer's schema {name} refers to itself")
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        return _strict({**definitions[name], **siblings}, definitions, dropped, (*inside, name))
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key in dropped:
            continue
        if key == "properties":
            result[key] = {name: _strict(part, definitions, dropped, inside) for name, part in value.items()}
        elif key in ("anyOf", "oneOf", "allOf"):
            parts = [_strict(part, definitions, dropped, inside) for part in value]
            # A single allOf is how a reference gets siblings; oneOf is refused by OpenAI and anyOf means the same here.
            result |= parts[0] if key == "allOf" and len(parts) == 1 else {"anyOf" if key == "oneOf" else key: parts}
        elif key == "items":
            result[key] = _strict(value, definitions, dropped, inside)
        else:
            result[key] = value
    if "properties" in result:
        result["required"] = list(result["properties"])
        result["additionalProperties"] = False
    return result
