"""Manifests: what an out was made from, the same for the same inputs; and the hashes under them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.common import manifest
from stages.common.atomic import write_json
from stages.common.errors import UserError, one_line
from stages.common.hashing import sha256_bytes, sha256_file, sha256_json, sha256_path
from stages.common.manifest import Facts


def test_known_hashes(tmp_path: Path) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / "empty").touch()
    assert sha256_bytes(b"") == sha256_file(tmp_path / "empty") == empty
    assert sha256_json({"b": 1, "a": "я"}) == hashlib.sha256('{"a":"я","b":1}'.encode()).hexdigest()


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=5))
def test_hash_of_values_does_not_depend_on_order(value: dict[str, int]) -> None:
    assert sha256_json(value) == sha256_json(dict(reversed(value.items())))


def test_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = sha256_path(tmp_path / "a")
    (tmp_path / "a" / "x").write_text("2")
    second = sha256_path(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert len({first, second, sha256_path(tmp_path / "a")}) == 3
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b" / "y").rename(tmp_path / "b" / "x")
    assert sha256_path(tmp_path / "b") == second


def test_manifest_names_inputs_parameters_and_files(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "a").write_text("a")
    (out / "b").write_text("b")
    facts = Facts(lineage={"data": {"x": ["MIT"]}}, tokens={"x": 5}, notes={"n": 1})
    built = manifest.build("tokens", None, {"seed": 3}, {"in": source}, out, facts)
    assert built["inputs"] == {str(source): sha256_path(source)}
    assert built["files"] == {"b": sha256_file(out / "b")}
    assert (built["stage"], built["cell"], built["seed"], built["schema"]) == ("tokens", None, 3, 1)
    assert (built["lineage"], built["tokens"], built["notes"]) == (facts.lineage, facts.tokens, facts.notes)
    assert built == manifest.build("tokens", None, {"seed": 3}, {"in": source}, out, facts)


def test_versions_are_those_installed() -> None:
    import numpy

    assert manifest.versions()["numpy"] == numpy.__version__


def test_manifest_of_nothing_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        manifest.read(tmp_path / "out")


def test_messages_are_one_line() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"


def test_how_a_model_was_adapted_goes_down_to_what_is_made_from_it(tmp_path: Path) -> None:
    lineage = {"base": {"licence": "MIT"}, "data": {}}
    told = {"method": "finegates", "trainable_parameters": 7, "removed": {"asked": 0.3}}
    notes = {**told, "kept": [{"layer": 0, "ffn": [[0, 3]]}]}
    write_json(tmp_path / "gorn.json", {"stage": "adapt", "lineage": lineage, "notes": notes})
    made = manifest.descent(tmp_path)
    assert made == {**lineage, "adaptation": told}
    write_json(tmp_path / "gorn.json", {"stage": "distill", "lineage": made, "notes": {"method": "none"}})
    assert manifest.descent(tmp_path) == made
    write_json(tmp_path / "gorn.json", {"stage": "pretrain", "lineage": lineage, "notes": {}})
    assert manifest.descent(tmp_path) == lineage
