"""Where the global random streams stand."""

import pickle
import random
from typing import Any

import numpy as np
import torch


def global_streams() -> bytes:
    """The states of the streams of python, numpy and torch, as one value."""
    of_numpy: Any = np.random.get_state(legacy=False)
    return pickle.dumps((random.getstate(), of_numpy, torch.get_rng_state().numpy().tobytes()))
