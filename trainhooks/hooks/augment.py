"""Hooks that mix the items of a batch with one another, and their targets alike."""

import math
import random
from collections.abc import Callable
from typing import TypeAlias, cast

from torch import Tensor
from torch.nn.functional import one_hot

from trainhooks.core import BatchBegin, HookSet, factory
from trainhooks.errors import HookDefinitionError, shown

Mix: TypeAlias = Callable[[Tensor, int, float, random.Random], tuple[Tensor, float]]
"""Takes inputs, the places to roll them by, the share to keep and a stream; gives mixed inputs and the share kept."""


@factory
def mixup(alpha: float = 0.2, *, num_classes: int, probability: float = 1.0) -> HookSet[tuple[Tensor, Tensor]]:
    """Mix every item of a batch `(x, y)` with another one, and their targets in the same proportion.

    `x` becomes `share * x + (1 - share) * other`, one share for the batch, from Beta(`alpha`, `alpha`); the others are
    the batch rolled by a random number of places, so no item is mixed with itself unless it is alone. `y`, class
    indices of shape (n,) or probabilities of shape (n, num_classes), becomes probabilities of shape (n, num_classes),
    of the type of `x`, also in batches that are not mixed. Both are new tensors. `cross_entropy` takes such targets.

    Args:
        alpha: Both parameters of the Beta distribution, above 0; the smaller, the closer to one of two items.
        num_classes: How many classes there are.
        probability: With which a batch is mixed, from 0 to 1.

    Raises:
        HookDefinitionError: if an argument is none of these; in the run, if a batch does not have this form.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018. Beta comes from Python's `betavariate`, a
    ratio of two Gammas, drawn from a stream of its own that `ctx.generator("mixup")` seeds.

    Example:
        >>> mixup(0.2, num_classes=10)
        mixup(num_classes=10)
    """
    return _mixing("mixup", _blended, alpha, num_classes, probability)


@factory
def cutmix(alpha: float = 1.0, *, num_classes: int, probability: float = 1.0) -> HookSet[tuple[Tensor, Tensor]]:
    """Paste a box of another image into every image of a batch `(x, y)`, and mix their targets by area.

    `x` has shape (n, ..., height, width). The box is the same for the whole batch: of the image's proportions, its
    area a share of the image from Beta(`alpha`, `alpha`), its centre anywhere, cut off at the edges. The others are
    the batch rolled by a random number of places. `y` becomes probabilities as with `mixup`, in the proportion of the
    area that was pasted indeed. Both are new tensors.

    Args:
        alpha: Both parameters of the Beta distribution, above 0; 1 makes every area as likely.
        num_classes: How many classes there are.
        probability: With which a batch is mixed, from 0 to 1.

    Raises:
        HookDefinitionError: if an argument is none of these; in the run, if a batch does not have this form.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019.
    Beta as with `mixup`, from `ctx.generator("cutmix")`.

    Example:
        >>> cutmix(1.0, num_classes=10, probability=0.5)
        cutmix(num_classes=10, probability=0.5)
    """
    return _mixing("cutmix", _pasted, alpha, num_classes, probability)


def _mixing(name: str, mix: Mix, alpha: float, num_classes: int, probability: float) -> HookSet[tuple[Tensor, Tensor]]:
    _check(name, alpha, num_classes, probability)

    def transform_batch(ctx: BatchBegin[tuple[Tensor, Tensor]], batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = _checked(name, batch, num_classes)
        targets = (one_hot(y.long(), num_classes) if y.dim() == 1 else y).to(x.dtype)
        stream = random.Random(ctx.generator(name).initial_seed())
        if stream.random() < probability:
            places = stream.randrange(1, len(x)) if len(x) > 1 else 0
            x, share = mix(x, places, stream.betavariate(alpha, alpha), stream)
            targets = share * targets + (1.0 - share) * targets.roll(places, 0)
        return _like(batch, x, targets)

    return HookSet(name=name, transform_batch=transform_batch)


def _blended(x: Tensor, places: int, share: float, stream: random.Random) -> tuple[Tensor, float]:
    return share * x + (1.0 - share) * x.roll(places, 0), share


def _pasted(x: Tensor, places: int, share: float, stream: random.Random) -> tuple[Tensor, float]:
    if x.dim() < 3:
        raise HookDefinitionError(
            f"cutmix takes images of shape (n, ..., height, width), got x of shape {tuple(x.shape)}."
        )
    height, width = x.shape[-2:]
    side = math.sqrt(1.0 - share)
    top, bottom = _extent(height, side, stream)
    left, right = _extent(width, side, stream)
    mixed = x.clone()
    mixed[..., top:bottom, left:right] = x[..., top:bottom, left:right].roll(places, 0)
    return mixed, 1.0 - (bottom - top) * (right - left) / (height * width)


def _extent(size: int, side: float, stream: random.Random) -> tuple[int, int]:
    """Where a side of the box begins and ends: around a random centre, cut off at the edges."""
    length, centre = int(size * side), stream.randrange(size)
    return max(centre - length // 2, 0), min(centre + length // 2, size)


def _like(batch: object, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The pair in the form that the batch had: a list, or a tuple."""
    pair: object = [x, targets] if isinstance(batch, list) else (x, targets)
    return cast("tuple[Tensor, Tensor]", pair)


def _checked(name: str, batch: object, num_classes: int) -> tuple[Tensor, Tensor]:
    parts = cast("tuple[object, ...]", batch) if isinstance(batch, tuple | list) else ()
    x, y = parts if len(parts) == 2 else (None, None)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        got = shown(cast("object", batch))  # type: ignore[redundant-cast]  # not for pyright
        raise HookDefinitionError(f"{name} takes batches of pairs of tensors (x, y), got {got}.")
    if not x.is_floating_point():
        raise HookDefinitionError(f"{name} mixes inputs of a floating type, got x of {x.dtype}; convert it first.")
    indices = y.dim() == 1 and not y.is_floating_point()
    probabilities = y.dim() == 2 and y.shape[1] == num_classes and y.is_floating_point()
    if not x.shape or not (indices or probabilities) or len(x) != len(y):
        raise HookDefinitionError(
            f"{name} takes y as class indices of shape (n,) or probabilities of shape (n, {num_classes}), with as many "
            f"items as x; got y of {y.dtype} and shape {tuple(y.shape)}, x of shape {tuple(x.shape)}."
        )
    return x, y


def _check(name: str, alpha: object, num_classes: object, probability: object) -> None:
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0.0 < alpha < math.inf:
        raise HookDefinitionError(f"{name} takes alpha as a finite number above 0, got {shown(alpha)}.")
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1:
        raise HookDefinitionError(
            f"{name} takes num_classes, how many there are, as a whole number, got {shown(num_classes)}."
        )
    if not isinstance(probability, int | float) or isinstance(probability, bool) or not 0.0 <= probability <= 1.0:
        raise HookDefinitionError(f"{name} takes probability as a number from 0 to 1, got {shown(probability)}.")
