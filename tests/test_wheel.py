"""The wheel holds all that works offline: models, tokenizers, policies, cards and notices."""

from pathlib import Path

import pytest

wheel = pytest.importorskip("hatchling.builders.wheel")

ROOT = Path(__file__).parent.parent
MODELS = ["all-minilm-l6-v2", "laconic-tiny"]
OF_A_MODEL = ["MODEL_CARD.md", "config.json", "model.safetensors", "tokenizer.json"]
MOST_BYTES = 64_000_000  # what package indexes and people on slow lines still take kindly


@pytest.fixture(scope="module")
def built():
    return wheel.WheelBuilder(str(ROOT))


@pytest.fixture(scope="module")
def files(built):
    """What the wheel will hold: its path there -> the file here."""
    return {one.distribution_path: Path(one.path) for one in built.recurse_included_files()}


def test_every_model_travels_with_tokenizer_configuration_and_card(files):
    found = {path for path in files if path.startswith("proxy/scorers/models/")}
    assert found == {f"proxy/scorers/models/{m}/{f}" for m in MODELS for f in OF_A_MODEL}


def test_every_policy_and_every_file_of_the_package_travels(files):
    policies = {f"proxy/_policies/{path.name}" for path in (ROOT / "policies").glob("*.yaml")}
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "proxy").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set(files) == policies | package


def test_licence_and_notice_travel(built):
    assert sorted(built.metadata.core.license_files) == ["LICENSE", "NOTICE"]
    notice = (ROOT / "NOTICE").read_text("utf-8")
    assert [name for name in MODELS if name.casefold() not in notice.casefold()] == []


def test_the_package_is_small_enough_to_be_fetched(files):
    weights = ROOT / "proxy/scorers/models/laconic-tiny/model.safetensors"
    assert weights.stat().st_size <= 30_000_000
    assert sum(path.stat().st_size for path in files.values()) <= MOST_BYTES
