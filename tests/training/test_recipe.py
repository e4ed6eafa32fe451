"""The recipe's ranges, its options, and the growing input."""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.paths import ROOT
from training.cli import DataError
from training.recipe import Recipe, add_arguments, from_arguments, from_record, read_file


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
        ("augmentation", "strokes", "--preprocessing crop goes with --augmentation none, crops, full"),
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


def test_ink_is_not_cropped() -> None:
    with pytest.raises(DataError, match="--preprocessing ink goes with --augmentation none, strokes"):
        Recipe(preprocessing="ink")
    assert Recipe(architecture="small_cnn", preprocessing="ink", augmentation="strokes", input_size=(28,)).epochs == 30
    with pytest.raises(DataError, match="--input_size must be at least 16"):
        Recipe(architecture="small_cnn", input_size=(15,))


def test_a_file_gives_the_fields_it_names(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("epochs: 3 # few\ninput_size: [48, 64]\nlearning_rate: 1\naugmentation: crops\n")
    assert from_record(read_file(file)) == Recipe(
        epochs=3, input_size=(48, 64), learning_rate=1.0, augmentation="crops"
    )
    file.write_text(json.dumps(asdict(Recipe(seed=7))))  # as --tune writes it
    assert from_record(read_file(file)) == Recipe(seed=7)


@pytest.mark.parametrize("file", sorted((ROOT / "training" / "recipes").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_repositorys_own_recipes_are_good(file: Path) -> None:
    assert from_record(read_file(file)) != Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have one 'name: value' per line"),
        ("- epochs", "must have one 'name: value' per line"),
        ("a: [", "cannot be read"),
        ("epoch: 3", "has unknown names: epoch; known are architecture"),
        ("epochs: ten", "epochs must be int, not 'ten'"),
        ("epochs: 1.5", "epochs must be int, not 1.5"),
        ("seed: true", "seed must be int, not True"),
        ("learning_rate: [1]", r"learning_rate must be float, not \[1\]"),
        ("augmentation: all", "augmentation must be one of none, crops, full, strokes, not 'all'"),
        ("augmentation: [none]", "augmentation must be one of"),
        ("input_size: 32", "input_size must be tuple"),
        ("input_size: [a]", "input_size must be tuple"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_file(tmp_path / "recipe.yaml")
    with pytest.raises(DataError, match=r"missing\.yaml cannot be read"):
        read_file(tmp_path / "missing.yaml")
