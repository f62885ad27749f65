"""The list of models, in one object that the SDKs of both vendors can read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

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


MAX_TOKENS: Final = 64_000
"""The largest ``max_tokens`` of a model for which a test names none."""


def model_shown(model: str, *, max_tokens: int) -> Json:
    """The answer to ``GET /v1/models/{id}``."""
    return {**_model(model), "max_input_tokens": 200_000, "max_tokens": max_tokens, "lifecycle": "active"}


def _model(model: str) -> Json:
    created_at = datetime.fromtimestamp(CREATED, UTC).isoformat()
    anthropic = {"type": "model", "display_name": model, "created_at": created_at}
    return {"id": model, "object": "model", "created": CREATED, "owned_by": "scripted", **anthropic}
