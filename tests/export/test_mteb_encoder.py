"""A model as an encoder of mteb, whose retrieval evaluator ranks as our own does."""

import numpy as np
import pytest

import cl2cm
from cl2cm.errors import ConfigError
from cl2cm.export.load import load
from cl2cm.export.mteb_encoder import MtebEncoder
from fixtures import world

INSTALL = "pip install 'cl2cm[mteb]'"


@pytest.fixture(scope="module")
def model(exports):
    return load(exports / "fp32")


def test_batches_of_texts_images_and_both(model):
    encoder = MtebEncoder(model)
    images = [world.draw("red", "bar", 0), world.draw("blue", "cross", 1)]
    texts = ["red bar", "blue cross"]
    text, image = model.encode_text(texts), model.encode_visual(images)
    found = encoder.encode(
        [{"text": texts}, {"image": images}], task_metadata=None, hf_split="test"
    )
    np.testing.assert_allclose(found, np.concatenate([text, image]), atol=1e-6)
    both = encoder.encode([{"text": texts, "image": images}])
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((both * text).sum(1), (both * image).sum(1), atol=1e-5)
    assert encoder.encode([]).shape == (0, 32)
    with pytest.raises(ConfigError, match="text or image"):
        encoder.encode([{"audio": []}])


def test_empty_texts_have_zeros(model):
    found = MtebEncoder(model).encode([{"text": ["", "red bar", " \u200b"]}])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [0, 1, 0], atol=1e-6)


def test_scores_are_dot_products(model):
    vectors = model.encode_text(["red bar", "blue cross", "red circle"])
    encoder = MtebEncoder(model)
    np.testing.assert_allclose(encoder.similarity(vectors, vectors), vectors @ vectors.T, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity_pairwise(vectors, vectors), np.ones(3), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_the_retrieval_evaluator_of_mteb_finds_the_images(model, small, tmp_path):
    mteb = pytest.importorskip("mteb", reason=INSTALL)
    datasets = pytest.importorskip("datasets", reason=INSTALL)
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    examples = [e for e in cl2cm.read_manifest(small.manifest) if e.split == "test"]
    texts = [example.captions["xx"][0] for example in examples]
    vectors = model.encode_text(texts) @ model.encode_visual(examples).T
    ranks = (vectors > np.diag(vectors)[:, None]).sum(1)

    class Task(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="SmallWorld",
            description="Captions of the small world",
            type="Any2AnyRetrieval",
            category="t2i",
            modalities=["text", "image"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="hit_rate_at_1",
            dataset={"path": "none/none", "revision": "1"},
        )
        k_values = (1, 5)

        def load_data(self, **_):
            images = [self.read(example.path) for example in examples]
            names = [example.id for example in examples]
            split = {
                "queries": datasets.Dataset.from_dict({"id": names, "text": texts}),
                "corpus": datasets.Dataset.from_dict(
                    {"id": names, "image": images},
                    features=datasets.Features(
                        {"id": datasets.Value("string"), "image": datasets.Image()}
                    ),
                ),
                "relevant_docs": {name: {name: 1} for name in names},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

        @staticmethod
        def read(path):
            return {"bytes": path.read_bytes(), "path": None}

    encoder = MtebEncoder(model)
    found = mteb.evaluate(encoder, Task(), cache=None, show_progress_bar=False, num_proc=None)
    scores = found.task_results[0].scores["test"][0]
    assert scores["hit_rate_at_1"] == pytest.approx((ranks == 0).mean(), abs=1e-3)
    assert scores["recall_at_5"] == pytest.approx((ranks < 5).mean(), abs=1e-3)
    assert found.model_name == "cl2cm/fp32"
