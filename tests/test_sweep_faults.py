"""Sweeps that are killed, interrupted, crowded out or out of disk, for real: nothing is lost, nothing is wrong."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from sweep_processes import HERE, computed, files, finish, start, wait_until, write_config

from toymodel import cli, sweep
from toymodel.sweep import config
from toymodel.sweep.runner import missing, tasks
from toymodel.sweep.store import Store

KILLS = 50 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 8
SHARDS = 100


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A sweep of 100 shards, run in one go and in this process: its configuration and its files."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    path = write_config(folder, seeds=500)
    sweep.run(config.load(path), folder / "out")
    assert len(files(folder / "out")) == SHARDS
    return path, files(folder / "out")


def resume(path, out):
    """The command with --resume, in this process."""
    return cli.main(["sweep", str(path), "--out", str(out), "--resume"])


def assert_sound(out, capsys, told=""):
    assert cli.main(["sweep", "--verify", str(out)]) == 0
    assert told in capsys.readouterr().out


def test_killed_at_random_points_it_ends_with_the_same_table(uninterrupted, tmp_path, capsys):
    path, expected = uninterrupted
    rng, out, kills, found = random.Random(0), tmp_path / "0", 0, set()
    while kills < KILLS:
        if len(files(out)) > 0.8 * len(expected):  # on a fast machine; there must be work left to be killed in
            assert_ends_well(path, out, expected, capsys)
            out = tmp_path / str(kills)
        before = files(out)
        process = start(path, "--out", out, "--resume", "--devices", 1)
        # From any moment of the start to well into the writing; then at once, wherever it is.
        until = time.monotonic() + (60 if rng.random() < 0.8 else rng.uniform(0, 1.5))
        while files(out) == before and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.03))
        os.killpg(process.pid, signal.SIGKILL)
        kills += finish(process)[0] == -signal.SIGKILL  # not if it was done already
        found.add((out, len(files(out))))
    assert len(found) > KILLS / 2
    assert_ends_well(path, out, expected, capsys)


def assert_ends_well(path, out, expected, capsys):
    assert resume(path, out) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "4,000 settings are in" in told.out
    assert files(out) == expected
    assert_sound(out, capsys, f"4,000 settings in {SHARDS} files")
    assert not list(out.rglob(".*.part"))  # what the killed ones had begun was removed
    assert not (out / "set_aside").exists()  # no file was ever there in part


def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(uninterrupted, tmp_path, capsys):
    path, expected = uninterrupted
    out = tmp_path / "out"
    process = start(path, "--out", out, "--devices", 1)
    wait_until(lambda: files(out) or process.poll() is not None)
    os.kill(process.pid, signal.SIGINT)
    code, stdout, err = finish(process)
    assert code == 130
    assert stdout == ""
    assert f"toymodel sweep {path} --out {out} --resume" in err
    assert "Traceback" not in err
    done = files(out)
    assert 0 < len(done) < len(expected)
    assert done < expected
    assert_sound(out, capsys)
    assert cli.main(["sweep", str(path), "--out", str(out)]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert resume(path, out) == 0
    assert files(out) == expected


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A sweep of 32 shards that take a twentieth of a second each."""
    folder = tmp_path_factory.mktemp("slow")
    path = write_config(folder, seeds=32, shard_size=8, experiment="slow_experiment:SLOW")
    sweep.run(config.load(path), folder / "out")
    return path, files(folder / "out")


def stop_with_a_shard_in_hand(process, wanted, out):
    store = Store.open(out)
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        for task in tasks(missing(wanted, store)):
            with store.claim(task.name) as free:
                if not free:
                    return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.02)


@pytest.mark.parametrize("then", [signal.SIGCONT, signal.SIGKILL])
def test_two_processes_share_a_folder_and_a_claim_dies_with_its_process(then, slow, tmp_path, capsys):
    path, expected = slow
    out = tmp_path / "out"
    first = start(path, "--out", out, "--devices", 1)
    wait_until(lambda: len(files(out)) >= 3 or first.poll() is not None)
    stop_with_a_shard_in_hand(first, config.load(path), out)
    before = len(files(out))

    def wake_or_kill():
        wait_until(lambda: len(files(out)) >= len(expected) - 1)
        time.sleep(0.3)  # this process waits for the last shard, or would have computed it by now
        first.send_signal(then)

    helper = threading.Thread(target=wake_or_kill)
    helper.start()
    sweep.run(config.load(path), out)
    helper.join()
    code = finish(first)[0]
    assert files(out) == expected
    by_first, by_second = computed(out)  # in the order in which they began
    if then == signal.SIGKILL:
        assert code == -signal.SIGKILL
        assert by_second == 256 - 8 * before
    else:
        assert code == 0
        assert by_first >= 8 * before > 0
        assert by_first + by_second == 256  # neither computed what the other did
    assert_sound(out, capsys, "256 settings in 32 files")


def in_a_small_file_system(size, script):
    """Run a shell script with a file system of `size` on /mnt, in a mount namespace of its own."""
    mount = f"mount -t tmpfs -o size={size} none /mnt && {script}"
    own = ["unshare", "--map-root-user", "--mount"] if os.getuid() else ["unshare", "--mount"]
    return subprocess.run([*own, "sh", "-c", mount], capture_output=True, text=True, check=False)


@pytest.mark.skipif(
    not shutil.which("unshare") or in_a_small_file_system("64k", "true").returncode != 0,
    reason="this machine allows no mount namespaces",
)
def test_a_full_disk_is_told_and_nothing_is_lost(uninterrupted, tmp_path, capsys):
    path, expected = uninterrupted
    sweep_command = (
        f"PYTHONPATH={HERE} {sys.executable} -m toymodel.cli sweep {path} --out /mnt/out --devices 1 --resume"
    )
    # Half of the table fits; what was written is taken out, and the sweep goes on where there is room.
    done = in_a_small_file_system("400k", f"{sweep_command}; code=$?; cp -r /mnt/out {tmp_path}; exit $code")
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "--resume" in done.stderr
    assert done.stderr.count("\n") == 1
    out = tmp_path / "out"
    assert 0 < len(files(out)) < len(expected)
    assert_sound(out, capsys)
    assert resume(path, out) == 0
    assert files(out) == expected


def test_the_table_is_the_same_on_two_devices(uninterrupted, tmp_path):
    path, expected = uninterrupted
    assert finish(start(path, "--out", tmp_path / "out", "--devices", 2))[0] == 0
    assert files(tmp_path / "out") == expected


def test_the_table_does_not_depend_on_how_it_is_cut(uninterrupted, tmp_path):
    path, _ = uninterrupted
    whole = sweep.run(config.load(path), path.parent / "out").collect()
    cut = config.load(write_config(tmp_path, seeds=500, shard_size=350))
    assert sweep.run(cut, tmp_path / "out").collect().equals(whole)
    assert len(files(tmp_path / "out")) == 12
