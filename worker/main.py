"""The worker's composition root: settings in, a running worker out (``python -m worker``)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError

# Before the others, which import structlog and redis-py with all that they find.
import broadcaster.log.redis.lean  # noqa: F401
from broadcaster.observability.telemetry import name_traces, set_up_logging

# isort: split
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.core.requests.passed_calls import provider_calls
from broadcaster.errors import LogUnavailable, ProviderFailed, SetupError
from broadcaster.log.access.daily_usage import DailyUsage
from broadcaster.log.inspection.worker_reports import WorkerReports
from broadcaster.log.jobs.job_reader import JobReader
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.jobs.lists.model_lists import StoredModelLists
from broadcaster.log.jobs.queue_depth import QueueDepth
from broadcaster.log.jobs.sweeper import Sweeper
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.topology.topology import Topology
from broadcaster.log.streams.appender import AppendBounds, Appender
from broadcaster.log.streams.control import ControlListener
from broadcaster.log.streams.reader import Streams
from broadcaster.observability.logs import get_logger
from broadcaster.observability.metrics_address import MetricsAddress
from broadcaster.observability.serving import folder_of_parent, process_metrics
from broadcaster.observability.tracing.opening import open_tracing
from broadcaster.process.lifeline import follow_parent
from broadcaster.process.memory import tune_memory
from broadcaster.process.tasks import end_tasks, running
from broadcaster.settings import Settings, describe_error, unknown_variables
from broadcaster.settings.contradictions import check_worker
from broadcaster.wiring import JobParts
from worker.attempt import AttemptTimes
from worker.engine import Engine, RunnerTimes
from worker.memory_guard import guard_memory
from worker.metrics import WorkerSource
from worker.model_lists import ModelListReader
from worker.providers.base import CallBounds
from worker.providers.registry import LOCAL, Providers, default_factories, has_credentials
from worker.reports.reporter import WorkerReporter
from worker.runner import Runner
from worker.slots import Slots
from worker.tools import ToolBox, load_tools
from worker.tools.agent import AgentSetup
from worker.tools.tool_runner import ToolBounds, ToolRunner
from worker.watchdog import LoopWatchdog

if TYPE_CHECKING:
    from worker.webhooks.courier import WebhookCourier

_log = get_logger(__name__)

EXIT_USAGE: Final = 2
_BLOCK_S: Final = 2.0
_SERVICE: Final = "broadcaster-worker"
_GOODBYE_S: Final = 1.0


def create_worker_id() -> str:
    """A name that no other worker process has or had: host, process, random."""
    return f"{socket.gethostname()[:32]}.{os.getpid()}.{secrets.token_hex(4)}"


@asynccontextmanager
async def open_engine(settings: Settings, worker_id: str) -> AsyncIterator[tuple[Engine, Sweeper, Topology]]:
    """Everything that the runner needs, opened, and closed in reverse."""
    if settings.redis_url is None:
        raise SetupError("a worker needs a Redis: set BROADCASTER_REDIS_URL, or use `broadcaster up`")
    await check_login(settings.redis_url, timeout_s=settings.redis_timeout_s)
    async with AsyncExitStack() as stack:
        tracing = open_tracing(settings.traces, service=_SERVICE)
        stack.callback(tracing.close)
        connection = await stack.enter_async_context(
            LogConnection(
                settings.redis_url,
                prefix=settings.key_prefix,
                timeout_s=settings.redis_timeout_s,
                max_connections=settings.redis_connections,
                outlives_refusals=True,
                patience_s=0,  # a worker repeats a failed call itself; a call that waited would delay the others
            )
        )
        bounds = AppendBounds(
            max_events=settings.max_events,
            max_bytes=settings.max_bytes,
            push_max_bytes=settings.push_max_bytes,
            live_ttl_ms=int(settings.live_ttl_s * 1000),
        )
        appender = await stack.enter_async_context(Appender(connection, bounds))
        parts = JobParts(settings, connection, owner=worker_id, streams=Streams(connection))
        queue, claims, streams, steadiness = parts.queue, parts.claims, parts.streams, parts.steadiness
        keeper = LeaseKeeper(
            connection,
            worker_id=worker_id,
            lease_ttl_s=settings.lease_ttl_s,
            claims=claims,
            queue=queue,
            appender=appender,
            steadiness=steadiness,
        )
        reader = JobReader(connection, consumer=worker_id, block_s=_BLOCK_S, tenant_running=settings.tenant_running)
        stack.push_async_callback(reader.aclose)
        providers = create_providers(settings)
        stack.push_async_callback(providers.aclose)
        topology = connection.topology
        control = ControlListener(connection, topology)
        sweeper = parts.sweeper(silent_ms=int(settings.lease_ttl_s * 1000))
        courier: WebhookCourier | None = None
        if settings.webhook_secret is not None:
            webhooks = import_module("worker.webhooks.wiring")
            courier = webhooks.create_courier(settings, connection, queue=queue, streams=streams, steadiness=steadiness)
        engine = Engine(queue, reader, claims, streams, appender, keeper, steadiness, control, providers, courier)
        depth = QueueDepth(connection, tenant_running=settings.tenant_running)
        agent, usage = create_agent_setup(settings, streams), DailyUsage(connection)
        yield replace(engine, agent=agent, depth=depth, usage=usage, tracing=tracing), sweeper, topology


async def check_login(redis_url: str, *, timeout_s: float) -> None:
    """Raises SetupError when Redis refuses the login, or is not a Redis. A Redis that is away is waited for."""
    async with LogConnection(redis_url, timeout_s=timeout_s, max_connections=1, patience_s=0) as connection:
        with contextlib.suppress(LogUnavailable):
            await connection.check()


async def keep_providers(settings: Settings, connection: LogConnection, providers: Providers) -> None:
    """Create the configured providers, then read their model lists until cancelled. The local model has no list.

    It runs beside the jobs: the worker serves, and renews, before the SDKs are imported.
    """
    await prepare_providers(settings, providers)
    names = [name for name in to_prepare(settings) if name != LOCAL]
    if settings.model_list_s and names:
        await ModelListReader(providers, names, StoredModelLists(connection), every_s=settings.model_list_s).run()


def create_agent_setup(settings: Settings, streams: Streams) -> AgentSetup:
    """The tools of this worker and their bounds. Raises SetupError if they cannot be loaded."""
    box = ToolBox() if settings.tools is None else load_tools(settings.tools)
    bounds = ToolBounds(
        concurrency=settings.tool_concurrency,
        timeout_s=settings.tool_timeout_s,
        max_output_bytes=settings.max_event_bytes,
    )
    return AgentSetup(ToolRunner(box, bounds), streams, max_steps=settings.max_steps)


# Connections for what a worker reads of its provider beside the answers: its models, and how long their answers may be.
_BESIDE_ANSWERS: Final = 2


def create_providers(settings: Settings) -> Providers:
    """The providers that the settings name. Built-in ones take keys and base URLs from their SDKs' variables."""
    bounds = CallBounds(
        max_connections=settings.concurrency + _BESIDE_ANSWERS,
        read_timeout_s=settings.provider_timeout_s,
        error_bytes=settings.provider_error_bytes,
        error_timeout_s=settings.provider_error_timeout_s,
        fallback_tokens=settings.fallback_max_tokens,
        answer_bytes=settings.max_bytes,
        trace_to=settings.trace_providers,
    )
    return Providers(
        ModelRoutes(settings.routes),
        default_factories(bounds, specs=settings.providers, key_variables=settings.key_variables),
        key_variables=settings.key_variables,
        cooldown_s=settings.provider_cooldown_s,
        calls=provider_calls(settings.providers),
    )


async def prepare_providers(settings: Settings, providers: Providers) -> None:
    """Create the providers that requests will use, so that the first request does not wait; see ``to_prepare``."""
    await asyncio.gather(*(_prepare(name, providers) for name in to_prepare(settings)))


def to_prepare(settings: Settings) -> list[str]:
    """The routed providers that the operator has set up: in PROVIDERS, or by credentials."""
    routed = sorted(ModelRoutes(settings.routes).providers)
    variables = settings.key_variables
    names = [name for name in routed if name in settings.providers or has_credentials(name, variables.get(name, ()))]
    return [LOCAL, *names] if settings.local_model_preload else names


async def _prepare(name: str, providers: Providers) -> None:
    """If this provider cannot start, the worker logs it and serves the other models; its own requests will fail."""
    try:
        await (await providers.named(name)).start()
    except ProviderFailed as error:
        _log.warning("provider_not_ready", provider=name, reason=error.reason, detail=error.detail)


def _stop_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Two events: the first SIGTERM or SIGINT requests a drain, the second ends the drain's grace."""
    stop_requested, hurried = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurried if stop_requested.is_set() else stop_requested).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop_requested, hurried


async def run(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT, then drain it; a second one ends the drain's grace."""
    worker_id = create_worker_id()
    stop_requested, hurried = _stop_signals()
    async with (
        open_engine(settings, worker_id) as (engine, sweeper, topology),
        LoopWatchdog(lease_ttl_s=settings.lease_ttl_s),
    ):
        runner = create_runner(settings, engine)
        name_traces(lambda stream: None if (attempt := runner.attempts.get(stream)) is None else attempt.trace_id)
        async with worker_metrics(settings, engine, runner), asyncio.TaskGroup() as tasks:
            support = (engine.steadiness, engine.keeper, topology, engine.control)
            supporting = [tasks.create_task(each.run()) for each in support]
            reporter = WorkerReporter(WorkerReports(engine.keeper.connection), worker_id, runner=runner)
            supporting.append(tasks.create_task(reporter.run()))
            guarding = guard_memory(settings.worker_memory_bytes, lambda: runner.attempts)
            supporting.append(tasks.create_task(guarding))
            taking = [
                tasks.create_task(runner.take_new()),
                tasks.create_task(runner.take_silent()),
                tasks.create_task(sweeper.run(every_s=settings.lease_ttl_s / 5)),
            ]
            if engine.courier is not None:
                taking.append(tasks.create_task(engine.courier.run()))
            tune_memory()
            _log.info(
                "worker_ready",
                worker=worker_id,
                concurrency=settings.concurrency,
                webhooks=engine.courier is not None,
                tools=len(engine.agent.runner.box) if engine.agent is not None else 0,
            )
            taking.append(tasks.create_task(keep_providers(settings, engine.keeper.connection, engine.providers)))
            await stop_requested.wait()
            await end_tasks(*taking)
            draining = [each for each in (runner, engine.courier) if each is not None]
            await asyncio.gather(*(each.drain(grace_s=settings.drain_s, hurried=hurried) for each in draining))
            await end_tasks(*supporting)  # a renewal after the goodbye would undo it
            # Without the goodbye, the worker's lease lapses by itself later.
            with contextlib.suppress(TimeoutError, LogUnavailable):
                async with asyncio.timeout(_GOODBYE_S):
                    await engine.keeper.remove_heartbeat()
                    await reporter.end()
    _log.info("worker_ended", worker=worker_id)


@asynccontextmanager
async def worker_metrics(settings: Settings, engine: Engine, runner: Runner) -> AsyncIterator[None]:
    """The metrics of this worker while the block runs, at its own port or in its parent's; nothing if they are off."""
    address = MetricsAddress.of(settings)
    if address is None or engine.depth is None:
        yield
        return
    source = WorkerSource(engine=engine, runner=runner)
    async with process_metrics(source, kind="worker", address=address, folder=folder_of_parent()):
        async with running(engine.depth.run()):
            yield


def create_runner(settings: Settings, engine: Engine) -> Runner:
    """The runner with its bounds and times."""
    return Runner(
        engine,
        Slots(
            concurrency=settings.concurrency,
            buffer_bytes=settings.buffer_bytes,
            max_bytes=settings.max_bytes,
            tenant_share=settings.tenant_slot_share,
        ),
        times=RunnerTimes(
            lease_ttl_s=settings.lease_ttl_s,
            resend_keep_s=settings.resend_keep_s,
            attempt=AttemptTimes(
                generation_timeout_s=settings.generation_timeout_s, append_deadline_s=settings.live_ttl_s
            ),
            retry=RetryBounds(settings.provider_retries, settings.provider_retry_cap_s),
        ),
        max_bytes=settings.max_bytes,
    )


def main() -> None:
    """Entry point of ``python -m worker``."""
    follow_parent()
    try:
        settings = Settings()
        check_worker(settings)
        set_up_logging(settings.log_level, format=settings.log_format)
        for name, nearest in unknown_variables(os.environ):
            _log.warning("unknown_setting", variable=name, nearest=nearest)
        if settings.tools is not None:
            # The tools may lie in the current folder. As the last entry it replaces no other module.
            sys.path.append("")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except (ValidationError, SettingsError) as error:
        _refuse(describe_error(error))
    except SetupError as error:
        _refuse(error.detail)


def _refuse(detail: str) -> NoReturn:
    """End with one line that names what the operator must change, without a traceback."""
    sys.stderr.write(f"error: {detail}\n")
    raise SystemExit(EXIT_USAGE)
