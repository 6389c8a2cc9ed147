"""Several processes: that race for one object, that are forked, that get a store in a pickle, that only import."""

import pickle
import subprocess
import sys

import pytest

from trainhooks.store import Store, open_store

from .conftest import ON_SERVERS


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


RACE = """
import os, sys, time
from trainhooks.errors import ObjectExistsError
from trainhooks.store import open_store
store = open_store(sys.argv[1])
store.list()
print("ready", flush=True)
sys.stdin.readline()
wins = 0
for number in range(40):
    try:
        store.put(f"manifests/{number}.json", f"{sys.argv[2]}-{os.urandom(8).hex()}".encode(), create=True)
        wins += 1
    except ObjectExistsError:
        pass
print(wins, flush=True)
"""


def racing(url: str, name: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", RACE, url, name], stdin=pipe, stdout=pipe, text=True)


@pytest.mark.parametrize("url", ["local", *ON_SERVERS], indirect=True)
def test_of_processes_that_create_one_object_one_wins(url: str) -> None:
    """Keeps P69."""
    racers = {name: racing(url, name) for name in ("one", "two")}
    for racer in racers.values():
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers.values():
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    wins = {name: int(racer.communicate()[0]) for name, racer in racers.items()}
    assert sum(wins.values()) == 40
    store = open_store(url)
    winners = [bytes(store.get(one.key)).decode().partition("-")[0] for one in store.list("manifests")]
    assert {name: winners.count(name) for name in wins} == wins


FORKED = """
import os, signal, sys
from trainhooks.errors import StorageError
from trainhooks.store import open_store
store = open_store(sys.argv[1])
used = sys.argv[2] == "used"
if used:
    store.put("a", b"parent")
child = os.fork()
if not child:
    signal.alarm(10)
    for each in (store, open_store(sys.argv[1] + "/other")):
        for act in (lambda: each.put("b", b""), lambda: each.get("a"), lambda: next(each.stream("a")),
                    each.list, lambda: each.head("a"), lambda: each.delete(["a"])):
            try:
                act()
            except StorageError as error:
                print(error.kind, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
if used:
    print(bytes(store.get("a")).decode())
"""


@pytest.mark.parametrize("url", ["local", pytest.param("s3", marks=pytest.mark.server)], indirect=True)
def test_a_forked_process_gets_an_error_and_no_hang(url: str) -> None:
    """A child of a process that has used obstore would wait for ever, for its threads are not in the child."""
    asked = run(FORKED, url, "used")
    assert asked.stdout.split() == ["forked"] * 12 + ["0", "parent"], asked.stderr


def test_a_forked_process_is_told_what_to_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("runs")
    program = (
        "import os, sys; from trainhooks.store import open_store; store = open_store(sys.argv[1]); store.list()\n"
        "if not os.fork(): store.put('run.json', b'')\n"
        "else: os.wait()"
    )
    asked = run(program, str(folder))
    assert asked.stderr.splitlines()[-1] == (
        f"trainhooks.errors.StorageError: run.json could not be written to {folder}: this process was forked from one "
        f"that had used a store. Use stores in that one alone, or start this one by 'spawn'."
    )


def test_a_process_that_is_forked_before_any_use_may_use_a_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("runs"))
    asked = run(FORKED, folder, "not")
    assert asked.stdout.split() == ["missing", "missing", "missing"] * 2 + ["0"], asked.stderr


def test_a_store_is_not_pickled(store: Store) -> None:
    """Obstore's own pickles hold the secret key as it is."""
    with pytest.raises(TypeError, match="A store may hold secrets, so it is not pickled"):
        pickle.dumps(store)


def test_importing_the_package_does_not_import_obstore() -> None:
    program = "import sys, trainhooks; print('obstore' in sys.modules)"
    asked = run(program)
    assert asked.stdout == "False\n"
