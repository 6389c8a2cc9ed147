"""Batches as a pure function of a seed and a place, so that a run goes on anywhere in its data."""

from .arguments import check_batches
from .cursor import Cursor, SizedCursor
from .loading import SeededLoader, seeded_loader
from .subset import first
from .workers import shielded

__all__ = ["Cursor", "SeededLoader", "SizedCursor", "check_batches", "first", "seeded_loader", "shielded"]
