"""VLMEvalKit, as far as it is known without importing it."""

from collections.abc import Sequence

from redundancy_eval import files
from redundancy_eval.model_wrappers.hosts.vlmevalkit.folder import data_root
from redundancy_eval.model_wrappers.sweeps.route import Route
from redundancy_eval.sample import Sample
from redundancy_eval.usage import Parser


class VlmEvalKit:
    """See `sweeps.route.Framework`."""

    name = "vlmevalkit"
    out_flag = "--work-dir"
    some_flags = "--data, --limit"
    one_may_fail = True

    def versions(self) -> dict[str, str]:
        """Versions of what answers and scores."""
        from redundancy_eval.model_wrappers.hosts import run_record
        from redundancy_eval.model_wrappers.hosts.vlmevalkit import record

        return {**run_record.versions({}), **record.version()}

    def deciding_files(self, arguments: Sequence[str]) -> dict[str, str]:
        """Hashes of the data sets' files that are there."""
        parser = Parser(allow_abbrev=False, add_help=False)
        parser.add_argument("--data", nargs="+", default=[])
        paths = {name: data_root() / f"{name}.tsv" for name in parser.parse_known_args(list(arguments))[0].data}
        return {name: files.sha256(path) for name, path in paths.items() if path.is_file()}

    def route(self, arguments: Sequence[str], batch_size: str, sample: Sample | None = None) -> Route:
        """Its side of a sweep.

        Raises:
            SetupError: it is not installed, or its arguments make no sense here.
        """
        from redundancy_eval import environment

        with environment.needed("sweep", self.name):
            from redundancy_eval.model_wrappers.hosts.vlmevalkit.route import VlmEvalKitRoute

        return VlmEvalKitRoute(arguments, batch_size, sample)
