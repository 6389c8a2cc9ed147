"""What the failures of an object store mean: of which kind each is, and which setting helps."""

import errno
import os
import re
from typing import Literal, TypeAlias, final

from attrs import frozen

from trainhooks.errors import ObjectExistsError, ObjectMissingError, StorageError, StorageProblem

Kind: TypeAlias = Literal["s3", "gcs", "azure", "local", "memory"]
"""A kind of store."""

Act: TypeAlias = Literal["written to", "read from", "listed in", "removed from", "opened in"]
"""What was asked of a store."""

_OF_ERRNO: dict[int, StorageProblem] = {
    errno.ENOSPC: "space",
    errno.EDQUOT: "space",
    errno.EFBIG: "space",
    errno.EROFS: "read-only",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ENAMETOOLONG: "key",
    errno.ENOTDIR: "key",
    errno.EISDIR: "key",
}
_OF_STATUS: dict[str, StorageProblem] = {
    "301": "settings",
    "307": "settings",
    "400": "failed",
    "401": "credentials",
    "403": "permission",
    "405": "unsupported",
    "501": "unsupported",
    "507": "space",
}
_ERRNO = re.compile(r"os error (\d+)")
_STATUS = re.compile(r"(?:status code|error status|status):? (\d{3})", re.IGNORECASE)
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_BAD_CREDENTIALS = re.compile(
    r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|AuthenticationFailed|AuthFailure"
    r"|169\.254\.169\.254|latest/api/token|latest/meta-data|token request|credential|Account must be specified",
    re.IGNORECASE,
)
_BAD_SETTINGS = re.compile(r"builder error|Config error|redirect|failed to parse|invalid URL", re.IGNORECASE)

_SECRET = re.compile(r"(AWS|AZURE|GOOGLE)_\w*(KEY|SECRET|TOKEN|PASSWORD|SAS|SERVICE_ACCOUNT)\w*")
_PUBLIC = re.compile(r"\w*(ACCOUNT_NAME|KEY_ID)")

_CREDENTIALS: dict[Kind, str] = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if they are temporary); the files "
    "in ~/.aws are not read.",
    "gcs": "Set GOOGLE_APPLICATION_CREDENTIALS to the file of an account that may use the bucket.",
    "azure": "Set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN.",
}
_ENDPOINT: dict[Kind, str] = {
    "s3": "AWS_ENDPOINT_URL (unset for Amazon's own) and AWS_REGION",
    "gcs": "the network, and GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_ENDPOINT (unset for Azure's own)",
}
_SCHEMES: dict[Kind, str] = {"s3": "s3://", "gcs": "gs://", "azure": "az://", "local": "", "memory": "memory://"}


@final
@frozen
class Where:
    """What failures name of a store."""

    kind: Kind
    bucket: str
    """Or the folder, for a local one."""

    @property
    def url(self) -> str:
        return _SCHEMES[self.kind] + self.bucket

    def failure(self, error: Exception, act: Act, what: str, url: str) -> StorageError:
        """The error to raise for one of obstore or of the system.

        Args:
            error: As it came.
            act: What was to be done.
            what: The object, or else the folder.
            url: The part of the store that was asked.
        """
        problem = problem_of(error, act)
        if problem == "missing":
            return ObjectMissingError(f"There is no {what} in {url}.")
        if problem == "exists":
            return ObjectExistsError(f"There is a {what} in {url} already.")
        if problem == "bucket" and self.kind in ("local", "memory"):
            problem = "failed"
        advice = self._advice(problem)
        return StorageError(
            f"{what} could not be {act} {url}{f': {advice}' if advice else '.'} ({detail(error)})", problem
        )

    def _advice(self, problem: StorageProblem) -> str:
        credentials, endpoint = _CREDENTIALS.get(self.kind, ""), _ENDPOINT.get(self.kind, "the detail")
        match problem:
            case "bucket":
                return f"there is no bucket {self.bucket!r}. Create it, or name another: CloudDestination(bucket=...)."
            case "credentials":
                return f"the credentials are missing, wrong or expired. {credentials}"
            case "permission" if self.kind == "local":
                return "the permissions of the folder forbid it. Change them, or choose another: Experiment(root=...)."
            case "permission":
                return (
                    f"the credentials do not permit it. Let them read, write, list and remove objects of "
                    f"{self.bucket!r}, or use others. {credentials}"
                )
            case "settings":
                return f"the settings of the client do not fit. See {endpoint}."
            case "space":
                return "the disk or the quota is full. Make room, or choose another place: Experiment(root=...)."
            case "read-only":
                return "the file system is read-only. Choose another folder: Experiment(root=...)."
            case "unavailable":
                return f"after all retries there was no answer that could be used. See {endpoint}."
            case "unsupported":
                return "the store cannot do it. It must write objects on the condition that they are not there yet."
            case "key":
                return "no object can have this key."
            case _:
                return ""


def problem_of(error: Exception, act: Act) -> StorageProblem:
    """What stands in the way, after an exception of obstore or of the system."""
    from obstore import exceptions

    text = str(error)
    match error:
        case FileNotFoundError():
            absent = act in ("written to", "listed in") or _NO_BUCKET.search(text) is not None
            return "bucket" if absent else "missing"
        case NotImplementedError() | exceptions.NotSupportedError():
            return "unsupported"
        case OSError(errno=int() as number):
            return _OF_ERRNO.get(number, "failed")
        case exceptions.AlreadyExistsError():
            return "exists"
        case exceptions.UnauthenticatedError():
            return "credentials"
        case exceptions.PermissionDeniedError():
            return "credentials" if _BAD_CREDENTIALS.search(text) else "permission"
        case exceptions.UnknownConfigurationKeyError():
            return "settings"
        case exceptions.InvalidPathError() | ValueError():
            return "key"
        case _:
            return _problem_in(text)


def _problem_in(text: str) -> StorageProblem:
    """The kinds that obstore tells apart by the text of its errors alone."""
    from_the_system = _ERRNO.search(text)
    if from_the_system and "Error performing" not in text:
        return _OF_ERRNO.get(int(from_the_system[1]), "failed")
    if _NO_BUCKET.search(text):
        return "bucket"
    if _BAD_CREDENTIALS.search(text):
        return "credentials"
    if status := _STATUS.search(text):
        return _OF_STATUS.get(status[1], "unavailable")
    if _BAD_SETTINGS.search(text):
        return "settings"
    return "unavailable" if "Error performing" in text or "HTTP error" in text else "failed"


def detail(error: Exception) -> str:
    """What an error says, in short and without secrets."""
    text = str(error).partition("\n\nDebug source")[0].strip()
    for name, value in os.environ.items():
        if _SECRET.fullmatch(name) and not _PUBLIC.fullmatch(name) and len(value) > 3:
            text = text.replace(value, "***")
    return text if len(text) <= 400 else f"{text[:400]}..."
