"""What a caller asks for → what a worker is asked, checked against this server's settings."""

from __future__ import annotations

from broadcaster.errors import UnknownModel
from broadcaster.log.generations import GenerationRequest
from broadcaster.web.schemas import GenerationBody
from broadcaster.web.services import Services


def wish_of(body: GenerationBody, services: Services) -> GenerationRequest:
    """The request with this server's defaults. Raises UnknownModel, WebhookNotAllowed."""
    model = body.model or services.default_model
    try:
        services.routes.provider_for(model)
    except UnknownModel:
        raise UnknownModel("no route of this server serves the model that was asked for") from None
    if body.webhook is not None:
        services.webhook_hosts.admit(body.webhook.url)  # raises WebhookNotAllowed
    wish = {
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
        request={name: value for name, value in wish.items() if value is not None},
        on_worker_loss=body.on_worker_loss,
        on_abandon=body.on_abandon,
        on_provider_loss=body.on_provider_loss,
        retention_s=body.retention_s,
        webhook=None if body.webhook is None else body.webhook.model_dump(mode="json", exclude_none=True),
    )
