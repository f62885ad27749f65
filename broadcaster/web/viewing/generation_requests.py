"""What the route of generations and the library share: a request with this server's defaults, and counts of viewers."""

from __future__ import annotations

from collections.abc import Sequence

from broadcaster.core.requests.priorities import Priority
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.web.documents import schemas
from broadcaster.web.services import Services


def generation_request(body: schemas.GenerationBody, services: Services) -> GenerationRequest:
    """The request with this server's defaults. Raises UnknownModel, WebhookNotAllowed."""
    model = body.model or services.default_model
    services.routes.provider_for(model)  # raises UnknownModel
    if body.webhook is not None:
        services.webhook_hosts.admit(body.webhook.url)  # raises WebhookNotAllowed
    fields = {
        "messages": body.conversation(),
        "system": body.system,
        "max_tokens": body.max_tokens or services.default_max_tokens,
        "temperature": body.temperature,
        "tools": body.tools,
        "max_steps": body.max_steps,
        "metadata": body.metadata or None,
    }
    return GenerationRequest(
        model=model,
        request={name: value for name, value in fields.items() if value is not None},
        on_worker_loss=body.on_worker_loss,
        on_abandon=body.on_abandon,
        on_provider_loss=body.on_provider_loss,
        retention_s=body.retention_s,
        webhook=None if body.webhook is None else body.webhook.model_dump(mode="json", exclude_none=True),
        priority=services.priority if body.priority is None else Priority(body.priority),
    )


async def count_viewers(services: Services, ids: Sequence[str]) -> list[int]:
    """Viewers over all front-ends; the hub counts its own at once, while presence is reported every few seconds."""
    here = services.hub.viewers()
    counts = await services.presence.count(ids)
    return [max(count, here.get(each, 0)) for each, count in zip(ids, counts, strict=True)]
