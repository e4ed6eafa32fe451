"""The recipe's ranges, its options, and the growing input."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.cli import DataError
from training.recipe import Recipe, add_arguments, from_arguments


def parse(*options: str) -> Recipe:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_arguments(parser.parse_args(options))


def test_every_field_is_an_option_with_the_same_default() -> None:
    assert parse() == Recipe()
    assert parse("--input_size", "48", "64", "--augmentation=crops") == Recipe(
        input_size=(48, 64), augmentation="crops"
    )


@pytest.mark.parametrize("field", [field.name for field in fields(Recipe)])
def test_help_explains_every_field(field: str) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert f"--{field}" in parser.format_help()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 1, "--batch_size must be at least 2"),
        ("input_size", (64, 31), "--input_size must be at least 32"),
        ("input_size", (), "--input_size must be at least 32"),
        ("input_size", (32,) * 31, "--input_size has 31 sizes for 30 epochs"),
        ("learning_rate", float("inf"), "--learning_rate must be a number"),
        ("class_weight", -0.1, "--class_weight must lie between 0 and 1"),
        ("seed", 2**32, "--seed must lie between 0 and 4294967295"),
    ],
)
def test_out_of_range(field: str, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Recipe(**{field: value})


@given(st.lists(st.integers(32, 300), min_size=1, max_size=6), st.integers(1, 60))
def test_sizes_share_the_epochs_evenly(sizes: list[int], epochs: int) -> None:
    if len(sizes) > epochs:
        return
    recipe = Recipe(input_size=tuple(sizes), epochs=epochs)
    at = [recipe.size_at(epoch) for epoch in range(1, epochs + 1)]
    assert at[0] == sizes[0]
    assert at[-1] == sizes[-1]
    runs = [1]
    for before, size in itertools.pairwise(at):
        runs = [*runs[:-1], runs[-1] + 1] if before == size else [*runs, 1]
    if len(set(sizes)) == len(sizes):
        assert max(runs) - min(runs) <= 1
