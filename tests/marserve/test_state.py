"""What is kept of a server, and what another makes of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marserve.archive import read_archive
from marserve.errors import MarserveError
from marserve.failures import Failure
from marserve.management import Version, Worker
from marserve.state import Keeper, Kept, Plan, State, StateFile, digest, plan
from tests.export.models import pack_red_or_blue

SETTINGS = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "maxBatchDelay": 1, "responseTimeout": 120}
SETTINGS |= {"startupTimeout": 120}
PLAIN = {("red_or_blue", "1.0"): SETTINGS, ("foreign", "0.1"): SETTINGS}


@pytest.fixture
def store(archive: Path, foreign: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(archive, folder / "first.mar")
    shutil.copy(foreign, folder / "foreign.mar")
    return folder


@pytest.fixture
def file(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateFile:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return StateFile(8080, store)


FIRST = Version("red_or_blue", "1.0", "first.mar", True, SETTINGS, (Worker(1, "READY"),), 0)
FOREIGN = Version("foreign", "0.1", "foreign.mar", True, SETTINGS, (Worker(2, "READY"),), 0)


def come_back(store: Path, file: StateFile, *served: Version) -> Plan:
    """A server that served these ends; what the next one serves."""
    Keeper(file, plan(store, [], file.read()), PLAIN).keep(served)
    return plan(store, [], file.read())


def names(found: Plan) -> list[str]:
    return [f"{archive.name} {archive.version}" for archive in found.archives]


def test_without_a_change_nothing_is_said(store: Path, file: StateFile) -> None:
    assert names(plan(store, [], file.read())) == ["red_or_blue 1.0", "foreign 0.1"]
    found = come_back(store, file, FIRST, FOREIGN)
    assert (sorted(names(found)), found.said) == (["foreign 0.1", "red_or_blue 1.0"], [])
    assert not any(found.settings.values())
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


def test_scaled(store: Path, file: StateFile) -> None:
    found = come_back(store, file, replace(FIRST, settings=SETTINGS | {"minWorkers": 3, "maxWorkers": 4}), FOREIGN)
    assert found.settings["red_or_blue", "1.0"] == {"minWorkers": 3, "maxWorkers": 4}
    assert found.said == ["red_or_blue 1.0 with minWorkers 3, maxWorkers 4"]


def test_scaled_to_none(store: Path, file: StateFile) -> None:
    none = replace(FIRST, settings=SETTINGS | {"minWorkers": 0, "maxWorkers": 0}, workers=())
    assert come_back(store, file, none, FOREIGN).settings["red_or_blue", "1.0"] == {"minWorkers": 0, "maxWorkers": 0}


def test_unregistered_for_good(store: Path, file: StateFile) -> None:
    for _ in range(2):
        found = come_back(store, file, FIRST)
        assert (names(found), found.said) == (["red_or_blue 1.0"], ["without foreign.mar"])
    assert sorted(names(plan(store, [], None))) == ["foreign 0.1", "red_or_blue 1.0"]


def test_all_unregistered(store: Path, file: StateFile) -> None:
    with pytest.raises(MarserveError, match=r"every model of .* was unregistered: --fresh serves them all again"):
        come_back(store, file)


def test_registered_under_another_name(store: Path, file: StateFile) -> None:
    other = replace(FIRST, model="other")
    found = come_back(store, file, FOREIGN, other)
    assert sorted(names(found)) == ["foreign 0.1", "other 1.0"]
    assert found.said == ["other 1.0 from first.mar with what it was registered with"]
    assert found.settings["other", "1.0"] == SETTINGS


def test_another_version_as_the_default(store: Path, file: StateFile) -> None:
    """As another default than the first one in the store, or the one that was registered first."""
    second = pack_red_or_blue(store, version="2.0")
    found = come_back(store, file, replace(FIRST, default=False), replace(FIRST, version="2.0", archive=second.name))
    assert found.defaults == {"red_or_blue": "2.0"}
    assert found.said[-2:] == ["red_or_blue 2.0 as the default", "without foreign.mar"]


def test_a_default_that_never_got_ready_is_none(store: Path, file: StateFile) -> None:
    """The one before it stays: without any, the first version there is would be it."""
    second, third = (pack_red_or_blue(store, version=version).name for version in ("2.0", "3.0"))
    keeper = Keeper(file, plan(store, [], None), PLAIN)
    old = replace(FIRST, default=False)
    keeper.keep([old, replace(FIRST, version="2.0", archive=second)])
    loading = replace(FIRST, version="3.0", archive=third, workers=())
    keeper.keep([old, replace(old, version="2.0", archive=second), loading])
    assert plan(store, [], file.read()).defaults == {"red_or_blue": "2.0"}


def test_of_some_archives_alone(store: Path, file: StateFile, foreign: Path) -> None:
    """As after a crash: what was served, and not what has come into the store meanwhile."""
    come_back(store, file, FIRST)
    shutil.copy(foreign, store / "new.mar")
    state = file.read()
    assert state is not None
    found = plan(store, list(state.archives), state)
    assert (names(found), found.said) == (["red_or_blue 1.0"], ["without foreign.mar"])
    (store / "first.mar").unlink()
    (store / "foreign.mar").unlink()
    with pytest.raises(MarserveError, match=r"nothing is left in .* of first.mar, foreign.mar"):
        plan(store, list(state.archives), state)


def test_a_new_archive_is_served_too(store: Path, file: StateFile, foreign: Path) -> None:
    (store / "foreign.mar").unlink()
    come_back(store, file, FIRST)
    shutil.copy(foreign, store / "new.mar")
    found = plan(store, [], file.read())
    assert (names(found), found.said) == (["foreign 0.1", "red_or_blue 1.0"], [])


def test_an_archive_that_is_gone(store: Path, file: StateFile) -> None:
    come_back(store, file, FIRST, FOREIGN)
    (store / "foreign.mar").unlink()
    found = plan(store, [], file.read())
    assert (names(found), found.said) == (["red_or_blue 1.0"], ["without foreign.mar, which is gone"])


def test_an_archive_that_has_changed(store: Path, file: StateFile, foreign: Path) -> None:
    """Exported anew: it is served as it is, with its own settings."""
    scaled = replace(FIRST, settings=SETTINGS | {"minWorkers": 3, "maxWorkers": 3})
    come_back(store, file, scaled, FOREIGN)
    with (store / "first.mar").open("ab") as mar:
        mar.write(b"\0")
    found = plan(store, [], file.read())
    assert sorted(names(found)) == ["foreign 0.1", "red_or_blue 1.0"]
    assert ("red_or_blue", "1.0") not in found.settings
    assert found.said == ["first.mar as it is now"]


def test_what_never_got_ready_is_not_kept(store: Path, file: StateFile) -> None:
    keeper = Keeper(file, plan(store, [], None), PLAIN)
    loading = replace(FOREIGN, workers=(Worker(-1, "UNLOADING"),))
    keeper.keep([FIRST, loading])
    state = file.read()
    assert state is not None
    assert [kept.model for kept in state.versions] == ["red_or_blue"]
    keeper.keep([FIRST, FOREIGN])
    keeper.keep([replace(FIRST, workers=()), loading])  # they have died, and will be back
    state = file.read()
    assert state is not None
    assert [kept.model for kept in state.versions] == ["foreign", "red_or_blue"]


def test_a_file_that_another_version_came_in(store: Path, file: StateFile) -> None:
    """The next start knows the new content, and with it that this version was the default."""
    keeper = Keeper(file, plan(store, [], None), PLAIN)
    keeper.keep([FIRST, FOREIGN])
    keeper.keep([FOREIGN])
    pack_red_or_blue(store, "2.0").replace(store / "first.mar")
    keeper.keep([FOREIGN, replace(FIRST, version="2.0")])
    found = plan(store, [], file.read())
    assert (sorted(names(found)), found.defaults["red_or_blue"]) == (["foreign 0.1", "red_or_blue 2.0"], "2.0")


def failure(archive: str, model: str = "", version: str = "") -> Failure:
    return Failure(archive, model, version, "a reason", "a kind")


def test_what_fails_is_tried_again(store: Path, file: StateFile) -> None:
    """With the settings and as the default that it was, and whether its archive is there in full by then or not."""
    second = pack_red_or_blue(store, version="2.0")
    scaled = SETTINGS | {"minWorkers": 3, "maxWorkers": 3}
    new = replace(FIRST, version="2.0", archive=second.name, settings=scaled)
    come_back(store, file, replace(FIRST, default=False), new, FOREIGN)
    content = second.read_bytes()
    second.write_bytes(content[:-100])
    for _ in range(2):
        found = plan(store, [], file.read())
        assert [one.what for one in found.failures] == [second.name]
        assert found.defaults["red_or_blue"] == "1.0"
        keeper = Keeper(file, found, PLAIN)
        keeper.spare([*found.failures, failure("foreign.mar", "foreign", "0.1")])
        keeper.keep([FIRST])  # which stands in
        assert keeper.last is not None
        assert [(one.model, one.default) for one in keeper.last.versions] == [("red_or_blue", True)]
        assert list(keeper.last.archives) == ["first.mar"]
    second.write_bytes(content)
    found = plan(store, [], file.read())
    assert (found.defaults, found.failures) == ({"red_or_blue": "2.0", "foreign": "0.1"}, [])
    assert sorted(names(found)) == ["foreign 0.1", "red_or_blue 1.0", "red_or_blue 2.0"]
    assert found.settings["red_or_blue", "2.0"]["minWorkers"] == 3


@pytest.mark.parametrize("chosen", ["3.0", "another"])
def test_a_default_that_failed_is_none_any_more_once_another_was_chosen(
    store: Path, file: StateFile, chosen: str
) -> None:
    second, third = (pack_red_or_blue(store, version=version) for version in ("2.0", chosen))
    versions = [replace(FIRST, default=False), replace(FIRST, version="2.0", archive=second.name)]
    versions += [replace(FIRST, version=chosen, archive=third.name, default=False)]
    keeper = Keeper(file, plan(store, [], file.read()), PLAIN)
    keeper.keep(versions)
    keeper.spare([failure(second.name, "red_or_blue", "2.0")])
    keeper.keep([FIRST, versions[2]])
    assert plan(store, [], file.read()).defaults["red_or_blue"] == "2.0"
    keeper.keep([versions[0], replace(versions[2], default=True)])
    assert plan(store, [], file.read()).defaults["red_or_blue"] == chosen
    keeper.keep([FIRST, versions[2]])  # chosen, and no longer in the place of another
    assert plan(store, [], file.read()).defaults["red_or_blue"] == "1.0"


def test_what_fails_at_first_is_new_to_the_next_start(store: Path, file: StateFile) -> None:
    keeper = Keeper(file, plan(store, [], file.read()), PLAIN)
    keeper.spare([failure("foreign.mar", "foreign", "0.1")])
    keeper.keep([FIRST])
    found = plan(store, [], file.read())
    assert (names(found), found.said) == (["foreign 0.1", "red_or_blue 1.0"], [])
    keeper.keep([FIRST, FOREIGN])  # it was registered again
    keeper.keep([FIRST])  # and unregistered for good
    assert plan(store, [], file.read()).said == ["without foreign.mar"]


def test_of_two_files_with_one_version_that_is_served_which_was(store: Path, file: StateFile) -> None:
    come_back(store, file, FIRST, FOREIGN)
    shutil.copy(store / "first.mar", store / "a.mar")
    found = plan(store, [], file.read())
    assert [one.path.name for one in found.archives if one.name == "red_or_blue"] == ["first.mar"]
    assert [one.what for one in found.failures] == ["a.mar"]


def test_who_is_the_default_without_the_failed(store: Path, file: StateFile) -> None:
    for version in ("2.0", "3.0"):
        pack_red_or_blue(store, version=version)
    new = plan(store, [], None)
    assert new.default_without("red_or_blue", {"1.0"}) == "2.0"  # the first that there is
    assert new.default_without("foreign", {"0.1"}) is None
    kept = replace(new, settings={("red_or_blue", version): {} for version in ("1.0", "2.0")})
    assert kept.default_without("red_or_blue", {"3.0"}) == "2.0"  # the last that was served
    assert kept.default_without("red_or_blue", {"1.0", "2.0"}) == "3.0"


def test_it_is_written_when_something_has_changed(store: Path, file: StateFile) -> None:
    keeper = Keeper(file, plan(store, [], None), PLAIN)
    keeper.keep([FIRST])
    file.path.unlink()
    keeper.keep([FIRST])
    assert not file.path.exists()
    keeper.keep([FIRST, FOREIGN])
    assert file.path.exists()


def test_a_folder_that_cannot_be_written_is_no_reason_to_end(store: Path, file: StateFile) -> None:
    file.path.parent.parent.write_text("no folder")
    keeper = Keeper(file, plan(store, [], None), PLAIN)
    keeper.keep([FIRST])
    assert keeper.failure == f"cannot write {file.path}: Not a directory"
    assert keeper.last is not None
    assert [kept.model for kept in keeper.last.versions] == ["red_or_blue"]
    file.path.parent.parent.unlink()
    keeper.keep([FIRST])
    assert keeper.failure == ""
    assert file.path.exists()


def test_another_store_has_another_state(store: Path, file: StateFile, tmp_path: Path) -> None:
    come_back(store, file, FIRST)
    assert file.read() is not None
    assert StateFile(8080, tmp_path).read() is None
    assert StateFile(8081, store).read() is None


GOOD = {"model": "m", "version": "1", "archive": "m.mar", "default": True, "settings": {"minWorkers": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"model": 1},
        {"default": "yes"},
        {"settings": {"minWorkers": -1}},
        {"settings": {"minWorkers": True}},
        {"settings": {"workers": 1}},
        {"settings": [1]},
        {"more": 1},
    ],
)
def test_a_damaged_file_is_one_line(store: Path, file: StateFile, change: dict[str, Any]) -> None:
    file.write(State({}, [Kept(**GOOD)]))  # type: ignore[arg-type]
    assert file.read() == State({}, (Kept(**GOOD),))  # type: ignore[arg-type]
    content = json.loads(file.path.read_bytes())
    file.path.write_text(json.dumps({**content, "versions": [GOOD | change]}))
    with pytest.raises(MarserveError, match="is damaged: --fresh starts without it"):
        file.read()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_file_that_is_none(file: StateFile, text: str) -> None:
    file.path.parent.mkdir(parents=True)
    file.path.write_text(text)
    with pytest.raises(MarserveError, match="is damaged"):
        file.read()


def test_the_digest_is_of_the_file(archive: Path, tmp_path: Path) -> None:
    assert len(digest(archive)) == 64
    assert digest(tmp_path / "nothing") == ""
    assert read_archive(archive).name == "red_or_blue"
