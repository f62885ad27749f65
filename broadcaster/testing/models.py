"""The list of models, in one object that the SDKs of both vendors can read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from broadcaster.testing.chat_wire import CREATED
from broadcaster.testing.wire import Json


def model_list(models: Sequence[str]) -> Json:
    """The answer to ``GET /v1/models``."""
    return {
        "object": "list",
        "data": [_model(model) for model in models],
        "has_more": False,
        "first_id": models[0],
        "last_id": models[-1],
    }


def _model(model: str) -> Json:
    created_at = datetime.fromtimestamp(CREATED, UTC).isoformat()
    anthropic = {"type": "model", "display_name": model, "created_at": created_at}
    return {"id": model, "object": "model", "created": CREATED, "owned_by": "scripted", **anthropic}
