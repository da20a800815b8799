"""The trainings of the demo, two of them in a second process."""

import pytest
import torch
from safetensors.torch import load_file

import cl2cm.cli.demo
from cl2cm.cli.demo import METHODS, STAGES, train_all
from cl2cm.errors import CL2CMError
from cl2cm.training.loop import train


@pytest.fixture
def configs(settings):
    short = {"epochs": 1, "log_to": []}
    return {method: settings(method, train=short) for method in METHODS}


def test_a_second_process_trains_what_one_does(configs, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(cl2cm.cli.demo, "_processors", lambda: 2)
    train_all(configs, tmp_path / "runs")
    news = capfd.readouterr().err
    assert "zero-shot, cross-modal" not in news  # its process is silent
    assert "cl2cm, cross-modal" in news
    for method, config in configs.items():
        train(config, tmp_path / "alone" / method)
        one, other = (
            load_file(tmp_path / folder / method / "model.safetensors")
            for folder in ("alone", "runs")
        )
        assert all(torch.equal(value, other[key]) for key, value in one.items()), method
    train_all(configs, tmp_path / "runs")  # again: all are finished
    assert capfd.readouterr().err.count("is finished already") == len(METHODS)


def test_an_error_of_the_second_process_is_raised_here(configs, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(cl2cm.cli.demo, "_processors", lambda: 2)
    missing = settings("zero-shot", data={"manifest": str(tmp_path / "none.jsonl")})
    with pytest.raises(CL2CMError, match=r"none\.jsonl"):
        train_all(configs | {"zero-shot": missing}, tmp_path / "runs")
    assert (tmp_path / "runs" / "cl2cm" / "provenance.json").exists()


def test_each_stage_says_what_it_does_and_how_long_it_takes():
    assert all(text.endswith(")") and "(" in text for text in STAGES.values())
