"""The programs in C: the parser under a sanitizer, what viewers check, and the error for a missing compiler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.processes import Child, free_ports
from bench.programs import HERE, ROOT, Programs, build, find_compiler
from tests.bench.answering import answering, needs_a_compiler, posted, until, watch

SANITIZED = ("-O1", "-g", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-fsanitize=address,undefined")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    needs_a_compiler()
    return build(tmp_path_factory.mktemp("programs"))


def test_the_parser_finds_the_same_events_wherever_the_bytes_are_cut(tmp_path: Path) -> None:
    needs_a_compiler()
    program = tmp_path / "cuts"
    sources = (Path(__file__).with_name("wire_cuts.c"), HERE / "sse.c")
    options = (*SANITIZED, "-fno-sanitize-recover=all", f"-I{HERE}")
    subprocess.run([find_compiler(), *options, "-o", program, *sources], check=True)
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.partition(", ")[2].strip(), result.stderr) == (0, "0 failed", "")


@pytest.mark.parametrize("source", ["load.c", "floor.c", "publish.c"])
def test_no_program_gives_the_compiler_a_reason_to_warn(source: str, tmp_path: Path) -> None:
    needs_a_compiler()
    subprocess.run([find_compiler(), *SANITIZED, "-c", "-o", tmp_path / "object", HERE / source], check=True)


def test_viewers_count_every_delivery_of_the_floor_and_see_their_order(programs: Programs, tmp_path: Path) -> None:
    port, events_port = free_ports(2)
    floor = Child([programs.floor, str(port), str(events_port)], log=tmp_path / "floor.log")
    printed = tmp_path / "viewers.json"
    with ExitStack() as running:
        running.callback(floor.stop)
        floor.wait_for_port(events_port)
        watching = ("--viewers", "20", "--streams", "4", "--deliveries", "500", "--seconds", "20", "--native-ids")
        viewers = Child([programs.load, "--port", str(port), *watching], log=tmp_path / "log", output=printed)
        running.callback(viewers.stop)
        until(lambda: b"connected" in printed.read_bytes())
        publishing = ("--lines", "--port", str(events_port), "--streams", "4", "--rate", "2000", "--count", "100")
        result = subprocess.run([programs.publish, *publishing], capture_output=True, text=True, check=True)
        assert viewers.wait(20)
    seen = json.loads(printed.read_text().split("\n")[1])
    assert json.loads(result.stdout)["sent"] == 100
    assert (seen["why"], seen["events"], seen["open"]) == ("deliveries", 500, 20)
    assert (seen["least_per_viewer"], seen["most_per_viewer"], seen["latency_us"]["count"]) == (25, 25, 500)
    assert not any(seen[name] for name in ("gaps", "repeated", "backward", "unnumbered", "lost", "broken"))


def test_viewers_report_what_is_missing_repeated_or_out_of_order(programs: Programs, tmp_path: Path) -> None:
    with answering(
        b"id: 5-1\ndata: a\n\nid: 5-4\ndata: a\n\nid: 5-4\ndata: a\n\nid: 4-2\ndata: a\n\ndata: b\n\n"
    ) as server:
        seen = watch(programs, server.port, "--native-ids")
    assert {name: seen[name] for name in ("events", "gaps", "missing", "repeated", "unnumbered")} == {
        "events": 5,
        "gaps": 1,
        "missing": 2,
        "repeated": 1,
        "unnumbered": 1,
    }
    # An epoch that falls and a seq that falls are two faults of one event.
    assert (seen["backward"], seen["why"], seen["ended"]) == (2, "all_gone", 1)


def test_a_viewer_that_was_cut_comes_back_with_what_it_saw_last(programs: Programs) -> None:
    with answering(b"id: 5-1\ndata: a\n\nid: 5-2\ndata: cut", is_whole=False, answers=2) as server:
        seen = watch(programs, server.port, "--native-ids", "--reconnect", "--resumed", "1", "--retry-ms", "1")
        assert b"Last-Event-ID: 5-1\r\n" in server.requests[1]
    assert (seen["why"], seen["resumed"], seen["lost"]) == ("resumed", 1, 1)


def test_a_viewer_that_wants_numbers_counts_only_what_the_publisher_wrote(programs: Programs) -> None:
    body = b'data: {"connect":{}}\n\nevent: delta\ndata: {"text":"#n=1 #t=5 x"}\n\ndata: #n=2 #t=6\n\ndata: {}\n\n'
    with answering(body, answers=2) as server:
        numbered, all_of_them = watch(programs, server.port, "--numbered"), watch(programs, server.port)
    assert (numbered["events"], numbered["gaps"], numbered["unnumbered"]) == (2, 0, 0)
    assert (all_of_them["events"], all_of_them["unnumbered"]) == (4, 2)


@pytest.mark.parametrize(("replies", "refused"), [(b'{"replies":[]}', 0), (b'{"replies":[{"error":{"code":100}}]}', 1)])
def test_events_for_centrifugo_come_in_batches_and_its_errors_are_counted(
    programs: Programs, replies: bytes, refused: int
) -> None:
    with posted(replies) as server:
        to = ("--centrifugo", "run-{i}", "--port", str(server.port), "--streams", "3")
        words: list[str | Path] = [programs.publish, *to, "--rate", "0", "--count", "40"]
        result = subprocess.run(words, capture_output=True, text=True, check=False)
    commands = [each["publish"] for body in server.bodies for each in json.loads(body)["commands"]]
    assert (result.returncode, json.loads(result.stdout)["sent"]) == (refused, 40)
    assert (json.loads(result.stdout)["refused"] > 0) == bool(refused)
    assert len(server.bodies) < 40
    for stream in range(3):
        numbers = [each["data"]["delta"].split()[0] for each in commands if each["channel"] == f"run-{stream}"]
        assert numbers == [f"#n={number}" for number in range(1, len(numbers) + 1)]
    assert len(commands) == 40


def test_without_a_compiler_the_run_ends_with_the_remedy(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--results", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "no C compiler found" in result.stdout
    assert "apt-get install gcc" in result.stdout
    assert shutil.which("gcc", path=str(tmp_path)) is None
