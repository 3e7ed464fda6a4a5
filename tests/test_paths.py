"""Files are whole or not there, whoever else writes them at the same time."""

import threading

import pytest

from restyle_lib.paths import save_atomically


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path):
    path, ready, errors = tmp_path / "file", threading.Barrier(4), []

    def write(temporary, text: str) -> None:
        temporary.write_text(text)
        ready.wait(5)  # all have written, none has moved its file yet
        assert temporary.read_text() == text

    def save(text: str) -> None:
        try:
            save_atomically(lambda temporary: write(temporary, text), path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(letter * 1000,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and path.read_text() in {letter * 1000 for letter in "abcd"}
    assert list(tmp_path.iterdir()) == [path]


def test_names_as_long_as_a_file_system_takes_them(tmp_path):
    path = tmp_path / ("n" * 255)
    save_atomically(lambda temporary: temporary.write_text("whole"), path)
    assert path.read_text() == "whole"


def test_nothing_is_left_of_what_failed(tmp_path):
    def fails(temporary) -> None:
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        save_atomically(fails, tmp_path / "file")
    assert not list(tmp_path.iterdir())
