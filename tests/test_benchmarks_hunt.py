"""Instructions are counted where they stand, and say what lies between loops that train alike."""

from torch import nn

from benchmarks.counting import THE_PROGRAM, TORCH, instructions_of
from benchmarks.report import table_of_instructions
from benchmarks.tricks import instructions_of_loops
from trainhooks import supervised


def test_instructions_are_counted_where_they_stand() -> None:
    def twice() -> None:
        supervised(nn.functional.mse_loss)
        supervised(nn.functional.mse_loss)

    counted = instructions_of(lambda: supervised(nn.functional.mse_loss)), instructions_of(twice)
    place = "run/supervision.py: supervised"
    assert 0 < counted[0][place] * 2 == counted[1][place]
    assert counted[0][THE_PROGRAM] > 0
    assert TORCH not in counted[0]


def test_a_step_of_ours_has_fewer_instructions_than_one_by_hand_and_more_than_one_with_all_the_tricks() -> None:
    sums = {name: sum(one.values()) for name, one in instructions_of_loops().items()}
    assert sums["all the tricks"] < sums["guarded"] < sums["ours"] < sums["by hand"]
    table = table_of_instructions(instructions_of_loops()).splitlines()
    assert table[2].split("|")[2:6] == [f" {count:.0f} ".rjust(len(name) + 2) for name, count in sums.items()]
    assert "loop/reference.py: train_loop" in "".join(table)
