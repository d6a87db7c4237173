"""The OpenAPI description, made from the table of operations."""

from __future__ import annotations

from typing import Any

import msgspec

from node.api.operations import EVENTS_PATH, OPERATIONS, Operation
from node.api.shapes import ErrorAnswer

_REF = "#/components/schemas/{name}"

Json = dict[str, Any]


def describe(version: str) -> Json:
    """The document of OpenAPI 3.1."""
    types: list[Any] = [ErrorAnswer]
    for operation in OPERATIONS:
        types += [operation.request, operation.answer]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    error = _content(schemas[0])
    paths: Json = {}
    for number, operation in enumerate(OPERATIONS):
        request, answer = schemas[1 + 2 * number], schemas[2 + 2 * number]
        properties = components[operation.request.__name__]
        paths.setdefault(operation.path, {})[operation.method.lower()] = {
            "operationId": operation.name,
            "summary": operation.summary,
            **_parameters(operation, request, properties),
            "responses": {
                "200": {"description": "Done", **_content(answer)},
                "default": {"description": "Refused or failed", **error},
            },
        }
    paths[EVENTS_PATH] = {
        "get": {
            "operationId": "events",
            "summary": "Events from now on, one JSON object a line; `event` names the kind. The "
            "first is `subscribed`; `heartbeat` follows in silence, `lagged` after a loss",
            "responses": {
                "200": {
                    "description": "A stream without end",
                    "content": {"application/x-ndjson": {"schema": {"type": "object"}}},
                },
                "default": {"description": "Refused or failed", **error},
            },
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "quicnprotochat control API", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _parameters(operation: Operation[Any, Any], request: Json, schema: Json) -> Json:
    if operation.method == "POST":
        return {"requestBody": {"required": True, **_content(request)}}
    required = schema.get("required", [])
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": shape}
            for name, shape in schema.get("properties", {}).items()
        ]
    }


def _content(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}
