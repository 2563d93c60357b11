"""Promotion: only on a valid decision, by one promoter, undone when a step fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import flows_fakes as fakes
import pytest

from flows import champion, settings
from flows import publish as publishing
from flows import results as reading
from flows.promote import NotPromotedError, promote, rollback, today
from flows.registry import Registry
from stages.common.checkpoint import digest
from stages.common.errors import UserError
from stages.common.params import load

pytestmark = pytest.mark.e2e


def publish(registry: Registry) -> dict[str, int]:
    return publishing.publish(registry, load(), reading.read()).versions


def test_the_first_winner_follows_the_base_model(project: Path, registry: Registry) -> None:
    publish(registry)
    done = promote(registry, manual=False)
    assert (done.state, done.version) == ("promoted", 1)
    assert registry.aliases() == {"champion": 1, "previous": None, "challenger": None}
    told = champion.read()
    assert told.version == 1
    assert digest(Path(told.path)) == told.digest == registry.version(1).digest
    assert digest(settings.model_store() / str(told.digest)) == told.digest
    assert registry.version(1).tags["promoted_from"] == "base"


def test_the_second_winner_pushes_the_first_to_previous(second: Registry) -> None:
    assert promote(second, manual=False).state == "promoted"
    assert second.aliases() == {"champion": 2, "previous": 1, "challenger": None}
    assert second.version(2).tags["promoted_from"] == "1"
    log = second.client.search_runs([second.experiment("-promotions")], order_by=["attributes.start_time"])
    assert [run.info.run_name for run in log] == ["promote base to 1", "promote 1 to 2"]
    assert {run.info.status for run in log} == {"FINISHED"}


def test_a_decision_against_another_champion_is_stale(second: Registry) -> None:
    promote(second, manual=False)
    with pytest.raises(
        UserError, match=r"stale decision: the gate compared with version 1 .* champion is version 2"
    ):
        promote(second, manual=False)
    assert second.aliases()["champion"] == 2


def test_a_decision_against_other_bytes_is_stale(second: Registry) -> None:
    file = Path("out/gate/decision.json")
    decision = json.loads(file.read_text(encoding="utf-8"))
    decision["champion"]["digest"] = "0" * 64
    fakes.write(file, decision)
    with pytest.raises(UserError, match="stale decision"):
        promote(second, manual=False)


def test_no_winner_no_promotion(project: Path, registry: Registry) -> None:
    fakes.decide(project, winner=None)
    publish(registry)
    with pytest.raises(NotPromotedError, match="no winner: no candidate passed"):
        promote(registry, manual=False)


def test_an_unpublished_winner_is_refused(project: Path, registry: Registry) -> None:
    with pytest.raises(UserError, match="is not registered; run `gorn publish` first"):
        promote(registry, manual=False)


def test_a_held_candidate_cannot_be_promoted_by_number(first: Registry) -> None:
    fakes.decide(Path(), winner="adapt-ternary")
    with pytest.raises(UserError, match=r"version 1 \(adapt-bf16\): the gate says `fail`"):
        promote(first, manual=False, number=1)


def test_the_same_winner_again_changes_nothing(first: Registry) -> None:
    fakes.decide(Path())
    assert promote(first, manual=False).state == "already"
    assert first.aliases() == {"champion": 1, "previous": None, "challenger": None}


def test_manual_promotion_waits_for_the_tag(registry: Registry) -> None:
    publish(registry)
    with pytest.raises(NotPromotedError, match=r"waits as challenger: set its tag approved=true"):
        promote(registry, manual=True)
    assert registry.aliases() == {"champion": None, "previous": None, "challenger": 1}
    registry.tag(1, {"approved": "true"})
    assert promote(registry, manual=True).state == "promoted"
    assert registry.aliases() == {"champion": 1, "previous": None, "challenger": None}


def test_an_approval_is_good_for_one_promotion(second: Registry) -> None:
    second.tag(2, {"approved": "true"})
    promote(second, manual=True)
    assert "approved" not in second.version(2).tags
    assert second.version(2).tags["approved_on"] == today()
    fakes.retrained(Path(), 1)
    with pytest.raises(NotPromotedError, match=r"version 1\) waits as challenger"):
        promote(second, manual=True)
    second.tag(1, {"approved": "true"})
    promote(second, manual=True)
    fakes.retrained(Path(), 2)
    with pytest.raises(NotPromotedError, match=r"version 2\) waits as challenger"):
        promote(second, manual=True)
    assert second.aliases() == {"champion": 1, "previous": 2, "challenger": 2}


def test_an_approval_outlives_a_promotion_that_failed(
    second: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    second.tag(2, {"approved": "true"})
    works = second.point
    with monkeypatch.context() as patched:
        patched.setattr(second, "point", lambda alias, number: 1 / 0 if number == 2 else works(alias, number))
        with pytest.raises(ZeroDivisionError):
            promote(second, manual=True)
    assert second.version(2).approved
    assert promote(second, manual=True).state == "promoted"


def test_rollback_restores_and_stays(second: Registry) -> None:
    before = champion.read()
    promote(second, manual=False)
    assert rollback(second).version == 1
    assert second.aliases() == {"champion": 1, "previous": None, "challenger": None}
    assert champion.read() == before
    assert digest(Path(before.path)) == before.digest
    with pytest.raises(UserError, match="no alias `previous`"):
        rollback(second)
    with pytest.raises(NotPromotedError, match="was rolled back"):
        promote(second, manual=False)
    assert promote(second, manual=False, number=2).state == "promoted"
    assert "rolled_back" not in second.version(2).tags


def test_rollback_without_a_champion_is_refused(registry: Registry) -> None:
    with pytest.raises(UserError, match="nothing to roll back to"):
        rollback(registry)


@pytest.mark.parametrize("broken", ["point", "tag"])
def test_a_failing_step_puts_everything_back(
    second: Registry, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    told = champion.read()
    works = getattr(second, broken)
    failed = []

    def fail(*arguments: object) -> None:
        if arguments[0] in ("champion", 2) and not failed:
            failed.append(arguments)
            raise RuntimeError("server gone")
        works(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(second, broken, fail)
        with pytest.raises(RuntimeError, match="server gone"):
            promote(second, manual=False)
    assert failed
    assert second.aliases() == {"champion": 1, "previous": None, "challenger": None}
    assert champion.read() == told
    newest = second.client.search_runs([second.experiment("-promotions")])[0]
    assert newest.info.status == "FAILED"


def test_an_undo_that_fails_is_said_aloud(second: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("server gone")

    monkeypatch.setattr(second, "point", fail)
    with pytest.raises(UserError, match="could not be undone"):
        promote(second, manual=False)


def test_an_open_claim_of_another_machine_stops_us(second: Registry) -> None:
    with second.claim("promote", 1, 2), pytest.raises(UserError, match="another promotion is under way"):
        promote(second, manual=False)
    assert second.aliases()["champion"] == 1


def another_machine(registry: Registry, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let `act` happen while our own promotion copies the model, which takes minutes with a real one."""
    copying = champion.fetch
    acted: list[object] = []

    def fetch(wanted: str) -> Path:
        if not acted:
            acted.append(act())
        return copying(wanted)

    monkeypatch.setattr(champion, "fetch", fetch)


def foreign_champion(registry: Registry, previous: int) -> None:
    """Version 3, which we know nothing of, becomes champion after `previous`."""
    source = f"models:/{registry.model}/1"
    registry.client.create_model_version(registry.model, source, tags={"digest": "3" * 64})
    registry.point("previous", previous)
    registry.point("champion", 3)


@pytest.mark.parametrize(
    ("action", "said"), [("promote", "stale decision"), ("rollback", "somebody else moved the champion")]
)
def test_a_champion_that_another_machine_made_meanwhile_stays(
    second: Registry, monkeypatch: pytest.MonkeyPatch, action: str, said: str
) -> None:
    if action == "rollback":
        promote(second, manual=False)
    told, reigning = champion.read(), second.aliases()["champion"]
    assert reigning is not None
    another_machine(second, monkeypatch, lambda: foreign_champion(second, reigning))
    with pytest.raises(UserError, match=said):
        promote(second, manual=False) if action == "promote" else rollback(second)
    assert second.aliases() == {"champion": 3, "previous": reigning, "challenger": None}
    assert champion.read() == told
    assert "rolled_back" not in second.version(reigning).tags


def test_a_version_rolled_back_meanwhile_is_not_promoted(
    second: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine promoted the same version and took it back: the champion is the old one, again."""
    another_machine(second, monkeypatch, lambda: second.tag(2, {"rolled_back": "2026-01-01"}))
    with pytest.raises(NotPromotedError, match="was rolled back"):
        promote(second, manual=False)
    assert second.aliases()["champion"] == 1


def test_damaged_bytes_are_not_promoted(second: Registry) -> None:
    Path("out/quantize/adapt-bf16/model.safetensors").write_text("damaged", encoding="utf-8")
    with pytest.raises(UserError, match="not found in"):
        promote(second, manual=False)
    assert second.aliases()["champion"] == 1


def test_the_champion_survives_the_loss_of_every_out(first: Registry) -> None:
    shutil.rmtree("out")
    shutil.rmtree(".gorn/champion")
    found = champion.refresh(first)
    assert digest(Path(found.path)) == found.digest


@pytest.mark.parametrize("named", [(3, "3" * 64), (1, "1" * 64)], ids=["no such version", "other bytes"])
def test_a_champion_that_the_registry_lacks_is_not_replaced(
    first: Registry, monkeypatch: pytest.MonkeyPatch, named: tuple[int, str]
) -> None:
    version, digest = named
    told = champion.Champion(version, digest, f".gorn/champion/{digest}")
    champion.write(told)
    before = champion.CHAMPION_FILE.read_bytes()
    with pytest.raises(
        UserError,
        match=rf"champion\.json: names version {version} .* sqlite:.*mlflow\.db does not have; point "
        r"MLFLOW_TRACKING_URI at .* delete champion\.json and run `gorn champion fetch`",
    ):
        champion.refresh(first)
    assert champion.CHAMPION_FILE.read_bytes() == before
    champion.CHAMPION_FILE.unlink()
    assert champion.refresh(first).version == 1


def test_a_champion_is_not_put_back_to_the_base_by_an_empty_registry(registry: Registry) -> None:
    champion.write(champion.Champion(1, "1" * 64, ".gorn/champion/1"))
    with pytest.raises(UserError, match="names version 1"):
        champion.refresh(registry)
    assert champion.read().version == 1


def test_a_clone_that_names_the_base_or_an_earlier_champion_follows_the_registry(second: Registry) -> None:
    earlier = champion.read()
    promote(second, manual=False)
    for behind in (champion.Champion(), earlier):
        champion.write(behind)
        assert champion.refresh(second).version == 2
        assert champion.read().version == 2


def test_pull_gives_a_verified_folder(first: Registry, tmp_path: Path) -> None:
    target = tmp_path / "pulled" / "model"
    champion.pull(first, "champion", target)
    assert digest(target) == first.version(1).digest
    with pytest.raises(UserError, match="exists and is not empty"):
        champion.pull(first, "1", target)
    with pytest.raises(UserError, match="`challenger`: no such alias in the registry; set now: champion"):
        champion.pull(first, "challenger", tmp_path / "other")
    with pytest.raises(UserError, match="version 9: `gorn` has none"):
        champion.pull(first, "9", tmp_path / "other")


def test_of_two_promoters_exactly_one_wins(second: Registry) -> None:
    command = [sys.executable, "-m", "flows.cli", "promote"]
    environment = {**fakes.environment(), "PYTHONPATH": str(fakes.REPO)}
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    told = [(process.communicate(timeout=120), process.returncode) for process in both]
    assert sorted(status for _, status in told) == [0, 1]
    (loser,) = [output[1] for output, status in told if status == 1]
    assert loser.startswith("gorn promote: stale decision")
    assert len(loser.splitlines()) == 1
    assert second.aliases() == {"champion": 2, "previous": 1, "challenger": None}
