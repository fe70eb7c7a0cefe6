"""Seeds and hashes."""

import hashlib

import numpy as np
import torch

from shared.reproducibility import derive_seed, make_deterministic, state_hash


def test_a_derived_seed_depends_on_every_part_and_its_place():
    seeds = {
        derive_seed(0, "a", 1),
        derive_seed(1, "a", 1),
        derive_seed(0, "b", 1),
        derive_seed(0, "a", 2),
        derive_seed(1, "a", 0),
    }
    assert len(seeds) == 5
    assert derive_seed(0, "a", 1) == derive_seed(0, "a", 1)


def test_a_derived_seed_is_accepted_by_every_generator():
    seed = derive_seed(2**40, "centre-a", 10**6)
    assert 0 <= seed < 2**63
    make_deterministic(seed, threads=1)
    assert torch.get_num_threads() == 1


def test_the_same_seed_gives_the_same_draws():
    def draw():
        make_deterministic(7, threads=1)
        return torch.rand(3).tolist(), np.random.rand(3).tolist()  # noqa: NPY002 - the global generator is what is tested

    assert draw() == draw()


def test_the_hash_of_a_state_is_sha256_of_names_shapes_types_and_bytes():
    state = {"b": torch.tensor([1.0]), "a": torch.tensor([[2.0, 3.0]])}
    expected = hashlib.sha256()
    expected.update(b"a|(1, 2)|torch.float32|" + np.array([2, 3], np.float32).tobytes())
    expected.update(b"b|(1,)|torch.float32|" + np.array([1], np.float32).tobytes())
    assert state_hash(state) == expected.hexdigest()


def test_the_hash_sees_shape_type_and_name():
    base = state_hash({"a": torch.zeros(4)})
    assert (
        len(
            {
                base,
                state_hash({"a": torch.zeros(2, 2)}),
                state_hash({"b": torch.zeros(4)}),
                state_hash({"a": torch.zeros(2, dtype=torch.float64)}),
            }
        )
        == 4
    )
