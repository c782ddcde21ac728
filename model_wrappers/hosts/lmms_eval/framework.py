"""lmms-eval, as far as it is known without importing it."""

from collections.abc import Sequence
from pathlib import Path

from redundancy_eval import files
from redundancy_eval.model_wrappers.sweeps.route import Route
from redundancy_eval.sample import Sample
from redundancy_eval.usage import Parser


class LmmsEval:
    """See `sweeps.route.Framework`."""

    name = "lmms-eval"
    out_flag = "--output_path"
    some_flags = "--tasks, --limit"
    one_may_fail = False

    def versions(self) -> dict[str, str]:
        """Versions of what answers and scores."""
        from redundancy_eval.model_wrappers.hosts import run_record

        return run_record.versions({"lmms-eval": "lmms_eval"})

    def deciding_files(self, arguments: Sequence[str]) -> dict[str, str]:
        """Hashes of the user's own tasks, in the folder of `--include_path`."""
        parser = Parser(allow_abbrev=False, add_help=False)
        parser.add_argument("--include_path", type=Path)
        root = parser.parse_known_args(list(arguments))[0].include_path
        if root is None or not root.is_dir():
            return {}
        mine = [path for path in files.below(root) if "__pycache__" not in path.parts and not path.name.startswith(".")]
        return {path.relative_to(root).as_posix(): files.sha256(path) for path in mine if path.is_file()}

    def route(self, arguments: Sequence[str], batch_size: str, sample: Sample | None = None) -> Route:
        """Its side of a sweep.

        Raises:
            SetupError: it is not installed, or its arguments make no sense here.
        """
        from redundancy_eval import environment

        with environment.needed("sweep", self.name):
            from redundancy_eval.model_wrappers.hosts.lmms_eval.route import LmmsEvalRoute

        # Without samples nothing could be checked or paired between masks.
        logged = [] if "--log_samples" in arguments else ["--log_samples"]
        return LmmsEvalRoute([*arguments, *logged], batch_size, sample)
