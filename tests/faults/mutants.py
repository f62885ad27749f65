"""Take each guard away in turn, and see which test turns red: ``python -m tests.faults.mutants [WORDS] [--at-once N]``.

The checkout's packages and tests are copied into a folder, the one text is replaced there, and the mutant's tests run
in it until the first red one, whose name is printed. A mutant that no test notices survives, and the exit code is 1:
its guard could be lost by an edit, unseen. ``WORDS``: only mutants whose file or name holds them.

red_tests.json records which test turned red for which mutant. A later run tries that test first, and the others only
when it stays green: one test takes seconds, a module takes up to minutes. Every verdict is recorded at once, so that
``--unrecorded`` continues a run that was broken off.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = (
    *("broadcaster", "worker", "clients", "tests", "deploy", "docs", "examples"),
    *("pyproject.toml", "README.md"),
)
NODE_PACKAGES: Final = Path("tests/compat/node/node_modules")
LINKED: Final = (NODE_PACKAGES, Path(".venv"))
RECORD: Final = Path(__file__).with_name("red_tests.json")
LIMIT_S: Final = 1200
_RED: Final = re.compile(r"^(\S+::.+?) (?:FAILED|ERROR) +\[ *\d+%\]$", re.MULTILINE)
_TESTS_FAILED: Final = 1  # pytest's exit code; all others but 0 mean that it could not run them


class Mutant(NamedTuple):
    """A guard taken away: ``old`` in ``file`` becomes ``new``, and one of ``tests`` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    only: str = ""  # which of them: pytest's -k

    @property
    def key(self) -> str:
        """Its name in the record."""
        return f"{self.file}: {self.name}"


class Verdict(NamedTuple):
    """What became of a mutant: the test that turned red, or why none is named."""

    mutant: Mutant
    red: str | None
    detail: str
    took_s: float


def read_mutants() -> list[Mutant]:
    """The table, mutants.toml."""
    table = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text("utf-8"))
    return [
        Mutant(guard["name"], group["file"], guard["old"], guard["new"], tuple(group["tests"]), group.get("only", ""))
        for group in table["group"]
        for guard in group["guard"]
    ]


def mutated(mutant: Mutant, root: Path = ROOT) -> str:
    """The file's text without the guard. Raises ValueError unless the old text is there exactly once."""
    text = (root / mutant.file).read_text("utf-8")
    if (times := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.file}, {mutant.name}: its text is there {times} times: {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code and output, in a copy of the checkout."""
    # Seeds and examples are those of CI; what one mutant found must not help the next. The first run, with every guard,
    # leaves its bytecode to the copies: to compile all modules takes longer than most tests.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**kept, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "-v", "-x", "--tb=no", "--no-header", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {LIMIT_S} s"
    return done.returncode, done.stdout + done.stderr


def copy_checkout(folder: Path) -> None:
    """What tests need, without what they leave behind; the installed Node packages are linked: they are large."""
    leave = shutil.ignore_patterns("__pycache__", ".hypothesis", "*.egg-info", ".next", NODE_PACKAGES.name)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=leave)
        else:
            shutil.copy(source, folder / name)
    for packages in LINKED:
        if (ROOT / packages).is_dir():
            (folder / packages).symlink_to((ROOT / packages).resolve())


Run: TypeAlias = Callable[[Path, Sequence[str]], tuple[int, str]]


def first_red(folder: Path, tests: Sequence[str], *, only: str = "", run: Run = run_tests) -> tuple[str | None, str]:
    """The first test that is red, and red in a second run alone; else None, and a note about it."""
    unsteady: list[str] = []
    while True:
        kept = ["-k", only] if only else []
        code, output = run(folder, [*tests, *kept, *(f"--deselect={each}" for each in unsteady)])
        found = _RED.search(output)
        if found is None:
            detail = "" if code == 0 else f"pytest ended with {code}: {output[-300:]}"
            return None, detail or (f"unsteady: {unsteady}" if unsteady else "")
        second, output = run(folder, [found[1]])
        if second == _TESTS_FAILED:
            return found[1], ""
        if second != 0:
            return None, f"pytest ended with {second} for {found[1]}: {output[-300:]}"
        unsteady.append(found[1])


def noticed(folder: Path, mutant: Mutant, recorded: str | None, *, run: Run = run_tests) -> tuple[str | None, str]:
    """The test that turns red without the guard, the recorded one first; else None, and a note about it."""
    if recorded is not None and run(folder, [recorded])[0] == _TESTS_FAILED:
        return recorded, ""
    return first_red(folder, mutant.tests, only=mutant.only, run=run)


def judge(mutant: Mutant, whole: Path, recorded: str | None) -> Verdict:
    """Run the mutant's tests without its guard, in a copy of the copy with every guard."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bc-mutant-") as name:
        folder = Path(name) / "checkout"
        shutil.copytree(whole, folder, symlinks=True)
        (folder / mutant.file).write_text(mutated(mutant, whole), "utf-8")
        red, detail = noticed(folder, mutant, recorded)
    return Verdict(mutant, red, detail, time.monotonic() - began)


def read_record(path: Path = RECORD) -> dict[str, str]:
    """The test that turned red for each mutant that was judged, by the mutant's key."""
    found: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def write_record(record: Mapping[str, str], known: Iterable[Mutant], path: Path = RECORD) -> None:
    """Record these, without mutants that the table has no more."""
    keys = {mutant.key for mutant in known}
    kept = {key: test for key, test in sorted(record.items()) if key in keys}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


def first_red_with_guards(whole: Path, chosen: Sequence[Mutant], record: Mapping[str, str]) -> str | None:
    """A test that is red although nothing was taken away: no verdict counts then."""
    for only in sorted({mutant.only for mutant in chosen}):
        tests = {
            test
            for mutant in chosen
            if mutant.only == only
            for test in (mutant.tests if mutant.key not in record else (record[mutant.key],))
            if not _is_stale(test, whole)
        }
        # A recorded test was found under the selection of its own mutant.
        red, detail = first_red(whole, sorted(tests), only=only) if tests else (None, "")
        if red or detail.startswith("pytest"):
            return red or detail
    return None


def _is_stale(test: str, whole: Path) -> bool:
    """Whether a recorded test has left its file: the mutant's own tests are tried then."""
    file, _, name = test.partition("::")
    path = whole / file
    return not path.exists() or name.partition("[")[0].rpartition("::")[2] not in path.read_text("utf-8")


def choose(given: argparse.Namespace, mutants: Sequence[Mutant], record: Mapping[str, str]) -> list[Mutant]:
    """The mutants that the command line names."""
    return [
        mutant
        for mutant in mutants
        if (not given.words or any(word in f"{mutant.file} {mutant.name}" for word in given.words))
        and not (given.unrecorded and mutant.key in record)
    ]


def main(arguments: Sequence[str]) -> int:
    """Judge all that were requested; 1 when one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants")
    parser.add_argument("words", nargs="*", help="only mutants whose file or name holds one of these")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--unrecorded", action="store_true", help="only mutants that no run has judged yet")
    given = parser.parse_args(arguments)
    mutants, record = read_mutants(), read_record()
    chosen = choose(given, mutants, record)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="bc-whole-") as name, ThreadPoolExecutor(given.at_once) as pool:
        whole = Path(name)  # edits of the checkout during the run change nothing
        copy_checkout(whole)
        if (fault := first_red_with_guards(whole, chosen, record)) is not None:
            print(f"red with every guard in place: {fault}")
            return 1
        known = dict(record)
        for mutant, red, detail, took_s in pool.map(lambda each: judge(each, whole, known.get(each.key)), chosen):
            survivors += red is None
            record.pop(mutant.key, None)
            if red is not None:
                record[mutant.key] = red
            write_record(record, mutants)
            print(
                f"{took_s:6.1f} s  {Path(mutant.file).name}: {mutant.name}: {red or f'SURVIVES {detail}'}", flush=True
            )
    print(f"{len(chosen)} mutants, {survivors} not caught by name")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
