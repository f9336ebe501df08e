"""Every example runs as a program, as a user runs it, and does what it says.

Of the many ways to refuse bad input only one is tried as a program: the others run in the process
of the test, which has imported everything already.
"""

from __future__ import annotations

import gzip
import os
import runpy
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

import sqlstore

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
Grey = NDArray[np.uint8]


@pytest.fixture(scope="module")
def digits() -> tuple[Grey, Grey]:
    source = load_digits()
    return (source.images * 15).astype(np.uint8), source.target.astype(np.uint8)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs an example in an empty folder and returns what it prints."""

    def run(name: str, *arguments: str) -> str:
        done = _start(name, tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def _start(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def _refused(name: str, folder: Path, *arguments: str) -> str:
    """Run an example that must refuse to go on, and return its message."""
    done = _start(name, folder, *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def refused_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what does the same without another process."""

    def refused_here(name: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(EXAMPLES)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        # Python prints a text to stderr and exits with 1.
        assert isinstance(caught.value.code, str)
        return caught.value.code

    return refused_here


def _check_picture(path: Path, images: int) -> None:
    """Check that a contact sheet shows something in the place of each of so many images."""
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("L"))
    top = 64  # the heading
    rows, columns = -(-images // 10), 10
    height, width = (pixels.shape[0] - top) // rows, (pixels.shape[1] - 14) // columns
    assert (pixels[:top] < 60).any(), "no title"
    for place in range(images):
        y, x = top + place // 10 * height, 14 + place % 10 * width
        dark = (pixels[y : y + 84, x : x + 84] < 120).mean()
        assert 0.02 < dark < 0.6, f"image {place}"
        assert (pixels[y + 86 : y + 106, x : x + 84] < 180).any(), f"caption {place}"


def _run_commands(output: str, folder: Path) -> None:
    """Run the shell commands that an example shows at its end."""
    shown = output.partition("The index is a plain SQLite file")[2].splitlines()
    commands = [line.strip() for line in shown if line.startswith("  ")]
    assert len(commands) == 4
    if shutil.which("sqlite3") is None:
        commands = [command for command in commands if not command.startswith("sqlite3")]
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=folder, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command


# quickstart


def test_quickstart_makes_the_store_it_is_told_to(run: Callable[..., str], tmp_path: Path) -> None:
    output = run("quickstart.py", "waves")
    assert "200 records in waves" in output
    assert "10 fast sine waves" in output
    assert "100 per second, (1000,) values of float64" in output
    assert "[{'shape': 'sine', 'n': 100}, {'shape': 'square', 'n': 100}]" in output
    with sqlstore.open(tmp_path / "waves") as store:
        wave = store.where("shape = 'sine' AND hertz = 7")[0]
        expected = np.sin(2 * np.pi * 7 * (np.arange(1_000) / 1_000))
        assert np.array_equal(wave["signal"], expected)
        assert wave["note"] == "7 per second"
        report = store.verify()
        assert report, report


def test_quickstart_without_a_path_makes_a_new_store_every_time(
    run: Callable[..., str], tmp_path: Path
) -> None:
    run("quickstart.py")
    run("quickstart.py")
    assert len(list(tmp_path.glob("*/waves/index.sqlite"))) == 2


# digits


def test_digits_stores_every_digit_and_can_be_run_again(
    run: Callable[..., str], tmp_path: Path, digits: tuple[Grey, Grey]
) -> None:
    first = run("digits.py")
    output = run("digits.py")
    assert "Removing" not in first
    assert "Removing what this example made before: build/demo/digits" in output
    assert "committed the ids 0 to 1796" in output
    assert "99 of 1,797 digits" in output
    assert "all 99 have been, and every image equals its source" in output
    assert "store.verify(): no faults in 1,797 records" in output
    for label, count in enumerate(np.bincount(digits[1])):
        assert f"\n     {label}     {count} " in output
    _check_picture(tmp_path / "build/demo/contact-sheet.png", 99)

    with sqlstore.open(tmp_path / "build/demo/digits") as store:
        for record, image, label in zip(store, *digits, strict=True):
            assert np.array_equal(record["image"], image)
            assert record["label"] == label
            assert record["ink"] == np.float32(image.mean())
            assert record["split"] == ("train" if record["number"] < 898 else "test")
        report = store.verify()
        assert report, report


def test_the_commands_that_digits_shows_work(
    run: Callable[..., str], tmp_path: Path, digits: tuple[Grey, Grey]
) -> None:
    output = run("digits.py", "a demo")
    _run_commands(output, tmp_path)
    with Image.open(tmp_path / "first.png") as image:
        assert np.array_equal(np.asarray(image), digits[0][0])


@pytest.mark.parametrize("name", ["digits/index.sqlite", "contact-sheet.png"])
def test_digits_leaves_alone_what_it_did_not_make(
    refused_here: Callable[..., str], tmp_path: Path, name: str
) -> None:
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    assert "nothing was touched" in refused_here("digits.py", "mine")
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "precious"


def test_digits_does_not_follow_a_link_to_a_store_of_its_own(tmp_path: Path) -> None:
    sqlstore.create(tmp_path / "first" / "digits", [{"n": 1}]).close()
    (tmp_path / "first" / "digits" / ".made-by-an-example").touch()
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "digits").symlink_to(tmp_path / "first" / "digits")
    assert "nothing was touched" in _refused("digits.py", tmp_path, "second")
    with sqlstore.open(tmp_path / "first" / "digits") as store:
        assert len(store) == 1


# mnist


def _idx(array: Grey) -> bytes:
    """Return an array as an IDX file."""
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def _write_pair(folder: Path, prefix: str, images: Grey, labels: Grey) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(labels)))


def test_mnist_stores_the_complete_pair_and_says_what_it_skips(
    run: Callable[..., str], tmp_path: Path, digits: tuple[Grey, Grey]
) -> None:
    images, labels = digits[0][:500], digits[1][:500]
    _write_pair(tmp_path / "idx", "t10k", images, labels)
    (tmp_path / "idx" / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(labels)))
    outputs = [run("mnist.py", "idx") for _ in range(2)]
    for output in outputs:
        assert "train: skipped, its images are not in idx" in output
        assert "test: 500 images of 8 x 8 pixels" in output
        counts = " ".join(str(count) for count in np.bincount(labels))
        assert f"labels: 0 1 2 3 4 5 6 7 8 9\nimages: {counts}\n" in output
        assert "read all 500 back" in output
        assert "every image equals its source" in output
        assert "verify: no faults in 500 records" in output
    assert "Removing what this example made before: build/mnist" in outputs[1]
    _check_picture(tmp_path / "build/mnist-contact-sheet.png", 100)

    with sqlstore.open(tmp_path / "build/mnist") as store:
        assert np.array_equal([record["image"] for record in store], images)
        assert store.get(key="test/00123")["label"] == labels[123]
        report = store.verify()
        assert report, report
    _run_commands(outputs[1], tmp_path)


def test_mnist_stores_both_pairs_and_images_of_any_size(
    run: Callable[..., str], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (30, 5, 90), np.uint8)
    test = random.integers(0, 256, (20, 5, 90), np.uint8)
    _write_pair(tmp_path / "idx", "train", train, np.full(30, 7, np.uint8))
    _write_pair(tmp_path / "idx", "t10k", test, np.full(20, 255, np.uint8))
    for file in (tmp_path / "idx").iterdir():  # as some have unpacked them
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    output = run("mnist.py", "idx", "somewhere/store")
    assert "skipped" not in output
    assert "labels: 7 255\nimages: 30 20\n" in output
    with sqlstore.open(tmp_path / "somewhere/store") as store:
        stored = [record["image"] for record in store.where("split = 'train'")]
        assert np.array_equal(stored, train)
        stored = [record["image"] for record in store.where("split = 'test'")]
        assert np.array_equal(stored, test)
    assert (tmp_path / "somewhere/store-contact-sheet.png").is_file()


LABELS = _idx(np.zeros(4, np.uint8))
IMAGES = _idx(np.zeros((4, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, b"", "is not an IDX file: it begins with nothing"),
        (b"\x89PNG\r\n\x1a\n", LABELS, "is not an IDX file: it begins with 89 50 4e 47"),
        (b"\0\0\x0d\x03" + IMAGES[4:], LABELS, "holds elements of type 0x0d"),
        (IMAGES[:9], LABELS, "ends within its header of 3 dimensions"),
        (b"\0\0\x08\0", LABELS, "ends within its header of 0 dimensions"),
        (IMAGES[:-1], LABELS, "should hold 4 x 2 x 3 = 24 bytes, but has 23"),
        (IMAGES + b"\0", LABELS, "should hold 4 x 2 x 3 = 24 bytes, but has 25"),
        (gzip.compress(IMAGES)[:-9], LABELS, "cannot read"),
        (gzip.compress(IMAGES)[:-8] + b"\0" * 8, LABELS, "cannot read"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 20, LABELS, "cannot read"),
        (IMAGES, _idx(np.zeros(3, np.uint8)), "do not belong together"),
        (LABELS, LABELS, "do not belong together"),
    ],
    ids=[
        "empty",
        "not IDX",
        "of floats",
        "cut in its header",
        "of no dimensions",
        "too short",
        "too long",
        "gzip cut short",
        "gzip with a wrong checksum",
        "gzip with damaged data",
        "another number of labels",
        "images that are labels",
    ],
)
def test_mnist_says_what_is_wrong_with_a_file_and_makes_no_store(
    refused_here: Callable[..., str], tmp_path: Path, images: bytes, labels: bytes, message: str
) -> None:
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(images)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(labels)
    error = refused_here("mnist.py", ".", "store")
    assert message in error
    assert "t10k-" in error
    assert not (tmp_path / "store").exists()


def test_mnist_says_that_there_is_nothing_to_store(tmp_path: Path) -> None:
    assert "holds no images together with their labels" in _refused("mnist.py", tmp_path, ".")


# parallel_writers


def test_four_writers_at_once_lose_nothing(run: Callable[..., str], tmp_path: Path) -> None:
    output = run("parallel_writers.py")
    assert output.count(": 1,000 records committed") == 4
    assert "all 4,000 records are under the ids their writers were given" in output
    assert "verify: no faults in 4,000 records, 4,000 values" in output
    with sqlstore.open(tmp_path / "build/parallel") as store:
        counted = store.sql("SELECT writer, count(DISTINCT number) AS n FROM records GROUP BY 1")
        assert counted.to_pydict() == {"writer": [0, 1, 2, 3], "n": [1000] * 4}
        commits = store.sql("SELECT records FROM commits WHERE records > 0")["records"].to_pylist()
        assert commits == [100] * 40
        report = store.verify()
        assert report, report
