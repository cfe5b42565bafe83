"""A model whose files are links to files of somebody else's does not carry these into an export."""

import shutil
from pathlib import Path

import pytest

from tools.errors import InputError
from tools.export.directories import copy_text_files


def test_a_link_out_of_a_model_is_not_followed(sources: dict[str, Path], tmp_path: Path) -> None:
    model = shutil.copytree(sources["llama-tied"], tmp_path / "model")
    (tmp_path / "private").write_text('{"key": 1}')
    (model / "added_tokens.json").symlink_to(tmp_path / "private")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"added_tokens\.json is a link to .*private, outside of the model"):
        copy_text_files(model, tmp_path / "out")
    assert not (tmp_path / "out" / "added_tokens.json").exists()


def test_links_of_the_hubs_cache_are(sources: dict[str, Path], tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0" / ""
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(sources["llama-tied"], blobs)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    (tmp_path / "out").mkdir()
    copy_text_files(snapshot, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (blobs / "tokenizer.json").read_bytes()
    assert not (tmp_path / "out" / "tokenizer.json").is_symlink()
    # The model itself may be a link.
    (tmp_path / "named").symlink_to(sources["llama-tied"])
    (tmp_path / "second").mkdir()
    copy_text_files(tmp_path / "named", tmp_path / "second")
    assert (tmp_path / "second" / "tokenizer.json").is_file()
