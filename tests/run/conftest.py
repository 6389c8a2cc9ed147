"""Servers for runs whose experiments are on them."""

from tests.servers import azure, azurite, clean_environment, gcs, s3, stand_ins

__all__ = ["azure", "azurite", "clean_environment", "gcs", "s3", "stand_ins"]
