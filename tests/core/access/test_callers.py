"""What a credential allows: its actions, and with grants only the streams that they cover."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.access.callers import Action, Caller, StreamGrant, read_actions

WATCH, STOP, APPEND = Action.WATCH, Action.STOP, Action.APPEND
ACTIONS = st.frozensets(st.sampled_from(Action), min_size=1)
IDS = st.text("ab:", max_size=4)


def test_a_key_acts_on_every_stream_and_on_none_in_particular_within_its_actions() -> None:
    caller = Caller("a", frozenset({WATCH}))
    assert caller.may({WATCH}, stream_id="s")
    assert caller.may({WATCH}, stream_id=None)
    assert not caller.may({WATCH, STOP}, stream_id="s")


def test_a_grant_covers_one_stream_or_a_prefix_with_its_own_actions() -> None:
    exact, prefix = (
        StreamGrant("gen_1", frozenset({WATCH, STOP})),
        StreamGrant("job:", frozenset({APPEND}), is_prefix=True),
    )
    caller = Caller("a", frozenset({WATCH, STOP, APPEND}), (exact, prefix))
    assert caller.may({WATCH, STOP}, stream_id="gen_1")
    assert caller.may({APPEND}, stream_id="job:7")
    for actions, stream_id in (
        ({WATCH}, "gen_10"),
        ({WATCH}, "gen_"),
        ({WATCH}, "job:7"),
        ({APPEND}, "gen_1"),
        ({APPEND}, "job"),
    ):
        assert not caller.may(actions, stream_id=stream_id)


@given(ACTIONS, st.lists(st.builds(StreamGrant, IDS, ACTIONS, st.booleans()), max_size=4))
def test_a_caller_with_grants_may_do_nothing_without_a_stream(
    actions: frozenset[Action], grants: list[StreamGrant]
) -> None:
    assert not Caller("a", frozenset(Action), tuple(grants)).may(actions, stream_id=None)


@given(ACTIONS, IDS, st.lists(st.builds(StreamGrant, IDS, ACTIONS, st.booleans()), max_size=4))
def test_each_action_on_a_stream_is_granted_by_a_grant_that_covers_it(
    actions: frozenset[Action], stream_id: str, grants: list[StreamGrant]
) -> None:
    caller = Caller("a", frozenset(Action), tuple(grants))
    granted = {action for grant in grants if grant.covers(stream_id) for action in grant.actions}
    assert caller.may(actions, stream_id=stream_id) == (actions <= granted)


def test_rights_are_read_by_their_names() -> None:
    assert read_actions(["watch", "stop", "watch"]) == {WATCH, STOP}


@pytest.mark.parametrize("names", [[], ["watch", "fly"], ["WATCH"], [1], [["watch"]], [""]])
def test_an_unknown_right_or_none_at_all_is_refused(names: list[object]) -> None:
    with pytest.raises(ValueError, match="rights are a list of start, watch, append, stop, admin"):
        read_actions(names)
