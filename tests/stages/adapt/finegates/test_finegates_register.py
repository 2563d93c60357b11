"""FineGates among peft's methods: versions, taken names and changed internals are refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import peft
import pytest
import torch
from peft import mapping
from peft.tuners.tuners_utils import BaseTuner

from stages.adapt.finegates.config import FINEGATES
from stages.adapt.finegates.register import SLOTS, register
from stages.common.errors import UserError

register()


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """peft as if FineGates had not been imported."""
    for name in SLOTS:
        monkeypatch.delitem(getattr(mapping, name), FINEGATES)
    return monkeypatch


def test_registering_again_does_nothing(unregistered: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    register()
    register()
    assert all(getattr(mapping, name)[FINEGATES] == ours for name, ours in SLOTS.items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("version", ["0.20.1", "0.22.0", "1.0"])
def test_an_untested_peft_is_refused(version: str, unregistered: pytest.MonkeyPatch) -> None:
    unregistered.setattr(peft, "__version__", version)
    with pytest.raises(UserError, match=rf"peft {version}: FineGates was tested with peft >=0.21,<0.22"):
        register()
    assert not any(FINEGATES in getattr(mapping, name) for name in SLOTS)


@pytest.mark.parametrize("name", SLOTS)
def test_a_taken_name_is_refused(name: str, unregistered: pytest.MonkeyPatch) -> None:
    unregistered.setitem(getattr(mapping, name), FINEGATES, "somebody's")
    with pytest.raises(UserError, match=r"FINEGATES is taken .*somebody's"):
        register()
    assert [slot for slot in SLOTS if FINEGATES in getattr(mapping, slot)] == [name]


@pytest.mark.parametrize("name", SLOTS)
def test_moved_internals_are_refused(name: str, unregistered: pytest.MonkeyPatch) -> None:
    unregistered.delattr(mapping, name)
    with pytest.raises(UserError, match=rf"peft.mapping.{name} is not there any more"):
        register()


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("_mark_only_adapters_as_trainable", lambda *_: None),
        ("_replace_module", lambda *_: None),
        ("_get_adapter_state_dict", classmethod(lambda *_, **__: {})),
    ],
)
def test_changed_internals_fail_the_self_test(
    method: str, change: Any, unregistered: pytest.MonkeyPatch
) -> None:
    unregistered.setattr(BaseTuner, method, change)
    with pytest.raises(UserError, match="FineGates does not work with its internals"):
        register()
    assert not any(FINEGATES in getattr(mapping, name) for name in SLOTS)


def test_a_peft_without_what_is_used_is_refused_by_its_version() -> None:
    """The guard must speak before an import fails: in a process of its own, as here all is imported."""
    code = (
        "import peft.tuners.tuners_utils as utils\n"
        "del utils._maybe_include_all_linear_layers\n"
        "import peft\n"
        "peft.__version__ = '0.99.0'\n"
        "import stages.adapt.finegates.register\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("tested with peft >=0.21,<0.22; install one of these")
