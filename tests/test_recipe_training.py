"""The recipe's first minute: twenty steps, a checkpoint that converts and agrees; runs and their ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from recipe_music import SHAPE, VOCAB, build_made_corpus, make_trainer

from weights.recipe.vocabulary import TOKENIZER


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return build_made_corpus(tmp_path_factory.mktemp("work"))


def test_twenty_steps_lower_the_loss_and_the_checkpoint_converts_and_agrees(work, tmp_path):
    torch = pytest.importorskip("torch")
    mx = pytest.importorskip("mlx.core")
    from convert.export import export
    from mlxgen.model.load import load

    trainer = make_trainer(work, tmp_path / "run")
    before = trainer.validate()
    trainer.run()
    assert trainer.state["val_loss"] < 0.75 * before
    folder = export(tmp_path / "run" / "final.pt", TOKENIZER, tmp_path / "folder")
    model, _ = load(folder, dtype="float32")
    ids = np.random.default_rng(0).integers(0, len(VOCAB), (2, 60))
    with torch.no_grad():
        expected = trainer.model.eval()(torch.from_numpy(ids)).numpy()
    assert np.abs(np.array(model(mx.array(ids.astype(np.int32)))) - expected).max() < 1e-4
    keeps_how_to_draw(tmp_path / "run" / "final.pt", tmp_path / "shipped")


def keeps_how_to_draw(checkpoint: Path, folder: Path) -> None:
    from weights.recipe.ship import ship

    ship(checkpoint, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "generation": {"temperature": 0.7}}))
    ship(checkpoint, folder)
    config = json.loads(path.read_text())
    assert config["generation"] == {"temperature": 0.7}
    assert config["model_type"] == "mlxgen" and (folder / config["model_file"]).is_file()


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_that_was_terminated_goes_on_as_if_it_had_not_been(work, tmp_path, optimizer):
    torch = pytest.importorskip("torch")
    whole = make_trainer(work, tmp_path / "whole", steps=6, optimizer=optimizer)
    whole.run()
    first = make_trainer(work, tmp_path / "cut", steps=6, optimizer=optimizer)
    take = first.step

    def step_then_terminate(progress):
        loss = take(progress)
        if first.state["step"] == 3:
            signal.raise_signal(signal.SIGTERM)
        return loss

    first.step = step_then_terminate
    first.run()
    assert first.state["step"] == 3
    second = make_trainer(work, tmp_path / "cut", steps=6, optimizer=optimizer)
    second.run()
    for name, weight in whole.model.state_dict().items():
        assert torch.allclose(weight, second.model.state_dict()[name], atol=1e-6), name
    lines = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6


def test_positions_are_dropped_from_a_trained_model_and_the_folder_says_so(work, tmp_path):
    pytest.importorskip("torch")
    from convert.export import export
    from mlxgen.model.config import ModelConfig
    from weights.recipe.schedule import Settings
    from weights.recipe.train import Trainer

    make_trainer(work, tmp_path / "with", steps=2).run()
    config = ModelConfig(vocab_size=len(VOCAB), drope=True, train_seq_len=96, **SHAPE)
    settings = Settings(steps=2, tokens_per_step=512)
    recalibrated = Trainer(
        settings, config, work, tmp_path / "without", VOCAB, tmp_path / "with" / "final.pt"
    )
    assert recalibrated.state["step"] == 0
    recalibrated.run()
    folder = export(tmp_path / "without" / "final.pt", TOKENIZER, tmp_path / "folder")
    data = json.loads((folder / "config.json").read_text())
    assert (data["drope"], data["train_seq_len"]) == (True, 96)


def test_the_schedule_warms_stays_and_falls_and_the_crops_grow():
    from weights.recipe.schedule import DECAY_FROM, Settings, crop_length, learning_rate

    settings = Settings(lr=1.0)
    assert learning_rate(settings, 0, 0.0) < 0.02
    assert learning_rate(settings, 1000, DECAY_FROM) == 1.0
    assert 0 < learning_rate(settings, 1000, 1.0) < 0.05
    lengths = [crop_length(step, step / 100, 256, 4096) for step in range(101)]
    assert lengths[0] == 256
    assert max(lengths) == 2048
    assert crop_length(0, 0.0, 512, 4096) == 512
    assert crop_length(99, 0.99, 256, 128) == 128


def test_orthogonalised_matrices_have_singular_values_near_one():
    torch = pytest.importorskip("torch")
    from weights.recipe.optim import orthogonalised

    for shape in ((32, 128), (128, 32)):
        torch.manual_seed(0)
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)).float())
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_checkpoints_are_averaged_by_name_and_mismatches_refused():
    torch = pytest.importorskip("torch")
    from weights.recipe.average import average

    first, second = {"a": torch.tensor([0.0, 2.0])}, {"a": torch.tensor([4.0, 2.0])}
    assert average(first, second, 0.25)["a"].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="shapes"):
        average(first, {"a": torch.zeros(3)}, 0.5)
    with pytest.raises(ValueError, match="b is in one"):
        average(first, {**second, "b": torch.zeros(1)}, 0.5)
    with pytest.raises(ValueError, match="share 2"):
        average(first, second, 2)


def test_an_unknown_optimizer_is_named():
    torch = pytest.importorskip("torch")
    from weights.recipe.optim import make_optimizers

    with pytest.raises(ValueError, match="sgd"):
        make_optimizers(torch.nn.Linear(2, 2), "sgd", 0.1, 0.0)


def test_the_scale_of_longer_contexts_is_the_one_that_the_port_applies(work, tmp_path):
    torch = pytest.importorskip("torch")
    mx = pytest.importorskip("mlx.core")
    from convert.export import export
    from mlxgen.model.config import ModelConfig
    from mlxgen.model.load import load
    from weights.recipe.likelihood import load_torch, with_scale
    from weights.recipe.schedule import Settings
    from weights.recipe.train import Trainer

    config = ModelConfig(vocab_size=len(VOCAB), drope=True, train_seq_len=16, **SHAPE)
    trainer = Trainer(Settings(steps=2, tokens_per_step=256), config, work, tmp_path / "run", VOCAB)
    trainer.run()
    folder = export(tmp_path / "run" / "final.pt", TOKENIZER, tmp_path / "folder")
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data | {"drope_scale_c": 0.4}))
    ids = np.random.default_rng(0).integers(0, len(VOCAB), (1, 90))
    with torch.no_grad():
        plain = load_torch(tmp_path / "run" / "final.pt").eval()
        expected = with_scale(plain, 0.4, 16)(torch.from_numpy(ids)).numpy()
        unscaled = load_torch(tmp_path / "run" / "final.pt").eval()(torch.from_numpy(ids)).numpy()
    found = np.array(load(folder, dtype="float32")[0](mx.array(ids.astype(np.int32))))
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(unscaled - expected).max() > 1e-3


