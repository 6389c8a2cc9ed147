"""Runs are found below a root, a project or an experiment, and at the very place that is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.left import Left
from trainhooks.cli.exits import UsageError
from trainhooks.cli.finding import find_runs, folders_of, newest_run, runs_in, the_run
from trainhooks.store import open_store

IN_A_RUN = ["run.json", "attempts/000001.json", "manifests/0000000002-000001.json"]


@pytest.mark.parametrize("place", ["", "digits", "digits/cnn", "text/lm"])
def test_the_runs_below_a_place_are_found_each_with_its_own_objects(left: Left, place: str) -> None:
    found = find_runs(str(left.root / place))
    runs = [one for one in (left.older, left.newer, left.other) if one.is_relative_to(left.root / place)]
    assert [one.store.url for one in found] == [str(run) for run in runs]
    assert [one.below for one in found] == [str(run.relative_to(left.root / place)) for run in runs]
    for one, run in zip(found, runs, strict=True):
        assert one.run_id == run.name
        assert one.objects == {
            str(path.relative_to(run)): path.stat().st_size for path in run.rglob("*") if path.is_file()
        }


def test_a_run_is_found_at_its_own_place(left: Left) -> None:
    (found,) = find_runs(f"{left.older}/")
    assert (found.below, found.run_id, found.store.url) == ("", left.older.name, str(left.older))
    assert "run.json" in found.objects


@pytest.mark.parametrize("told_by", IN_A_RUN)
def test_each_kind_of_record_tells_of_a_run(told_by: str) -> None:
    assert folders_of([f"p/e/1/{told_by}", "p/e/2/ckpt/x/state.json", "p/e/3/attempts/notes.json"]) == {"p/e/1"}
    assert folders_of([told_by]) == {""}


def test_a_folder_above_runs_is_none_whatever_lies_in_it() -> None:
    """So that `rm` cannot take a project for a run."""
    assert folders_of(["run.json", "p/run.json", "p/e/run.json", "p/e/1/run.json", "p/f/2/run.json"]) == {
        "p/e/1",
        "p/f/2",
    }


@given(st.lists(st.sampled_from(["a", "b", "run.json", "attempts", "manifests", "000001.json", *IN_A_RUN]), max_size=6))
def test_no_run_is_inside_another(parts: list[str]) -> None:
    keys = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    found = folders_of(keys)
    assert not any(one != other and (other == "" or one.startswith(f"{other}/")) for one in found for other in found)


def test_the_newest_run_of_an_experiment_is_the_one_that_began_last(left: Left) -> None:
    assert newest_run(str(left.cnn)).run_id == left.newer.name
    assert newest_run(str(left.older)).run_id == left.older.name


def test_several_experiments_have_no_newest_run(left: Left) -> None:
    with pytest.raises(UsageError, match="has the runs of several experiments; name one of digits/cnn, text/lm"):
        newest_run(str(left.root))


def test_where_there_is_no_run_the_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"There is no run in {tmp_path}/gone."):
        find_runs(str(tmp_path / "gone"))
    assert runs_in(open_store(str(tmp_path))) == []


def test_a_run_has_to_be_named_by_its_own_folder(left: Left) -> None:
    with pytest.raises(UsageError, match=f"is not a run's own folder. Name one: {left.older}, {left.newer}"):
        the_run(str(left.cnn))
    with pytest.raises(UsageError, match="is not a run's own folder"):
        the_run(str(left.other.parent))
    assert the_run(str(left.older)).run_id == left.older.name
