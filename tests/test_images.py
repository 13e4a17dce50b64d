"""Images, and many numbers: the wide vector they make, by every way in, to the bit."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import OnlineClassifier, OnlineRegressor, arrays, wide
from engine.encoders import filters, patches, picture, random_units
from engine.encoders.fields import FeatureError
from engine.layout import MANY, SENSED

ROWS = 220


def drawn(shape: tuple[int, ...] = (12, 12), n: int = ROWS, seed: int = 0) -> tuple[Any, list[int]]:
    """n noisy images uint8 of three classes: a bar that stands, lies, or goes across; and their labels."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 60, (n, *shape)), rng.integers(0, 3, n).tolist()
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(1, min(shape[:2]) - 2)
        if label == 0:
            image[:, at] += 150
        elif label == 1:
            image[at] += 150
        else:
            image[range(min(shape[:2])), range(min(shape[:2]))] += 150
    return images.astype(np.uint8), labels


def classifier(**options: Any) -> OnlineClassifier:
    return OnlineClassifier(**{"layers": 1, "width": 8, "trees": False, "memory_budget": 1 << 20, **options})


def one_by_one(
    model: OnlineClassifier, images: Any, labels: list[int], name: Any = 0
) -> list[dict[Any, float]]:
    said = []
    for image, label in zip(images, labels, strict=True):
        said.append(model.predict_proba_one({name: image}))
        model.learn_one({name: image}, label)
    return said


def as_array(said: list[dict[Any, float]], classes: tuple[Any, ...]) -> Any:
    return np.array([[row.get(label, 0.0) for label in classes] for row in said])


@pytest.fixture(scope="module")
def learned() -> OnlineClassifier:
    model = classifier()
    model.test_then_train(*drawn())
    return model


@pytest.mark.parametrize("shape", [(12, 12), (8, 21), (12, 10, 3)])
def test_images_in_arrays_are_the_dicts_with_the_image_under_0(shape: tuple[int, ...]) -> None:
    images, labels = drawn(shape)
    a, b = classifier(), classifier()
    said = a.test_then_train(images, labels)
    assert said.tobytes() == as_array(one_by_one(b, images, labels), b.classes_).tobytes()
    assert a.predict_proba(images[:5]).tobytes() == b.predict_proba(images[:5]).tobytes()
    each = as_array([b.predict_proba_one({0: image}) for image in images[:5]], b.classes_)
    assert a.predict_proba(images[:5]).tobytes() == each.tobytes()


def test_the_length_of_inner_chunks_does_not_matter_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = drawn()
    whole = classifier().test_then_train(images, labels)
    for size in (1, 7):
        monkeypatch.setattr(arrays, "CHUNK", size)
        monkeypatch.setattr(arrays, "CHUNK_WIDE", size)
        assert classifier().test_then_train(images, labels).tobytes() == whole.tobytes()


def test_events_that_stand_ready_together_are_as_one_by_one() -> None:
    images, labels = drawn()
    a, b = classifier(), classifier()
    said = one_by_one(a, images, labels)
    chunk, answers, together = b.chunk(size=8), [], 0
    for image, label in zip(images, labels, strict=True):
        if chunk.add({0: image}, label):
            continue
        answers += [one.answer for one in chunk.learn()]
        if not chunk.add({0: image}, label):
            answers += one_by_one(b, [image], [label])
        else:
            together += 1
    answers += [one.answer for one in chunk.learn()]
    assert together > 5
    assert as_array(answers, a.classes_).tobytes() == as_array(said, a.classes_).tobytes()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_type_of_pixels_does_not_matter(kind: Any) -> None:
    images, labels = drawn()
    said = classifier().test_then_train(images, labels)
    assert classifier().test_then_train(images.astype(kind), labels).tobytes() == said.tobytes()


def test_the_unit_of_pixels_hardly_matters() -> None:
    images, labels = drawn(n=400)
    said = classifier().test_then_train(images, labels)
    scaled = classifier().test_then_train(images / 255.0, labels)
    assert np.mean(said.argmax(axis=1) == scaled.argmax(axis=1)) > 0.98


def test_the_wide_vector_is_what_tells_images_apart(learned: OnlineClassifier) -> None:
    images, labels = drawn(n=300, seed=1)
    assert (
        np.mean(learned.predict_proba(images).argmax(axis=1) == [learned.classes_.index(y) for y in labels])
        > 0.9
    )


def test_a_channel_axis_of_one_is_the_same_image(learned: OnlineClassifier) -> None:
    image = drawn()[0][0]
    assert learned.predict_proba_one({0: image}) == learned.predict_proba_one({0: image[:, :, None]})


def test_maps_are_made_once_and_have_an_id(learned: OnlineClassifier) -> None:
    maps = learned._core.wide
    assert maps.size == filters.NUMBERS
    assert not maps.early
    assert len(maps.id) == 32
    again = copy.deepcopy(learned)
    again.test_then_train(*drawn(seed=2))
    other = classifier()
    other.test_then_train(*drawn(seed=3))
    assert again._core.wide.id == maps.id != other._core.wide.id
    assert classifier()._core.wide.id == ""


def test_early_images_are_kept_with_their_labels_until_the_map_is_made() -> None:
    images, labels = drawn()
    model = classifier()
    started: list[wide.Started] = []
    model._core._start_wide = started.append  # type: ignore[method-assign]
    late = [model.forecast_one({0: image}) for image in images[:3]]
    for forecast in late:
        model.observe(forecast)
    model.test_then_train(images[3 : wide.IMAGES], labels[3 : wide.IMAGES])
    assert model._core.wide.size == 0
    assert not started
    model.learn(late[0], labels[0])
    model.learn_one({0: images[wide.IMAGES]}, labels[wide.IMAGES])
    assert model._core.wide.size == filters.NUMBERS
    assert started[0].targets.tolist() == [
        model.classes_.index(y) for y in [labels[0], *labels[3 : wide.IMAGES]]
    ]
    model.learn(late[1], labels[1])
    fresh = model.forecast_one({0: images[1]})
    dim = model._core.dim
    assert (
        late[1].record[dim.at_wide : dim.at_tried].tobytes()
        == fresh.record[dim.at_wide : dim.at_tried].tobytes()
    )
    assert fresh.record[SENSED] == late[1].record[SENSED] == 1.0


def test_labels_that_come_at_once_or_through_kept_forecasts_teach_the_same() -> None:
    images, labels = drawn()
    a, b = classifier(), classifier()
    one_by_one(a, images, labels)
    for image, label in zip(images, labels, strict=True):
        b.learn(b.forecast_one({0: image}), label)
    assert a.predict_proba(images[:9]).tobytes() == b.predict_proba(images[:9]).tobytes()


@pytest.mark.parametrize("n", [40, wide.IMAGES, ROWS])
def test_saved_pickled_and_copied_learners_go_on_to_the_bit(n: int, tmp_path: Path) -> None:
    images, labels = drawn()
    model = classifier()
    model.test_then_train(images[:n], labels[:n])
    waiting = [model.forecast_one({0: image}) for image in images[:2]]
    for forecast in waiting:
        model.observe(forecast)
    model.save(tmp_path / "model")
    copies = [
        OnlineClassifier.load(tmp_path / "model"),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    ]
    more, known = drawn(seed=4)
    packed, _ = model.pack(waiting)
    kept = [other.unpack(packed, {}) for other in copies]
    for other, theirs in [(model, waiting), *zip(copies, kept, strict=True)]:
        other.test_then_train(more, known)
        for forecast, label in zip(theirs, labels, strict=False):
            other.learn(forecast, label)
    said = model.predict_proba(more[:20]).tobytes()
    assert [other.predict_proba(more[:20]).tobytes() for other in copies] == [said] * 3


def test_a_missing_image_is_zeros_and_noted_and_the_event_is_learned(learned: OnlineClassifier) -> None:
    model = copy.deepcopy(learned)
    for x in ({}, {0: np.full((12, 12), np.nan)}):
        forecast = model.forecast_one(x)
        dim = model._core.dim
        there = forecast.record[dim.at_wide : dim.at_tried].view(np.float32)
        assert sum(forecast.proba.values()) == pytest.approx(1.0)
        assert np.isfinite(there).all()
        assert forecast.record[SENSED] == 0.0
        assert not there.any()
        model.learn(forecast, 0)


def test_pixels_that_are_missing_hardly_change_what_the_others_say() -> None:
    images = drawn(n=130)[0].astype(np.float32)[:, None]
    made = filters.learn(np.ascontiguousarray(images), 0)
    space = filters.space_for(images)
    whole, some, nothing = (np.zeros(filters.NUMBERS, np.float32) for _ in range(3))
    filters.answer(made, images[0], space, whole)
    holed = images[0].copy()
    holed[0, 3, 4] = np.nan
    filters.answer(made, holed, space, some)
    filters.answer(made, np.full_like(holed, np.nan), space, nothing)
    again = np.zeros_like(whole)
    filters.answer(made, images[0], space, again)
    assert again.tobytes() == whole.tobytes()
    assert np.corrcoef(whole, some)[0, 1] > 0.9
    assert np.isfinite(nothing).all()


def test_patch_features_are_what_plain_numpy_makes_of_them() -> None:
    images = np.ascontiguousarray(drawn((12, 13, 2), n=130)[0].astype(np.float32).transpose(0, 3, 1, 2))
    images[5, 1, 2, 3] = np.nan
    made = filters.learn(images, 3)
    side = made.filters.shape[2]
    for image in images[4:6]:
        scaled = np.clip((image - made.range[0]) / made.range[1], -1.0, 2.0).astype(np.float64)
        rows, columns = image.shape[1] - side + 1, image.shape[2] - side + 1
        answers = np.zeros((filters.FILTERS, rows, columns))
        for top in range(rows):
            for left in range(columns):
                patch = scaled[:, top : top + side, left : left + side]
                there = ~np.isnan(patch)
                v = np.where(there, patch - patch[there].mean(), 0.0)
                v /= np.sqrt((v**2).sum() / there.sum() + 0.01)
                answers[:, top, left] = (made.filters[..., :side] * v).sum(axis=(1, 2, 3))
        over = np.maximum(answers - made.threshold[:, None, None], 0.0)
        cuts = [[part * size // 3 for part in range(4)] for size in (rows, columns)]
        pooled = [
            over[:, a:b, c:d].sum(axis=(1, 2))
            for a, b in zip(cuts[0], cuts[0][1:], strict=False)
            for c, d in zip(cuts[1], cuts[1][1:], strict=False)
        ]
        expected = (np.stack(pooled, axis=1).ravel() - made.mean) / made.deviation
        out = np.zeros(filters.NUMBERS, np.float32)
        filters.answer(made, image, filters.space_for(images), out)
        assert np.allclose(out, np.clip(expected, -filters.LOUDEST, filters.LOUDEST), atol=2e-3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.zeros((12, 13)), r"shape \(12, 13\).*expected \(12, 12\).*resize"),
        (np.zeros((12, 12, 3)), r"shape \(12, 12, 3\).*expected \(12, 12\)"),
        (np.zeros(144), r"shape \(144,\).*expected an image.*\(12, 12\).*name of their own"),
        (np.full((12, 12), "a"), "expected numbers"),
    ],
)
def test_an_image_of_another_shape_is_refused(learned: OnlineClassifier, wrong: Any, says: str) -> None:
    with pytest.raises(FeatureError, match=says):
        learned.predict_one({0: wrong})
    if wrong.ndim > 1 and wrong.dtype.kind == "f":
        with pytest.raises(FeatureError, match=says):
            learned.predict_proba(wrong[None])


def test_small_arrays_and_fields_of_flat_numbers_stay_flat() -> None:
    model = classifier()
    for i in range(5):
        model.learn_one({"small": np.full((7, 9), i), "list": list(range(100))}, i % 2)
        model.learn_one({"square": [0.0] * 81}, i % 2)
        model.learn_one({"square": np.zeros((9, 9))}, i % 2)
    assert model.counters()["features"] == 63 + 100 + 81
    assert not model._core.fields.images


def test_an_image_forecast_before_the_first_one_of_another_shape_was_observed_has_its_thumbnail_alone() -> (
    None
):
    images, labels = drawn()
    model = classifier()
    first, other = model.forecast_one({0: images[0]}), model.forecast_one({0: drawn((10, 14))[0][0]})
    model.learn(first, labels[0])
    model.learn(other, labels[1])
    model.test_then_train(images, labels)
    assert model._core.sizes.wide == filters.NUMBERS
    assert model.counters()["labels"] == ROWS + 2


def test_large_images_are_shrunk_and_thumbnails_are_means() -> None:
    image = np.arange(200.0 * 150.0).reshape(200, 150)
    planes, bad = picture.planes(image)
    assert planes.shape == (1, 50, 37)
    assert bad == 0
    assert planes[0, 0, 0] == image[:4, :4].mean()
    cells = picture.thumbnail(planes)
    assert len(cells) == 25
    assert cells[0] == pytest.approx(planes[0, :10, :7].mean())
    assert len(picture.thumbnail(picture.planes(np.zeros((9, 9, 3)))[0])) == 12


def test_infinite_pixels_are_missing_and_counted() -> None:
    images, labels = drawn(n=6)
    there = images.astype(float)
    there[1, 0, 0] = np.inf
    a, b = classifier(), classifier()
    a.test_then_train(there, labels)
    one_by_one(b, there, labels)
    assert a.counters()["infinite_values"] == b.counters()["infinite_values"] == 1


def test_two_image_fields_make_one_wide_vector_and_a_third_its_thumbnail() -> None:
    images, labels = drawn(n=300)
    model = classifier()
    names = ("left", "right", "third")
    for i, label in enumerate(labels):
        there = names if i % 2 else names[::-1]
        model.learn_one({name: np.roll(images[i], k) for k, name in enumerate(there)} | {"n": 1.0}, label)
    core = model._core
    assert core.sizes.wide == 2 * filters.NUMBERS
    assert core.wide.order == ["left", "right"]
    forecast = model.forecast_one({"right": images[0]})
    assert forecast.record[SENSED] == 0.5
    assert core.sizes.features == 3 * 25 + 1
    loaded = OnlineClassifier.from_state(*model.state())
    assert loaded.predict_proba_one({"left": images[3]}) == model.predict_proba_one({"left": images[3]})


def test_forgetting_an_event_takes_its_image_from_those_that_are_kept() -> None:
    images, labels = drawn(n=4)
    model = classifier()
    for i in range(4):
        model.learn_one({0: images[i]}, labels[i], id=f"e{i}")
    assert len(model._core.wide.early) == 4
    assert model.forget("e1") == 1
    assert [event.id for event in model._core.wide.early] == ["e0", "e2", "e3"]


def test_an_explanation_of_an_image_has_experts_and_recalled_experiences(learned: OnlineClassifier) -> None:
    told = learned.explain_one({0: drawn()[0][0]})
    assert told["recalled"]
    assert sum(told["forecast"].values()) == pytest.approx(1.0)


def test_a_number_is_learned_from_images() -> None:
    images, _ = drawn(n=300)
    targets = images.mean(axis=(1, 2)).astype(float)
    model = OnlineRegressor(layers=1, width=8, trees=False, memory_budget=1 << 20)
    said = model.test_then_train(images, targets)
    assert np.abs(said[200:] - targets[200:]).mean() < 0.7 * np.abs(targets[200:] - targets.mean()).mean()
    assert model.predict(images[:1])[0] == model.predict_one({0: images[0]})


# -- many numbers -------------------------------------------------------------------------------------------


def numbers(d: int = MANY + 8, n: int = 300, seed: int = 0) -> tuple[Any, list[int]]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-2, 3, d) + rng.integers(-5, 5, d)
    X[rng.random(X.shape) < 0.02] = np.nan
    return X, (np.nan_to_num(X[:, :4]).sum(axis=1) > 0).astype(int).tolist()


def test_many_numbers_in_arrays_of_any_length_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = numbers()
    a, b, c = classifier(), classifier(), classifier()
    said = a.test_then_train(X, y)
    answers = []
    for row, label in zip(X, y, strict=True):
        x = dict(enumerate(row.tolist()))
        answers.append(b.predict_proba_one(x))
        b.learn_one(x, label)
    assert said.tobytes() == as_array(answers, b.classes_).tobytes()
    assert a._core.sizes.wide == 2_048
    assert a._core.sizes.many
    assert len(a._core.wide.id) == 32
    monkeypatch.setattr(arrays, "CHUNK_WIDE", 7)
    assert c.test_then_train(X, y).tobytes() == said.tobytes()


def test_up_to_128_numbers_make_no_wide_vector() -> None:
    X, y = numbers(MANY)
    model = classifier()
    model.test_then_train(X, y)
    assert model._core.sizes.wide == 0
    assert not model._core.sizes.many
    assert model._core.wide.id == ""


def test_what_was_stored_is_recalled_once_features_have_become_many() -> None:
    X, y = numbers(MANY, n=120)
    model = classifier()
    model.test_then_train(X, y, ids=list(range(120)))
    more = {j: float(j) for j in range(MANY, MANY + 6)}
    waiting = model.forecast_one({j: float(v) for j, v in enumerate(X[0])})
    model.observe(waiting)
    model.learn_one(more, 1)
    core = model._core
    assert core.sizes.many
    assert core.dim.contexts == 1
    assert core.state.near.place[1] == 121
    found = model.explain_one({j: float(v) for j, v in enumerate(X[60])})["recalled"]
    assert found[0]["id"] == 60
    model.learn(waiting, y[0])
    assert waiting.learned
    loaded = OnlineClassifier.from_state(*model.state())
    x = dict(enumerate(X[5].tolist()))
    assert loaded.predict_proba_one(x) == model.predict_proba_one(x)


def test_a_learner_of_before_with_many_features_reads_on() -> None:
    X, y = numbers(MANY, n=40)
    model = classifier()
    model.test_then_train(X, y)
    waiting = [model.forecast_one({j: float(v) for j, v in enumerate(row)}) for row in X[:3]]
    tensors, meta = model.state()
    packed, _ = model.pack(waiting)
    old = {name: array for name, array in tensors.items() if name != "brief" and not name.startswith("wide.")}
    before = {name: meta["sizes"][name] for name in ("features", "outputs", "keys", "categories")}
    fields = {name: value for name, value in meta["fields"].items() if name != "images"}
    loaded = OnlineClassifier.from_state(old, {**meta, "sizes": before, "fields": fields})
    kept = loaded.unpack({**packed, "sizes": packed["sizes"][:, :4]}, {})
    for theirs, ours, label in zip(kept, waiting, y, strict=False):
        loaded.learn(theirs, label)
        model.learn(ours, label)
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()


def test_random_units_are_what_plain_numpy_makes_of_them() -> None:
    rows = numbers(130)[0]
    rows[:, 7] = 3.0
    made, x = random_units.learn(rows, 2), rows[4].copy()
    size = made.signs.shape[2]
    hadamard = np.ones((1, 1))
    while len(hadamard) < size:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    z = np.zeros(size)
    there = ~np.isnan(x) & (made.spread > 0)
    z[:130][there] = np.clip((x - made.mean)[there] / made.spread[there], -4.0, 4.0)
    said = []
    for one, two, three in made.signs.astype(np.float64):
        said.append(hadamard @ (three * (hadamard @ (two * (hadamard @ (one * z))))))
    expected = np.maximum(made.scale * np.concatenate(said)[: random_units.UNITS] + made.offset, 0.0)
    space, out = np.zeros((2, size), np.float32), np.zeros(random_units.UNITS, np.float32)
    random_units.answer(*made, x, space[0], space[1], out)
    assert np.allclose(out, expected, atol=1e-4)
    assert z[7] == 0.0
    assert made.spread[7] == np.median(np.delete(made.spread, 7))
    assert 0.3 < out[out > 0].mean() < 3.0


def test_a_feature_that_begins_to_vary_later_is_read() -> None:
    rows = numbers(130)[0]
    rows[:, 7] = 3.0
    made = random_units.learn(rows, 2)
    said = []
    for value in (3.0, 3.0 + made.spread[7], 1e9, np.nan):
        x, space = rows[4].copy(), np.zeros((2, made.signs.shape[2]), np.float32)
        x[7] = value
        said.append(np.zeros(random_units.UNITS, np.float32))
        random_units.answer(*made, x, space[0], space[1], said[-1])
    usual, more, far, missing = said
    assert np.abs(more - usual).max() > 0.01
    assert np.isfinite(far).all()
    np.testing.assert_array_equal(missing, usual)
    still = random_units.learn(np.full((9, 130), 2.0), 2)
    assert not still.spread.any()


def test_the_kernels_of_maps_are_compiled_by_warmup_and_once() -> None:
    wide.warmup()
    classifier().test_then_train(*drawn((60, 61, 3), n=140))
    classifier().test_then_train(*numbers())
    kernels = [patches.whitened, patches.clustered, patches.respond, patches.product, patches.unwhitened]
    kernels += [picture.shrink, picture.average, random_units.answer]
    assert [len(kernel.signatures) for kernel in kernels] == [1] * len(kernels)
