"""Servers for hooks that write to them."""

from tests.servers import clean_environment, s3, stand_ins

__all__ = ["clean_environment", "s3", "stand_ins"]
