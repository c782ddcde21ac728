"""What jobs of other processes left behind: their exit codes, and what they said."""

import re
import socket


def free_port():
    """A port at which processes can meet, as text."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


class Outcomes:
    """The files of jobs, written by offline_sweep.py or offline_vlmevalkit.py into one folder."""

    def __init__(self, jobs):
        self.jobs = jobs
        jobs.mkdir()

    def codes(self, name):
        """Exit codes of a job's command lines."""
        return [int(line.split()[0]) for line in (self.jobs / f"{name}.codes").read_text().splitlines()]

    def said(self, name, number=0, stream="err"):
        return (self.jobs / f"{name}.{number}.{stream}").read_text(encoding="utf-8", errors="replace")

    def error(self, name, number=0):
        """The one line that tells why a command failed."""
        found = re.findall(r"redundancy-eval(?: \w+)?: error: (.*)", self.said(name, number))
        assert len(found) == 1, self.said(name, number)[-3000:]
        return found[0]

    def done(self, name):
        """Fail unless all of a job's command lines ended well."""
        codes = self.codes(name)
        assert set(codes) == {0}, (codes, self.said(name, len(codes) - 1)[-3000:])
