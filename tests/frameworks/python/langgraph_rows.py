"""LangGraph: its prebuilt agent over a chat model of LangChain."""

from __future__ import annotations

from typing import Any

from jobs import Answer, City, Job
from langchain_core.messages import AIMessageChunk
from langchain_rows import chat, end
from langgraph.prebuilt import create_react_agent


class LangGraph:
    """An agent."""

    async def plain(self, job: Job, answer: Answer) -> None:
        message = await self._run(create_react_agent(chat(job), []), job)
        answer.text = message.text
        end(answer, message)

    async def stream(self, job: Job, answer: Answer) -> None:
        agent = create_react_agent(chat(job), [])
        whole: AIMessageChunk | None = None
        async for chunk, _ in agent.astream({"messages": [("user", job.prompt)]}, stream_mode="messages"):
            whole = chunk if whole is None else whole + chunk
            if answer.add(chunk.text, job):
                return
        if whole is not None:
            answer.text = whole.text
            end(answer, whole)

    async def tools(self, job: Job, answer: Answer) -> None:
        def get_weather(city: str) -> str:
            """The weather in a city."""
            return answer.weather(city)

        answer.text = (await self._run(create_react_agent(chat(job), [get_weather]), job)).text

    async def structured(self, job: Job, answer: Answer) -> None:
        agent = create_react_agent(chat(job), [], response_format=City)
        state = await agent.ainvoke({"messages": [("user", job.prompt)]})
        answer.object = state["structured_response"].model_dump()

    async def _run(self, agent: Any, job: Job) -> Any:
        return (await agent.ainvoke({"messages": [("user", job.prompt)]}))["messages"][-1]


ROWS = {"LangGraph: agent, chat": LangGraph()}
