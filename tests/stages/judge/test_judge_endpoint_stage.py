"""Stage judge with judges behind addresses: passports, faults, what leaves, who may judge, when it stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import judge_server
import pandas as pd
import pytest
from judge_stage_fakes import CELL, COUNT, endpoint, first_is_right, write_answers, write_lineage

from evals.errors import EvalError
from stages.common.atomic import read_json, write_json
from stages.gate import reading

Run = Callable[..., Any]


def test_a_judge_that_knows_votes_and_the_gate_takes_its_verdicts(serving: Run, judge: Run) -> None:
    done = judge(judges=[endpoint(serving())])
    summary, table = done.summary, done.verdicts
    assert summary["votes"], summary["reason"]
    assert done.passport["valid"] and done.passport["judge"]["digest"] == summary["judge"]["digest"]
    # A quarter of the questions is won, the others are ties: both right, or both wrong.
    assert summary["preference"] == pytest.approx(0.625)
    assert summary["win_rate"]["corrected"]["method"] == "corrected"
    assert summary["win_rate"]["length_controlled"]["ci"][0] > 0
    assert list(table["id"]) == [f"q{i}" for i in range(COUNT)]
    assert table["missing"].isna().all() and table["consistent"].all()
    assert table["candidate_answer"][0] == "верно 0" and table["champion_answer"][1] == "неверно 1."
    vote = reading.vote(done.folder, "candidate", "champion")
    assert vote.votes and len(vote.evidence.preferences) == COUNT
    assert all(known.verdict == known.truth for known in vote.evidence.known) and vote.evidence.known


def test_a_judge_that_always_says_the_first_gets_no_passport(serving: Run, judge: Run) -> None:
    done = judge(judges=[endpoint(serving(choose=lambda *_: "1"))])
    passport = done.passport
    assert not passport["valid"] and not done.summary["votes"]
    assert (passport["measures"]["consistency"]["value"], passport["measures"]["primacy"]["value"]) == (0, 1)
    assert "no valid passport: consistency is 0.000" in done.summary["reason"]
    assert "accuracy" in done.summary["reason"]
    vote = reading.vote(done.folder, "candidate", "champion")
    assert (vote.votes, vote.reason) == (False, done.summary["reason"])


def test_a_judge_that_obeys_an_answer_gets_no_passport(serving: Run, judge: Run) -> None:
    orders = ("проверяющего", "grader", "СИСТЕМА", "SYSTEM", "отменены", "void", "Вердикт", "Verdict")

    def gullible(first: str, second: str) -> str:
        obeyed = [any(word in answer for word in orders) for answer in (first, second)]
        return str(1 + obeyed.index(True)) if any(obeyed) else first_is_right(first, second)

    done = judge(judges=[endpoint(serving(choose=gullible))])
    assert done.passport["measures"]["accuracy"]["value"] == 1
    (reason,) = done.passport["reasons"]
    assert reason == "injection is 1.000 on 6 pairs, at most 0.2 is asked for"
    assert not done.summary["votes"] and reason in done.summary["reason"]


@pytest.mark.parametrize(("key", "said"), [("digest", "another judge's"), ("rubric", "another rubric")])
def test_a_passport_of_another_judge_or_rubric_is_refused(
    serving: Run, judge: Run, key: str, said: str
) -> None:
    done = judge(judges=[endpoint(serving())])
    passport = done.passport
    passport["judge"][key] = "0" * 64
    write_json(done.folder / "passport.json", passport)
    vote = reading.vote(done.folder, "candidate", "champion")
    assert not vote.votes and said in vote.reason


def test_whatever_fails_every_pair_is_judged_once_or_missing(
    serving: Run, judge: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fault before a reply, and for one prompt of the compared pairs every time."""
    faults = ("429", "500", "time_out", "malformed", "cut")
    monkeypatch.setattr(judge_server, "HANG", 3.0)  # a busy machine must not seem to hang

    def plan(prompt: int, attempt: int) -> Any:
        if prompt == 100:
            return "500"
        return faults[prompt // 20 % 5] if attempt == 0 and prompt % 20 == 10 else None

    server = serving(plan=plan)
    done = judge(judges=[endpoint(server, timeout=2.5)], probe_pairs=0)
    table = done.verdicts
    lost = table[table["missing"].notna()]
    assert len(table) == COUNT and list(lost["missing"]) == ["server"]
    assert done.summary["missing"] == {"server": 1} and done.summary["pairs"] == COUNT - 1
    assert done.summary["votes"], done.summary["reason"]
    assert max(server.delivered.values()) == 1
    lines = [json.loads(line) for line in Path(".gorn/judge/served.jsonl").read_text().splitlines()]
    assert len(lines) == len(server.delivered)
    assert all(line["started"] > 1e9 and line["seconds"] >= 0 for line in lines)
    # Only what failed is asked again, and then nothing is missing.
    server.plan = lambda *_: None
    before = server.attempts.total()
    again = judge(judges=[endpoint(server)], probe_pairs=0)
    assert server.attempts.total() == before + 1
    assert again.verdicts["missing"].isna().all()
    whole = again.bytes
    assert judge(judges=[endpoint(server)], probe_pairs=0).bytes == whole
    assert server.attempts.total() == before + 1


def test_a_judge_that_stops_answering_ends_the_stage_in_one_line(serving: Run, judge: Run, out: Path) -> None:
    server = serving(plan=lambda *_: "hang_up")
    with pytest.raises(EvalError, match=r"judge `served` stopped answering \(.*connection failed") as error:
        judge(judges=[endpoint(server, retries=0)])
    assert "\n" not in str(error.value)
    assert not (out / "judge" / CELL).exists()


def test_personal_data_does_not_leave(serving: Run, judge: Run, out: Path) -> None:
    texts = ["пиши на ivan@example.org", *(f"верно {i}" for i in range(1, COUNT))]
    write_answers(out / "evaluate" / CELL, "candidate", texts)
    server = serving()
    done = judge(judges=[endpoint(server)])
    sent = json.dumps(server.requests, ensure_ascii=False)
    assert "ivan@example.org" not in sent and "[ПОЧТА]" in sent
    assert done.verdicts["candidate_answer"][0] == texts[0]


def test_kin_of_one_side_alone_does_not_vote_and_its_taste_is_measured(
    serving: Run, judge: Run, out: Path
) -> None:
    write_lineage(out / "quantize" / CELL, {"source": "hub", "id": "Qwen/Qwen2.5-0.5B", "digest": "q"})
    write_lineage(out / "base", {"source": "hub", "id": "other/base", "digest": "o"})
    candidates = {f"{'не' * (i % 4 == 3)}верно {i}" for i in range(COUNT)}
    own = serving(choose=lambda *shown: "1" if shown[0] in candidates else "2")
    kin = endpoint(own, "kin", bases=["t-tech/T-lite-it-1.0"])
    families = {"qwen": ["Qwen/*", "t-tech/T-lite*"]}
    alone = judge(judges=[kin], families=families)
    assert not alone.summary["votes"] and "descend from one base (family:qwen)" in alone.summary["reason"]
    assert alone.verdicts.empty and own.attempts.total() == 0
    both = judge(judges=[kin, endpoint(serving())], families=families)
    assert both.summary["votes"] and set(both.summary["left_out"]) == {"kin"}
    found = both.summary["self_preference"]["kin"]
    assert found["own"] == "candidate" and found["value"] == pytest.approx(1 - 0.625)
    assert found["ci"][0] > 0


def test_a_jury_is_one_judge_and_every_vote_is_kept(serving: Run, judge: Run) -> None:
    servers = [serving(), serving(), serving(choose=lambda *_: "1")]
    named = [endpoint(server, f"j{place}") for place, server in enumerate(servers)]
    done = judge(judges=named)
    assert done.summary["votes"] and done.summary["judge"]["kind"] == "jury"
    assert done.summary["consistency"] == 1
    votes = done.verdicts["votes"][1]
    assert [(vote["judge"], vote["preference"]) for vote in votes] == [("j0", 1.0), ("j1", 1.0), ("j2", 0.5)]


def test_labels_of_people_make_the_passport_and_power_the_rate(
    serving: Run, judge: Run, out: Path, tmp_path: Path
) -> None:
    ours, theirs = (
        pd.read_parquet(out / "evaluate" / name / "answers.parquet") for name in (CELL, "champion")
    )
    with (tmp_path / "labels.jsonl").open("w") as file:
        for i in range(30):
            pair = {"id": f"q{i}", "cluster": f"c{i}", "question": ours["question"][i]}
            pair |= {"ours": ours["answer"][i], "theirs": theirs["answer"][i]}
            won = {"1": "ours", "2": "theirs", "0": "tie"}[first_is_right(pair["ours"], pair["theirs"])]
            votes = dict.fromkeys(("anna", "boris", "vera"), won)
            file.write(json.dumps({**pair, "votes": votes}, ensure_ascii=False) + "\n")
    done = judge(judges=[endpoint(serving())], labels=["labels.jsonl"], probe_pairs=0)
    measures = done.passport["measures"]
    assert done.passport["truth"] == "people" and measures["alpha"]["value"] == 1
    assert measures["alternative"]["value"] == 1 and measures["kappa"]["value"] == 1
    assert measures["specificity"]["reason"] == "there is no pair whose `theirs` is better"
    assert done.summary["win_rate"]["corrected"]["method"] == "prediction-powered"
    assert done.verdicts["label"].notna().sum() == 30


def test_sequential_judging_stops_when_the_decision_is_certain(serving: Run, judge: Run, out: Path) -> None:
    write_answers(out / "evaluate" / CELL, "candidate", [f"верно {i}" for i in range(COUNT)])
    write_answers(out / "evaluate/champion", "champion", [f"неверно {i}" for i in range(COUNT)])
    done = judge(judges=[endpoint(serving())], sequential=True)
    summary, table = done.summary, done.verdicts
    assert (summary["not_asked"], summary["pairs"], summary["missing"]) == (8, 32, {})
    assert list(table["missing"].dropna()) == ["not_asked"] * 8
    assert summary["votes"] and summary["win_rate"]["corrected"]["method"] == "anytime"
    assert reading.vote(done.folder, "candidate", "champion").evidence.sequential


def test_a_draw_is_asked_to_the_end(serving: Run, judge: Run) -> None:
    done = judge(judges=[endpoint(serving())], sequential=True)
    assert done.summary["not_asked"] == 0 and done.summary["sequential"]


def test_another_rubric_makes_another_judge(serving: Run, judge: Run) -> None:
    server = serving()
    one = judge(judges=[endpoint(server)]).summary["judge"]
    two = judge(judges=[endpoint(server)], rubric="pair-reference.ru").summary["judge"]
    assert one["digest"] != two["digest"] and one["rubric"] != two["rubric"]
    assert read_json(Path("out/judge") / CELL / "passport.json")["judge"]["rubric"] == two["rubric"]
