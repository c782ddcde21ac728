"""How many threads a container's quota admits."""

import os

import pytest

from redundancy_eval import cores


@pytest.fixture
def groups(tmp_path):
    """Writes control groups: files below the mount, and the lines of /proc/self/cgroup."""

    def write(lines, **files):
        own, system = tmp_path / "own", tmp_path / "cgroup"
        own.write_text("".join(f"{line}\n" for line in lines))
        for place, text in files.items():
            path = system / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cores.quota(system, own)

    return write


def test_a_container_sees_its_own_group_as_the_top(groups):
    assert groups(["0::/"], **{"cpu.max": "250000 100000\n"}) == 2.5


def test_the_tightest_of_the_groups_around_counts(groups):
    files = {"job/cpu.max": "150000 100000\n", "job/step/cpu.max": "max 100000\n", "other/cpu.max": "1000 100000\n"}
    assert groups(["0::/job/step"], **files) == 1.5


def test_version_1(groups):
    lines = ["9:name=systemd:/", "4:memory:/docker/abc", "2:cpu,cpuacct:/docker/abc", "3:cpuset:/", "0::/"]
    files = {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert groups(lines, **files) == 4  # the path outside of the container is not there
    files = {"cpu/docker/abc/cpu.cfs_quota_us": "50000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}
    assert groups(lines, **files) == 0.5


@pytest.mark.parametrize(
    "files",
    [{}, {"cpu.max": "max 100000\n"}, {"cpu.max": "nonsense\n"}, {"cpu.max": ""}],
    ids=["nothing", "no limit", "nonsense", "empty"],
)
def test_no_limit_is_none(groups, files):
    assert groups(["0::/"], **files) is None
    minus = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert groups(["1:cpu:/"], **minus) is None


def test_elsewhere_than_linux_nothing_is_known(tmp_path):
    assert cores.quota(tmp_path / "none", tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("granted", "set_before", "threads"),
    [(2.5, None, "3"), (0.5, None, "1"), (2.5, "5", "5"), (8.0, None, None), (None, None, None)],
)
def test_openmp_gets_what_is_granted(monkeypatch, granted, set_before, threads):
    environment = {cores.THREADS: set_before} if set_before else {}
    monkeypatch.setattr(cores, "quota", lambda: granted)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "environ", environment)
    cores.heed_quota()
    assert environment.get(cores.THREADS) == threads
