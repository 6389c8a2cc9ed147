"""What a server in a cloud may do wrong, and the error that says so: one that names the setting to change."""

import time
from collections.abc import Callable, Mapping

import pytest

from tests.servers import s3_bucket
from trainhooks.errors import ObjectExistsError, StorageError, StorageProblem
from trainhooks.store import Client, Store, open_store, probe

from .faults import Answer, Faults

QUICK = Client(timeout=0.5, connect_timeout=0.5, retries=2, retry_timeout=5, first_wait=0.01)
DENIED = "<Error><Code>AccessDenied</Code></Error>"
UNKNOWN_ID = "<Error><Code>InvalidAccessKeyId</Code></Error>"
NO_BUCKET = "<Error><Code>NoSuchBucket</Code></Error>"

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Store]:
    """A store of a bucket at a port."""

    def opened(port: int) -> Store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
        return open_store("s3://bucket/run", client=QUICK)

    return opened


@pytest.mark.parametrize(
    ("answer", "kind", "tries", "sentence"),
    [
        (401, "credentials", 1, "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ((403, UNKNOWN_ID), "credentials", 1, "the credentials are missing, wrong or expired"),
        ((403, DENIED), "permission", 1, "Let them read, write, list and remove objects of 'bucket'"),
        ((404, NO_BUCKET), "bucket", 1, "there is no bucket 'bucket'. Create it, or name another"),
        (404, "bucket", 1, "CloudDestination(bucket=...)"),
        (400, "failed", 1, "run.json could not be written to s3://bucket/run. ("),
        (301, "settings", 1, "AWS_REGION"),
        (500, "unavailable", 3, "after all retries there was no answer that could be used. See AWS_ENDPOINT_URL"),
        (503, "unavailable", 3, "AWS_ENDPOINT_URL"),
        (429, "unavailable", 3, "AWS_ENDPOINT_URL"),
        (501, "unsupported", 3, "It must write objects on the condition that they are not there yet"),
        (507, "space", 3, "the disk or the quota is full"),
        ("cut", "unavailable", 3, "AWS_ENDPOINT_URL"),
        ("stall", "unavailable", 3, "AWS_ENDPOINT_URL"),
    ],
)
def test_a_write_that_fails_says_what_to_change(
    at: Callable[[int], Store], answer: Answer, kind: StorageProblem, tries: int, sentence: str
) -> None:
    """Keeps P69."""
    with Faults([answer]).serving() as faults, pytest.raises(StorageError) as raised:
        at(faults.port).put("run.json", b"{}")
    assert (raised.value.kind, faults.asked) == (kind, ["PUT"] * tries)
    assert str(raised.value).startswith("run.json could not be written to s3://bucket/run")
    assert sentence in str(raised.value)


def test_nobody_at_the_endpoint_is_unavailable(at: Callable[[int], Store]) -> None:
    with Faults([200]).serving() as faults:
        pass
    with pytest.raises(StorageError, match=r"the detail|AWS_ENDPOINT_URL") as raised:
        at(faults.port).list()
    assert raised.value.kind == "unavailable"


@pytest.mark.parametrize("wrong", [500, 503, 429, "cut", "stall"])
def test_what_goes_wrong_twice_is_tried_again(at: Callable[[int], Store], wrong: Answer) -> None:
    with Faults([wrong, wrong, 200]).serving() as faults:
        at(faults.port).put("run.json", b"{}")
    assert faults.asked == ["PUT"] * 3


def test_a_read_from_a_bucket_that_is_not_there_is_no_missing_object(at: Callable[[int], Store]) -> None:
    with Faults([(404, NO_BUCKET)]).serving() as faults:
        store = at(faults.port)
        for ask in (lambda: store.get("run.json"), store.list):
            with pytest.raises(StorageError, match="there is no bucket 'bucket'") as raised:
                ask()
            assert raised.value.kind == "bucket"


@pytest.mark.parametrize("whole", [True, False])
def test_a_body_that_breaks_off_is_not_taken_for_the_whole(at: Callable[[int], Store], whole: bool) -> None:
    with Faults(["short", "cut"]).serving() as faults:
        store = at(faults.port)
        with pytest.raises(
            StorageError, match=r"^ckpt/model could not be read from s3://bucket/run: after all"
        ) as raised:
            _ = store.get("ckpt/model") if whole else list(store.stream("ckpt/model"))
    assert (raised.value.kind, faults.asked) == ("unavailable", ["GET"] * 3)


@pytest.mark.server
@pytest.mark.parametrize("create", [True, False])
def test_a_lost_reply_is_not_taken_for_another_writer(
    stand_ins: Mapping[str, int], monkeypatch: pytest.MonkeyPatch, create: bool
) -> None:
    """Keeps P69: the object is written, its reply is lost, and the repeated request finds the object there."""
    bucket = s3_bucket(stand_ins["s3"], monkeypatch)
    with Faults(["lose"], behind=stand_ins["s3"]).serving() as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{faults.port}")
        store = open_store(f"s3://{bucket}", client=QUICK)
        store.put("attempts/1.json", b"mine", create=create)
        assert faults.asked == (["PUT", "PUT", "GET"] if create else ["PUT", "PUT"])
        assert bytes(store.get("attempts/1.json")) == b"mine"
        with pytest.raises(ObjectExistsError):
            store.put("attempts/1.json", b"theirs", create=True)


@pytest.mark.parametrize("refusal", [409, 412])
def test_a_refusal_of_what_is_not_there_is_tried_again(at: Callable[[int], Store], refusal: int) -> None:
    """S3 refuses one of two writers that come together with 409; the other may still fail."""
    with Faults([refusal, 404, refusal, 404, 200]).serving() as faults:
        at(faults.port).put("attempts/1.json", b"mine", create=True)
    assert faults.asked == ["PUT", "GET", "PUT", "GET", "PUT"]


def test_a_refusal_without_end_is_an_error(at: Callable[[int], Store]) -> None:
    with Faults([409, 404] * 5).serving() as faults, pytest.raises(StorageError) as raised:
        at(faults.port).put("attempts/1.json", b"mine", create=True)
    message = "attempts/1.json could not be written to s3://bucket/run: other writers were always first."
    assert str(raised.value) == message
    assert raised.value.kind == "unavailable"
    assert faults.asked == ["PUT", "GET"] * 5


@pytest.mark.server
def test_a_store_that_ignores_conditions_is_warned_of(careless: str) -> None:
    store = open_store(f"s3://{careless}/run")
    with pytest.warns(RuntimeWarning, match=rf"^s3://{careless}/run ignores the condition"):
        probe(store)
    assert store.list() == []


@pytest.mark.parametrize(
    ("answer", "kind"), [((403, DENIED), "permission"), (404, "bucket"), (501, "unsupported"), (500, "unavailable")]
)
def test_a_probe_finds_out_before_training(at: Callable[[int], Store], answer: Answer, kind: StorageProblem) -> None:
    """Keeps P69."""
    with Faults([answer]).serving() as faults, pytest.raises(StorageError) as raised:
        probe(at(faults.port))
    assert raised.value.kind == kind


def test_no_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any, the client asks the machine it runs on, which may be none of Amazon's."""
    with Faults([403]).serving() as machine:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{machine.port}")
        with pytest.raises(StorageError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as raised:
            open_store("s3://bucket", client=QUICK).put("run.json", b"{}")
    assert raised.value.kind == "credentials"
    assert machine.asked


def test_no_account_is_named() -> None:
    with pytest.raises(StorageError, match="Set AZURE_STORAGE_ACCOUNT_NAME") as raised:
        open_store("az://container")
    assert raised.value.kind == "credentials"


def test_a_setting_that_cannot_be_read_is_refused_when_the_store_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "soon")
    with pytest.raises(StorageError, match='failed to parse "soon"') as raised:
        open_store("s3://bucket")
    assert raised.value.kind == "settings"


def test_the_environment_is_more_patient_than_the_default(
    at: Callable[[int], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "1.5 seconds")
    with Faults(["stall"]).serving() as faults:
        start = time.monotonic()
        with pytest.raises(StorageError):
            open_with_one_try(at, faults.port).put("run.json", b"{}")
        assert time.monotonic() - start > 1.2


def open_with_one_try(at: Callable[[int], Store], port: int) -> Store:
    at(port)
    return open_store("s3://bucket", client=Client(timeout=0.2, retries=0))


def test_no_secret_is_in_an_error(at: Callable[[int], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    with Faults([(403, "your key a-secret-key is wrong, and so is temporary-token")]).serving() as faults:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary-token")
        store = at(faults.port)
        with pytest.raises(StorageError) as raised:
            store.put("run.json", b"{}")
    assert "your key *** is wrong, and so is ***" in str(raised.value)
    assert raised.value.__suppress_context__
    assert "secret" not in repr(store) + store.url


def test_no_signature_is_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Faults([500]).serving() as faults:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{faults.port}")
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "?sig=c2VjcmV0%3D&sv=2026")
        store = open_store("az://container", client=QUICK)
        for ask in (store.list, lambda: store.get("run.json")):
            with pytest.raises(StorageError) as raised:
                ask()
            assert "c2VjcmV0" not in str(raised.value)
