"""Losses against plain references, whole and in chunks, with their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from training_fakes import tiny_model

from stages.common.training import losses
from stages.common.training.sampler import Batch


def _batch(rows: int = 2, tokens: int = 10) -> Batch:
    generator = torch.Generator().manual_seed(3)
    window = torch.randint(1, 300, (rows, tokens + 1), generator=generator)
    places = torch.arange(tokens).expand(rows, -1)
    return Batch(window[:, :-1], window[:, 1:], places, {})


def _gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters()}


def _logits(model: Any, batch: Batch) -> torch.Tensor:
    return model(batch.inputs_BT, use_cache=False).logits.flatten(0, 1)


@pytest.mark.parametrize("chunk", [losses.CHUNK_ELEMENTS, 7 * 300])
def test_cross_entropy_and_its_gradient(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", chunk)
    model, batch = tiny_model(), _batch()
    reference = F.cross_entropy(_logits(model, batch), batch.targets_BT.flatten())
    found = losses.cross_entropy(model, batch)
    assert found.item() == pytest.approx(reference.item(), rel=1e-6)
    expected, actual = _gradients(model, reference), _gradients(model, losses.cross_entropy(model, batch))
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk", [losses.CHUNK_ELEMENTS, 7 * 300])
@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 1.0), (0.1, 1.0), (0.3, 2.0), (1.0, 1.0)])
def test_distillation_is_forward_kl_and_cross_entropy(
    weight: float, temperature: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", chunk)
    teacher, student, batch = tiny_model(seed=1).eval(), tiny_model(seed=2), _batch()
    taught, logits = _logits(teacher, batch).detach(), _logits(student, batch)
    p = F.softmax(taught / temperature, dim=-1)
    divergence = (p * (p.log() - F.log_softmax(logits / temperature, dim=-1))).sum(dim=-1).mean()
    reference = (1 - weight) * temperature**2 * divergence
    reference = reference + weight * F.cross_entropy(logits, batch.targets_BT.flatten())
    loss = losses.distillation(teacher, weight, temperature, 300)
    assert loss(student, batch).item() == pytest.approx(reference.item(), rel=1e-5)
    expected, actual = _gradients(student, reference), _gradients(student, loss(student, batch))
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-3, atol=1e-6)
    assert all(value.grad is None for value in teacher.parameters())


def test_a_student_equal_to_its_teacher_has_no_divergence() -> None:
    model = tiny_model()
    assert losses.distillation(model, 0.0, 1.0, 300)(model, _batch()).item() == pytest.approx(0, abs=1e-6)


def test_forward_and_not_reverse_divergence() -> None:
    teacher, student, batch = tiny_model(seed=1).eval(), tiny_model(seed=2), _batch()
    with torch.no_grad():
        teacher.lm_head.weight.mul_(30)
        logp, logq = (F.log_softmax(_logits(model, batch), -1) for model in (teacher, student))
    found = losses.distillation(teacher, 0.0, 1.0, 300)(student, batch).item()
    assert found == pytest.approx((logp.exp() * (logp - logq)).sum(-1).mean().item(), rel=1e-4)
    assert found != pytest.approx((logq.exp() * (logq - logp)).sum(-1).mean().item(), rel=0.05)


def test_padding_rows_of_the_vocabulary_do_not_count() -> None:
    teacher, batch = tiny_model(seed=1), _batch()
    padded = tiny_model(seed=5, vocab_size=320)
    plain = tiny_model(seed=6)
    weights = padded.state_dict()
    plain.load_state_dict(
        {
            name: value[:300] if "embed" in name or "lm_head" in name else value
            for name, value in weights.items()
        }
    )
    loss = losses.distillation(teacher, 0.2, 1.0, 300)
    assert loss(padded, batch).item() == pytest.approx(loss(plain, batch).item(), rel=1e-6)
