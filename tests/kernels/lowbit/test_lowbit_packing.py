"""Packing and rotation: round trips, the documented layout, the definition of the transform."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lowbit import hadamard, packing
from lowbit.errors import LowbitError
from transformers.integrations import bitnet


@given(st.integers(1, 16), st.integers(1, 5), st.integers(1, 40), st.integers(0, 10**6))
def test_every_width_of_index_survives(bits: int, rows: int, count: int, seed: int) -> None:
    indices = torch.randint(0, 2**bits, (rows, count), generator=torch.Generator().manual_seed(seed))
    packed = packing.pack(indices, bits)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, -(-count * bits // 8))
    assert torch.equal(packing.unpack(packed, bits, count).long(), indices)


@given(st.integers(1, 12), st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=20))
def test_layout_is_little_endian(bits: int, values: list[int]) -> None:
    values = [value % 2**bits for value in values]
    number = sum(value << (position * bits) for position, value in enumerate(values))
    expected = number.to_bytes(-(-len(values) * bits // 8), "little")
    assert bytes(packing.pack(torch.tensor([values]), bits)[0].tolist()) == expected


@given(st.integers(1, 4), st.integers(1, 33), st.integers(0, 10**6))
def test_trits_survive_in_a_fifth_of_a_byte(rows: int, count: int, seed: int) -> None:
    codes = torch.randint(-1, 2, (rows, count), generator=torch.Generator().manual_seed(seed))
    packed = packing.pack_trits(codes)
    assert packed.shape == (rows, -(-count // 5))
    assert int(packed.max()) < 243
    assert torch.equal(packing.unpack_trits(packed, count).long(), codes)


def test_known_trit_byte() -> None:
    # digits 2, 1, 0, 1, 2 -> 2 + 3 + 0 + 27 + 162
    assert packing.pack_trits(torch.tensor([[1, 0, -1, 0, 1]])).tolist() == [[194]]


@given(st.integers(0, 5), st.integers(1, 33), st.integers(0, 10**6))
def test_fours_survive_in_two_bits_each(rows: int, count: int, seed: int) -> None:
    codes = torch.randint(-1, 2, (rows, count), generator=torch.Generator().manual_seed(seed))
    packed = packing.pack_fours(codes)
    assert packed.shape == (rows, -(-count // 4))
    assert torch.equal(packing.unpack_fours(packed, count).long(), codes)
    # What fills a row up is code 0, so that a kernel may multiply it.
    assert int(packing.unpack_fours(packed, packed.shape[1] * 4)[:, count:].abs().sum()) == 0
    whole = codes[:, : count // 4 * 4]
    assert torch.equal(packing.pack_fours(whole), packing.pack(whole + 1, 2))


def test_known_byte_of_fours() -> None:
    # digits 2, 1, 0, 1 -> 2 + 4 + 0 + 64
    assert packing.pack_fours(torch.tensor([[1, 0, -1, 0]])).tolist() == [[70]]


@given(st.integers(0, 4), st.integers(1, 20), st.integers(0, 10**6))
def test_quarters_are_those_of_transformers(quarter: int, count: int, seed: int) -> None:
    codes = torch.randint(-1, 2, (4 * quarter, count), generator=torch.Generator().manual_seed(seed))
    packed = packing.pack_quarters(codes)
    assert packed.shape == (quarter, count)
    assert torch.equal(packing.unpack_quarters(packed).long(), codes)
    if quarter:
        with torch.compiler.set_stance("force_eager"):
            assert torch.equal(packed, bitnet.pack_weights(codes.clone()))
            assert torch.equal(bitnet.unpack_weights(packed, torch.float32).long(), codes)


def test_quarters_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(LowbitError, match="up: 6 rows cannot be cut into four"):
        packing.pack_quarters(torch.zeros(6, 2), "up")
    with pytest.raises(LowbitError, match="up: two bits are 3"):
        packing.unpack_quarters(torch.tensor([[0b00110101]], dtype=torch.uint8), "up")


@pytest.mark.parametrize("size", [2, 16, 128, 1024])
def test_transform_is_the_sylvester_matrix(size: int) -> None:
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    assert torch.equal(hadamard.fwht(torch.eye(size)), matrix)


def test_transform_leaves_its_input_alone() -> None:
    x = torch.randn(3, 16)
    before = x.clone()
    hadamard.fwht(x)
    assert torch.equal(x, before)


@given(st.sampled_from([16, 64, 256]), st.integers(1, 3), st.integers(0, 1000))
def test_rotation_keeps_the_norm_and_is_undone(block: int, blocks: int, seed: int) -> None:
    x = torch.randn(4, block * blocks, generator=torch.Generator().manual_seed(seed))
    turned = hadamard.rotate(x, block, seed)
    assert torch.allclose(turned.norm(dim=1), x.norm(dim=1), rtol=1e-5)
    assert torch.allclose(hadamard.rotate_back(turned, block, seed), x, atol=1e-5)


def test_signs_are_those_of_the_documented_stream() -> None:
    stream = b"".join(hashlib.sha256(f"lowbit signs 7 300 {k}".encode()).digest() for k in range(2))
    expected = [-1.0 if stream[k // 8] >> (k % 8) & 1 else 1.0 for k in range(300)]
    assert hadamard.signs(7, 300).tolist() == expected
    assert hadamard.signs(8, 300).tolist() != expected


@pytest.mark.parametrize(
    ("width", "block"),
    [
        (896, 128),
        (4864, 256),
        (8960, 256),
        (11008, 256),
        (4096, 1024),
        (1536, 512),
        (16, 16),
        (100, 16),
        (5460, 32),
    ],
)
def test_block_is_the_largest_power_of_two_that_divides(width: int, block: int) -> None:
    assert hadamard.block_size(width) == block
    assert hadamard.padded_width(width) - width in range(16)
