"""Where results go: destinations, keys, and stores of objects on disks and in clouds."""

from .destination import CloudDestination, Destination, PartialDestination
from .experiment import Experiment, resolve_destination
from .hyperparams import stored
from .layout import data_prefix, manifest_key, new_run_id, parse_manifest_key, slug
from .objects import Data, ObjectInfo, Store
from .opening import Client, open_store
from .probing import probe

__all__ = [
    "Client",
    "CloudDestination",
    "Data",
    "Destination",
    "Experiment",
    "ObjectInfo",
    "PartialDestination",
    "Store",
    "data_prefix",
    "manifest_key",
    "new_run_id",
    "open_store",
    "parse_manifest_key",
    "probe",
    "resolve_destination",
    "slug",
    "stored",
]
