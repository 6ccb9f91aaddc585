"""Files nobody vouches for: what a configuration or a container must not ask for."""

from __future__ import annotations

import copy
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from model_files import (
    Config,
    layer,
    members_of,
    refused,
    small_model,
    with_attribute,
    with_config,
    with_weights,
    write_archive,
    write_good_files,
)
from nnprune.keras_io.load import load_model
from nnprune.keras_io.scan import FileKind, look


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good_files(tmp_path_factory.mktemp("models"))


@pytest.fixture
def archive(folder: Path) -> Path:
    return folder / "good.keras"


def test_real_lambda_is_refused_and_loads_with_trust(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Lambda(lambda x: 2 * x, output_shape=(3,), name="twice")]
    )
    for suffix in ("keras", "h5"):
        path = tmp_path / f"lambda.{suffix}"
        model.save(path)
        message = refused(path)
        assert "layer 'twice'" in message
        assert "'Lambda'" in message
        assert "--trust" in message
        loaded = load_model(look(path, trust=True), trust=True)
        np.testing.assert_array_equal(loaded(np.ones((1, 3), np.float32)), [[2, 2, 2]])


def get_file(kind: str) -> Config:
    if kind == "function":
        inner: Any = "get_file"
        return {"module": "keras.utils", "class_name": kind, "config": inner}
    return {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "x"}}


GADGETS: dict[str, Config] = {
    "function": get_file("function"),
    "function as a class": get_file("class"),
    "dotted class": {"module": "keras", "class_name": "utils.get_file", "config": {}},
    "dotted module": {"module": "keras.layers..utils", "class_name": "Dense", "config": {}},
    "other module": {"module": "os", "class_name": "function", "config": "system"},
    "class of another module": {"module": "os", "class_name": "System", "config": {}},
    "module that only begins alike": {"module": "kerasx", "class_name": "Dense", "config": {}},
    "builtin": {"module": "builtins", "class_name": "function", "config": "exec"},
    "class of builtins": {"module": "builtins", "class_name": "Exec", "config": {}},
    "loader": {"module": "keras.models", "class_name": "function", "config": "load_model"},
    "setting": {
        "module": "keras.config",
        "class_name": "function",
        "config": "enable_unsafe_deserialization",
    },
    "source": {"module": "keras.src.utils.file_utils", "class_name": "GetFile", "config": {}},
    "saving": {"module": "keras.saving", "class_name": "KerasFileEditor", "config": {}},
    "bytecode": {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
    "type": {"class_name": "__typespec__", "config": [], "spec_name": "X", "module": "keras"},
    "custom class": {
        "module": "my_package",
        "class_name": "Mine",
        "config": {},
        "registered_name": "my_package>Mine",
    },
    "custom name of a class of Keras": {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {},
        "registered_name": "my_package>Dense",
    },
    "no module": {"module": None, "class_name": "Mine", "config": {}, "registered_name": "Mine"},
    "class name of another kind": {"module": "keras", "class_name": ["Dense"], "config": {}},
}


@pytest.mark.parametrize("gadget", GADGETS.values(), ids=GADGETS)
def test_foreign_object_as_activation_is_refused(
    archive: Path, tmp_path: Path, gadget: Config
) -> None:
    def change(config: Config) -> None:
        layer(config, "hidden")["config"]["activation"] = copy.deepcopy(gadget)

    path = with_config(archive, tmp_path / "gadget.keras", change)
    message = refused(path)
    assert "layer 'hidden'" in message
    assert "trust=True" in message


def test_trust_lets_a_foreign_object_pass(archive: Path, tmp_path: Path) -> None:
    def change(config: Config) -> None:
        layer(config, "hidden")["config"]["activation"] = copy.deepcopy(GADGETS["custom class"])

    path = with_config(archive, tmp_path / "custom.keras", change)
    refused(path)
    assert look(path, trust=True).kind is FileKind.KERAS


@pytest.mark.parametrize(
    "class_name",
    ["Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"],
)
def test_layer_that_runs_code_is_refused(folder: Path, tmp_path: Path, class_name: str) -> None:
    def change(config: Config) -> None:
        layer(config, "flat")["class_name"] = class_name

    archive = with_config(folder / "good.keras", tmp_path / "code.keras", change)
    hdf5 = with_attribute(folder / "good.h5", tmp_path / "code.h5", "model_config", change)
    for path in (archive, hdf5):
        assert f"layer 'flat' is of the class '{class_name}'" in refused(path)


def test_foreign_object_is_found_at_any_depth(archive: Path, tmp_path: Path) -> None:
    def change(config: Config) -> None:
        value: Any = get_file("function")
        for _ in range(40):
            value = [{"class_name": "__slice__", "config": {"start": value}}]
        layer(config, "scores")["config"]["kernel_constraint"] = value

    assert "layer 'scores'" in refused(with_config(archive, tmp_path / "deep.keras", change))


def test_foreign_object_in_the_compile_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    def compile_config(config: Config) -> None:
        config["compile_config"]["loss"] = get_file("function")

    def training_config(config: Config) -> None:
        config["loss"] = get_file("function")

    archive = with_config(folder / "good.keras", tmp_path / "a.keras", compile_config)
    hdf5 = with_attribute(folder / "good.h5", tmp_path / "a.h5", "training_config", training_config)
    for path in (archive, hdf5):
        assert "compile settings calls the function 'get_file'" in refused(path)


@pytest.mark.parametrize("class_name", ["StringLookup", "IntegerLookup", "TextVectorization"])
def test_vocabulary_from_a_file_is_refused(tmp_path: Path, class_name: str) -> None:
    words: list[Any] = [1, 2] if class_name == "IntegerLookup" else ["one", "two"]
    dtype = "int64" if class_name == "IntegerLookup" else "string"
    lookup = getattr(keras.layers, class_name)(vocabulary=words, name="words")
    model = keras.Sequential([keras.Input((1,), dtype=dtype), lookup])
    model.save(tmp_path / "good.keras")
    look(tmp_path / "good.keras")  # words within the file are fine

    def change(config: Config) -> None:
        layer(config, "words")["config"]["vocabulary"] = "/etc/passwd"

    path = with_config(tmp_path / "good.keras", tmp_path / "file.keras", change)
    assert "layer 'words' reads its vocabulary from the file '/etc/passwd'" in refused(path)


def test_escape_codes_in_names_are_not_printed(archive: Path, tmp_path: Path) -> None:
    def change(config: Config) -> None:
        layer(config, "flat")["class_name"] = "Lambda"
        layer(config, "flat")["config"]["name"] = "\x1b[2J\n" + "x" * 5000

    assert len(refused(with_config(archive, tmp_path / "a.keras", change))) < 500


@pytest.mark.parametrize("trust", [False, True])
def test_more_parameters_than_the_file_holds_are_refused(
    folder: Path, tmp_path: Path, trust: bool
) -> None:
    def wide(config: Config) -> None:
        layer(config, "hidden")["config"]["units"] = 10**9

    def long(config: Config) -> None:
        # Two layers of moderate width, whose product is not.
        for name in ("hidden", "scores"):
            layer(config, name)["config"]["units"] = 10**6
            layer(config, name).pop("build_config", None)

    def embedding(config: Config) -> None:
        layer(config, "flat").update(class_name="Embedding")
        layer(config, "flat")["config"].update(input_dim=10**6, output_dim=10**6)

    for number, change in enumerate((wide, long, embedding)):
        archive = with_config(folder / "good.keras", tmp_path / f"{number}.keras", change)
        hdf5 = with_attribute(folder / "good.h5", tmp_path / f"{number}.h5", "model_config", change)
        for path in (archive, hdf5):
            assert "but the file holds" in refused(path, trust=trust)


def test_custom_model_class_with_layers_needs_trust(archive: Path, tmp_path: Path) -> None:
    def change(config: Config) -> None:
        config.update(class_name="Mine", module="my_package", registered_name="my_package>Mine")

    path = with_config(archive, tmp_path / "mine.keras", change)
    assert "'Mine' is custom" in refused(path)
    assert look(path, trust=True).stored_parameters > 0


@pytest.mark.parametrize(
    "name", ["evil.py", "../config.json", "/etc/cron.d/x", "assets/../../x", "C:\\x", "a\\..\\b"]
)
@pytest.mark.parametrize("trust", [False, True])
def test_unknown_member_is_refused(archive: Path, tmp_path: Path, name: str, trust: bool) -> None:
    path = write_archive(tmp_path / "a.keras", members_of(archive) | {name: b"x"})
    assert "which no Keras model has" in refused(path, trust=trust)


def test_asset_needs_trust(archive: Path, tmp_path: Path) -> None:
    members = members_of(archive) | {"assets/layers/words/vocabulary.txt": b"a\nb"}
    path = write_archive(tmp_path / "a.keras", members)
    assert "the asset 'assets/layers/words/vocabulary.txt'" in refused(path)
    assert look(path, trust=True).kind is FileKind.KERAS


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_double_member_is_refused(archive: Path, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.keras", members_of(archive))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", b"{}")
    assert "'config.json' twice" in refused(path, trust=True)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "metadata.json"])
def test_zip_bomb_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, contents in members_of(archive).items():
            file.writestr(member, bytes(70 << 20) if member == name else contents)
    assert path.stat().st_size < 1 << 20
    assert "a zip bomb" in refused(path, trust=True)


def test_repacked_archive_is_fine(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "packed.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, contents in members_of(archive).items():
            file.writestr(member, contents)
    model = load_model(look(path))
    assert model.count_params() == small_model().count_params()


def external_link(file: h5py.File) -> None:
    file["more"] = h5py.ExternalLink("/etc/other.h5", "/x")


def soft_link(file: h5py.File) -> None:
    file["more"] = h5py.SoftLink("/vars")


def second_name(file: h5py.File) -> None:
    file["more"] = file[next(iter(file))]


def cycle(file: h5py.File) -> None:
    file[next(iter(file))]["more"] = file["/"]


def external_data(file: h5py.File) -> None:
    file.create_dataset("more", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual_data(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (4,))
    file.create_virtual_dataset("more", layout)


def shape_bomb(file: h5py.File) -> None:
    file.create_dataset("more", (10**6, 10**6), "f4", chunks=(1000, 1000), compression="gzip")


def many_small_bombs(file: h5py.File) -> None:
    for number in range(20):
        file.create_dataset(f"more{number}", (10**6,), "f4", chunks=(1000,))


TRICKS: dict[Callable[[h5py.File], None], str] = {
    external_link: r"is a link \(ExternalLink\)",
    soft_link: r"is a link \(SoftLink\)",
    second_name: "second name",
    cycle: "second name",
    external_data: "is external",
    virtual_data: "is virtual",
    shape_bomb: "shape bomb",
    many_small_bombs: "shape bomb",
}


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: str(trick.__name__))
def test_hdf5_that_points_out_or_swells_is_refused(
    folder: Path, tmp_path: Path, trick: Callable[[h5py.File], None]
) -> None:
    hdf5 = tmp_path / "trick.h5"
    hdf5.write_bytes((folder / "good.h5").read_bytes())
    with h5py.File(hdf5, "r+") as file:
        trick(file)
    archive = with_weights(folder / "good.keras", tmp_path / "trick.keras", trick)
    for path in (hdf5, archive):
        assert re.search(TRICKS[trick], refused(path, trust=True))
