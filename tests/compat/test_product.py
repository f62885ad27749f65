"""Every client against the product itself: three front-ends behind one address, and a worker that may be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.compat.clients import CLIENTS, Client, Opened
from tests.compat.matrix import FRESH, LATE, LOST, STOP, THINKING, TOOLS, clients
from tests.compat.product import Product, open_product
from tests.compat.readings import Read, of_entries
from tests.compat.tellings import shows_a_stop, shows_an_error

pytestmark = pytest.mark.asyncio(loop_scope="module")

ARGUMENTS = {"city": "Paris"}
FRAGMENTS = ('{"city": ', '"Paris"}')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    async with open_product(tmp_path_factory.mktemp("product"), redis_url) as running:
        yield running


@pytest.mark.thorough
@clients(FRESH, *CLIENTS)
async def test_a_fresh_run_ends_with_what_the_log_holds(product: Product, opened: Opened, client: Client) -> None:
    async with product.generation(client, await opened.show(client)) as generation:
        await generation.conversation.send_text("Hello ")
        await generation.until_logged("Hello ")
        await generation.conversation.send_text("wörld 🌊")
        await generation.conversation.finish()
        shown = await generation.first
        assert shown.error is None
        assert client.read(shown.final) == of_entries(await generation.entries())
        assert client.read(shown.final) == Read("Hello wörld 🌊", "", ())


@pytest.mark.thorough
@clients(TOOLS, *CLIENTS)
async def test_a_fresh_tool_call_comes_with_its_arguments(product: Product, opened: Opened, client: Client) -> None:
    async with product.generation(client, await opened.show(client)) as generation:
        await generation.conversation.send_text("I look.")
        await generation.conversation.send_tool("get_weather", *FRAGMENTS)
        await generation.conversation.finish()
        shown = await generation.first
        assert shown.error is None
        assert client.read(shown.final) == Read("I look.", "", (("get_weather", ARGUMENTS),))


@pytest.mark.thorough
@clients(THINKING, *CLIENTS)
async def test_fresh_thinking_is_shown_as_thinking(product: Product, opened: Opened, client: Client) -> None:
    async with product.generation(client, await opened.show(client)) as generation:
        await generation.conversation.send_reasoning("They ask ", "for it.")
        await generation.conversation.send_text("Yes.")
        await generation.conversation.finish()
        shown = await generation.first
        assert shown.error is None
        assert client.read(shown.final) == Read("Yes.", "They ask for it.", ())


@pytest.mark.second_engine
@clients(LATE, *CLIENTS)
async def test_a_late_joiner_at_another_front_end_ends_with_the_same(
    product: Product, opened: Opened, client: Client
) -> None:
    async with product.generation(client, await opened.show(client)) as generation:
        await generation.conversation.send_text("Hello ")
        await generation.until_logged("Hello ")
        joined = generation.join()
        assert len(await generation.until_logged("Hello ", viewers=2)) == 2
        await generation.conversation.send_text("world")
        await generation.conversation.finish()
        first, second = await generation.first, await joined
        assert (first.error, second.error) == (None, None)
        assert client.read(first.final).text == "Hello world"
        assert second.final == first.final


@pytest.mark.thorough
@clients(STOP, *CLIENTS)
async def test_a_stop_ends_the_stream_as_a_stop(product: Product, opened: Opened, client: Client) -> None:
    async with product.generation(client, await opened.show(client)) as generation:
        await generation.conversation.send_text("Half an ans")
        await generation.until_logged("Half an ans")
        await generation.stop()
        shown = await generation.first
        assert shows_a_stop(client, shown), shown
        assert client.read(shown.final).text == "Half an ans"


@pytest.mark.thorough
@clients(LOST, *CLIENTS)
async def test_a_worker_killed_in_mid_answer_is_an_error_and_never_a_clean_end(
    product: Product, opened: Opened, client: Client
) -> None:
    async with product.generation(client, await opened.show(client)) as generation:
        await generation.conversation.send_text("Half an ans")
        await generation.until_logged("Half an ans")
        await product.replace_worker()
        shown = await generation.first
        assert shows_an_error(client, shown), shown
        if shown.final is not None:
            assert client.read(shown.final).text in ("Half an ans", "")
