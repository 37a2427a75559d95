"""The host's OpenAPI description, made from the route table; the body of `/openapi.json`.

The protocol's own file has literal `$` in its paths, lacks those without a version, and
requires `data`, which its binary extension leaves out.
"""

from typing import Any, Final

import orjson

from slipway import __version__
from slipway.bundle.datatypes import DTYPES
from slipway.host.request.refusal import STATUS
from slipway.host.request.routes import DATA_ROUTES, NAME, Route

SUMMARIES: Final = {
    "server": "What this server is",
    "live": "Whether the process answers",
    "ready": "Whether every model serves",
    "infer": "Ask the model",
    "model": "A model's inputs, outputs and loaded versions",
    "model_ready": "Whether a model serves",
    "model_config": "A model's configuration, as Triton's clients read it",
    "model_stats": "What was counted about a model",
    "openapi": "This description",
    "metrics": "Metrics in Prometheus' text format",
}

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 256}
_PARAMETERS: Final = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}

SCHEMAS: Final[dict[str, Any]] = {
    "Error": {
        "type": "object",
        "required": ["error", "code", "request_id"],
        "properties": {
            "error": {"type": "string"},
            "code": {"enum": sorted(STATUS)},
            "request_id": {"type": "string"},
        },
    },
    "Tensor": {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "additionalProperties": False,
        "properties": {
            "name": _TEXT,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"enum": sorted(DTYPES)},
            "parameters": _PARAMETERS,
            "data": {"type": "array"},
        },
    },
    "Request": {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "maxLength": 256},
            "model_name": _TEXT,
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "additionalProperties": False,
                    "properties": {"name": _TEXT, "parameters": _PARAMETERS},
                },
            },
        },
    },
    "Answer": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
}


def describe() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the data port."""
    paths: dict[str, Any] = {}
    for route in DATA_ROUTES:
        paths.setdefault(route.template, {})[route.method.decode().lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Slipway inference host", "version": __version__},
        "security": [{}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    operation: dict[str, Any] = {
        "operationId": f"{route.action}{'_version' if '{version}' in route.template else ''}",
        "summary": SUMMARIES[route.action],
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": f"^{NAME.decode()}$"},
            }
            for name in ("model", "version")
            if f"{{{name}}}" in route.template
        ],
        "responses": {
            "200": {"description": "Done", "content": _content(route)},
            "4XX": {"description": "Refused; the caller can mend it", "content": failed},
            "5XX": {"description": "Failed, or not now", "content": failed},
        },
    }
    if route.action == "infer":
        schema = {"$ref": "#/components/schemas/Request"}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _content(route: Route) -> dict[str, Any]:
    if route.action == "metrics":
        return {"text/plain": {"schema": {"type": "string"}}}
    if route.action == "infer":
        return {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}}
    return {"application/json": {"schema": {"type": "object"}}}


OPENAPI: Final = orjson.dumps(describe())
