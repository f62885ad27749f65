"""LangGraph: the prebuilt agent and a graph with parallel nodes, in each form of its streams."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from jobs import Answer, Job
from langchain_calls import chat
from langchain_core.messages import AnyMessage
from langchain_rows import anthropic, responses
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import create_react_agent

MODES = ["messages", "updates", "custom"]


def agent(job: Job, answer: Answer, model: Any = chat) -> Any:
    """An agent whose tool reports its progress."""

    def get_weather(city: str) -> str:
        """The weather in a city."""
        write = get_stream_writer()
        write({"type": "data-progress", "data": {"done": 1, "total": 2, "message": city}})
        write("half-way")
        return answer.weather(city)

    return create_react_agent(model(job), [get_weather])


class State(TypedDict):
    """Two nodes write it at the same time."""

    messages: Annotated[list[AnyMessage], add_messages]


def parallel(job: Job) -> Any:
    """A graph whose two nodes run at the same time, each with a model of its own."""

    def node(model: Any) -> Any:
        async def call(state: State) -> dict[str, Any]:
            return {"messages": [await model(job).ainvoke(job.prompt)]}

        return call

    graph = StateGraph(State)
    for name, model in (("left", chat), ("right", chat)):
        graph.add_node(name, node(model))
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    return graph.compile()


def _input(job: Job) -> dict[str, Any]:
    return {"messages": [("user", job.prompt)]}


CALLS = {
    "LangGraph: messages": lambda job, answer: agent(job, answer).astream(_input(job), stream_mode="messages"),
    "LangGraph: messages, Responses": lambda job, answer: agent(job, answer, responses).astream(
        _input(job), stream_mode="messages"
    ),
    "LangGraph: messages, Anthropic": lambda job, answer: agent(job, answer, anthropic).astream(
        _input(job), stream_mode="messages"
    ),
    "LangGraph: messages, blocking": lambda job, answer: agent(job, answer).stream(_input(job), stream_mode="messages"),
    "LangGraph: messages, subgraphs": lambda job, answer: agent(job, answer).astream(
        _input(job), stream_mode="messages", subgraphs=True
    ),
    "LangGraph: modes": lambda job, answer: agent(job, answer).astream(_input(job), stream_mode=MODES),
    "LangGraph: modes, subgraphs": lambda job, answer: agent(job, answer).astream(
        _input(job), stream_mode=MODES, subgraphs=True
    ),
    "LangGraph: modes, v2": lambda job, answer: agent(job, answer).astream(
        _input(job), stream_mode=MODES, version="v2"
    ),
    "LangGraph: modes, blocking": lambda job, answer: agent(job, answer).stream(_input(job), stream_mode=MODES),
    "LangGraph: astream_events": lambda job, answer: agent(job, answer).astream_events(_input(job)),
    "LangGraph: parallel, messages": lambda job, _: parallel(job).astream(_input(job), stream_mode="messages"),
    "LangGraph: parallel, astream_events": lambda job, _: parallel(job).astream_events(_input(job)),
}
