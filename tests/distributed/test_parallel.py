"""How torch's engines are put around a model, and when they reduce, counted on real ranks."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from tests.ranks import on_ranks
from trainhooks import RunDefinitionError
from trainhooks.distributed import Parallel, ddp, fsdp, join, rank_here

CPU = torch.device("cpu")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.linear(x)).relu() + x


def model_of_blocks() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(Block(), nn.Linear(3, 3), Block(), nn.Linear(3, 1))


def batch_of(rank: int, number: int) -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(100 * rank + number))


def whole(value: Tensor) -> Tensor:
    return cast("Any", value).full_tensor() if isinstance(value, DTensor) else value


def numbers(value: Tensor) -> list[float]:
    return cast("list[float]", value.flatten().tolist())


def window(parallel: Parallel, batches: int) -> tuple[list[bool], int, list[list[float]]]:
    """What the engine says of each batch, how many times it reduced a module's gradients, and these."""
    ranks = join(rank_here(), CPU)
    model = model_of_blocks()
    wrapped = parallel.wrap(model, ranks.rank, CPU)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        said: list[bool] = []
        for number in range(batches):
            said.append(parallel.reduce_in_backward(wrapped, number == batches - 1))
            cast("Tensor", wrapped(batch_of(ranks.rank.index, number)).sum()).backward()
    counts: dict[str, int] = {one.key: one.count for one in cast("Any", seen).key_averages()}
    found = [numbers(whole(cast("Tensor", one.grad))) for one in model.parameters()]
    reductions = counts.get("c10d::allreduce_", 0) + counts.get("c10d::_reduce_scatter_base_", 0)
    return said, reductions, found


def mean_gradients(world: int, batches: int) -> list[list[float]]:
    model = model_of_blocks()
    for rank in range(world):
        for number in range(batches):
            (cast("Tensor", model(batch_of(rank, number)).sum()) / world).backward()
    return [numbers(cast("Tensor", one.grad)) for one in model.parameters()]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize(
    ("parallel", "said", "reductions"),
    [
        (ddp(), [False, False, False, True], 1),
        (ddp(reduce_every="batch"), [True] * 4, 4),
        (fsdp(layers=Block), [False, False, False, True], 3),  # two blocks, and what is left
        (fsdp(layers=Block, reduce_every="batch"), [True] * 4, 12),
        (fsdp(), [False, False, False, True], 1),
    ],
    ids=["ddp", "ddp, each batch", "fsdp of blocks", "fsdp of blocks, each batch", "fsdp"],
)
def test_a_window_is_reduced_as_often_as_its_policy_says_to_the_mean(
    world: int, parallel: Parallel, said: list[bool], reductions: int
) -> None:
    expected = mean_gradients(world, 4)
    for rank in on_ranks(world, window, parallel, 4):
        assert rank[:2] == (said, reductions)
        for found, right in zip(rank[2], expected, strict=True):
            assert found == pytest.approx(right, abs=1e-5)


def two_windows(parallel: Parallel) -> list[list[bool]]:
    ranks = join(rank_here(), CPU)
    wrapped = parallel.wrap(model_of_blocks(), ranks.rank, CPU)
    return [[parallel.reduce_in_backward(wrapped, last) for last in (False, True)] for _ in range(2)]


@pytest.mark.parametrize("parallel", [ddp(), fsdp()], ids=["ddp", "fsdp"])
def test_each_window_begins_without_a_reduction(parallel: Parallel) -> None:
    assert on_ranks(2, two_windows, parallel) == [[[False, True], [False, True]]] * 2


def wrapped_by_ddp(**options: Any) -> dict[str, object]:
    ranks = join(rank_here(), CPU)
    model = model_of_blocks()
    before = list(model.parameters())
    wrapped = ddp(**options).wrap(model, ranks.rank, CPU)
    assert isinstance(wrapped, DistributedDataParallel)
    return {
        "around the model": wrapped.module is model,
        "same parameters": all(one is other for one, other in zip(before, model.parameters(), strict=True)),
        **{name: getattr(wrapped, name) for name in options if hasattr(wrapped, name)},
    }


def test_ddp_wraps_the_model_and_keeps_its_parameters() -> None:
    assert on_ranks(2, wrapped_by_ddp) == [{"around the model": True, "same parameters": True}] * 2


@pytest.mark.parametrize(
    "options", [{"find_unused_parameters": True, "gradient_as_bucket_view": True}, {"static_graph": True}]
)
def test_options_reach_torch(options: dict[str, bool]) -> None:
    for found in on_ranks(2, lambda: wrapped_by_ddp(**options)):
        assert found == {"around the model": True, "same parameters": True, **options}


def has_one_output(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.out_features == 1


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return cast("list[tuple[str, nn.Module]]", [*cast("Any", model).named_modules()])


def sharded(layers: Any) -> tuple[bool, list[str], list[bool], list[int]]:
    ranks = join(rank_here(), CPU)
    model = model_of_blocks()
    wrapped = fsdp(layers=layers).wrap(model, ranks.rank, CPU)
    return (
        wrapped is model,
        [name for name, module in named_modules(model) if isinstance(module, FSDPModule)],
        [isinstance(one, DTensor) for one in model.parameters()],
        [cast("DTensor", one).to_local().numel() for one in model.parameters()],
    )


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ((), [""]),
        (Block, ["", "0", "2"]),
        ((Block, nn.Linear), ["", "0", "0.linear", "1", "2", "2.linear", "3"]),
        (has_one_output, ["", "3"]),
        (nn.Sequential, [""]),  # the whole is a unit anyway
    ],
    ids=["nothing", "a class", "two classes", "a function", "the model's own class"],
)
def test_fsdp_shards_the_layers_it_is_told_and_the_whole(layers: Any, names: list[str]) -> None:
    first, second = on_ranks(2, sharded, layers)
    assert first[:3] == second[:3] == (True, names, [True] * 8)
    assert first[3] == [6, 2, 6, 2, 6, 2, 3, 1]  # of 3 rows two; of 1 row and of 1 number all
    assert second[3] == [3, 1, 3, 1, 3, 1, 0, 0]


def dtypes_in_forward(**options: Any) -> list[str]:
    ranks = join(rank_here(), CPU)
    model = model_of_blocks()
    seen: list[str] = []

    def note(module: nn.Module, given: Any, output: Tensor) -> None:
        seen.append(str(output.dtype))

    model[0].linear.register_forward_hook(note)  # type: ignore[union-attr]  # a Sequential gives any module
    wrapped = fsdp(layers=Block, **options).wrap(model, ranks.rank, CPU)
    wrapped(batch_of(ranks.rank.index, 0))
    return [*seen, *sorted({str(one.dtype) for one in model.parameters()})]


def test_fsdp_computes_in_the_type_it_is_told_and_keeps_the_parameters_own() -> None:
    assert on_ranks(2, dtypes_in_forward) == [["torch.float32", "torch.float32"]] * 2
    mixed = on_ranks(2, lambda: dtypes_in_forward(param_dtype=torch.bfloat16, reduce_dtype=torch.float32))
    assert mixed == [["torch.bfloat16", "torch.float32"]] * 2


@pytest.mark.parametrize("make", [ddp, fsdp])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"stop": "some"}, "takes stop as 'any', 'all', 'rank0', got 'some'"),
        ({"uneven": None}, "takes uneven as 'join', 'truncate', 'raise', got None"),
        ({"reduce_every": "batches"}, "takes reduce_every as 'update', 'batch', got 'batches'"),
        ({"timeout": 0}, "takes timeout as a positive number of seconds or None, got 0"),
        ({"timeout": "60"}, "takes timeout as a positive number of seconds or None, got '60'"),
        ({"stop": ["any"]}, "takes stop as 'any', 'all', 'rank0', got ['any']"),
    ],
)
def test_wrong_words_are_refused_with_those_that_are_right(make: Any, words: dict[str, Any], said: str) -> None:
    with pytest.raises(RunDefinitionError) as caught:
        make(**words)
    assert str(caught.value) == f"{make.__name__} {said}."


def test_layers_that_are_neither_classes_nor_a_function_are_refused() -> None:
    with pytest.raises(
        RunDefinitionError, match="fsdp takes layers as a class of modules, several, or a function, got 3"
    ):
        fsdp(layers=cast("Any", 3))


def test_what_is_given_is_what_the_loop_reads() -> None:
    for made, is_sharded in ((ddp, False), (fsdp, True)):
        one: Parallel = made(stop="all", uneven="raise", timeout=5.0)
        assert (one.stop, one.uneven, one.timeout, one.sharded) == ("all", "raise", 5.0, is_sharded)
        other: Parallel = made()
        assert (other.stop, other.uneven, other.timeout) == ("any", "join", None)
