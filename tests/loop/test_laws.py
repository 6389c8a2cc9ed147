"""The specialised loop and the loop that is read are one loop, whatever the table does."""

import warnings

from hypothesis import given

from tests.loop.tables import Program, programs


def run(program: Program, *, specialised: bool) -> tuple[object, ...]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = program.run(specialised=specialised)
    return (*seen, sorted(str(one.message) for one in caught))


@given(programs())
def test_the_specialised_loop_does_what_the_reference_loop_does(program: Program) -> None:
    """Keeps P66. Traces, contexts, states, weights, errors with their notes, and warnings are equal."""
    assert run(program, specialised=True) == run(program, specialised=False)


@given(programs())
def test_a_run_is_the_same_the_second_time(program: Program) -> None:
    """Keeps P12."""
    assert run(program, specialised=True) == run(program, specialised=True)
