"""The command line as a whole: one parser, spellings of flags, `-o` everywhere, help that teaches, what passes on."""

import subprocess
import sys

import pytest

from redundancy_eval import cli, usage
from redundancy_eval.leniency import KINDS
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.hosts.frameworks import FRAMEWORKS
from redundancy_eval.model_wrappers.sweeps import masks, settings

MODEL = ["--model", "eagle_masked"]
WRITING = {
    "report": ["runs"],
    "calibrate": [*MODEL, "--model_args", "pretrained=demo", "--images", "."],
    "demo": [],
    "run": MODEL,
    "sweep": MODEL,
    "plan": MODEL,
    "vlmevalkit": [*MODEL, "--data", "MME"],
    "cost": MODEL,
    "prune": [*MODEL, "--model_args", "pretrained=demo,drop=clip"],
    "explain": [*MODEL, "--task", "gqa"],
}
ALIASES = {
    "run": ["--output_path", "--output-path"],
    "sweep": ["--output_path", "--output-path", "--work-dir", "--work_dir"],
    "plan": ["--output_path", "--work-dir"],
    "vlmevalkit": ["--work-dir", "--work_dir"],
}


def helped(capsys, *command):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def flags(command):
    """The options of a command's parser."""
    (commands,) = (action for action in cli.parser()._actions if action.dest == "==SUPPRESS==" and action.choices)
    parser = commands.choices[command]
    parser.format_help()  # which makes it whole
    return parser


@pytest.mark.parametrize("command", cli.NAMES)
def test_every_flag_is_understood_with_both_kinds_of_bars(command):
    parser = flags(command)
    names = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    assert "--help" in names
    for name in names:
        for spelling in (name[2:].replace("-", "_"), name[2:].replace("_", "-")):
            assert parser._option_string_actions[f"--{spelling}"] is parser._option_string_actions[name], name
    shown = parser.format_help()
    both = [n for n in names if "_" in n and n.replace("_", "-") in shown] if command != "vlmevalkit" else []
    assert not [n for n in both if n != f"--{n[2:].replace('_', '-')}"], "the help shows one spelling"


@pytest.mark.parametrize("command", WRITING)
def test_what_is_written_goes_where_o_says(command):
    for name in ("-o", "--out", *ALIASES.get(command, ())):
        args, rest = cli.parser().parse_known_args([command, *WRITING[command], name, "there"])
        assert args.out == "there" and rest == [], name


@pytest.mark.parametrize("command", ["sweep", "plan"])
def test_a_framework_s_own_arguments_pass_as_they_are(command):
    typed = [
        "--tasks", "gqa,mme", "--limit", "2", "-o", "x", "--gen_kwargs", "a=1,b=2", "--predict_only", "-b", "4",
        "--include_path=/my tasks", "--seed", "-1",
    ]  # fmt: skip
    args, rest = cli.parser().parse_known_args([command, *MODEL, *typed])
    assert rest == [*typed[:4], *typed[6:]] and args.passes_on
    assert settings.read(args, rest, [command, *typed]).passed == tuple(rest)


def test_what_no_one_knows_is_refused_where_nothing_passes_on(capsys):
    for command in set(cli.NAMES) - {"run", "sweep", "plan", "vlmevalkit"}:
        args = {"verify": ["a", "b"], "parity": ["a"], "models": [], "tasks": [], "doctor": []}.get(
            command, WRITING.get(command, [])
        )
        more = ["-o", "x"] if command in ("calibrate", "cost", "prune", "explain") else []
        assert cli.main([command, *args, *more, "--no-such-flag"]) == 2, command
        assert f"redundancy-eval {command}: error: unrecognized arguments: --no-such-flag" in capsys.readouterr().err


def test_flags_are_not_cut_short(capsys):
    assert cli.main(["report", "runs", "--tax", "paper"]) == 2
    assert "unrecognized arguments: --tax paper" in capsys.readouterr().err


@pytest.mark.parametrize("command", cli.NAMES)
def test_help_of_each_command_has_an_example(command, capsys):
    said = helped(capsys, command)
    assert said.startswith(f"usage: redundancy-eval {command}") and f"example: redundancy-eval {command}" in said


def test_help_and_errors_name_what_there_is(capsys):
    said, everything = helped(capsys, "sweep"), helped(capsys)
    assert all(name in said for name in (*FRAMEWORKS, *masks.PRESETS, *registry.MODELS, "-o OUT, --out OUT"))
    assert all(f" {name} " in everything for name in cli.NAMES) and "examples:" in everything
    report = helped(capsys, "report")
    assert all(f"{kind} {' '.join(meaning.split())}" in report for kind, meaning in KINDS.items())
    for wrong, names in (
        (["--model", "eagle"], registry.MODELS),
        ([*MODEL, "--framework", "other"], FRAMEWORKS),
        ([*MODEL, "--model_args", "pretrained=demo", "--masks", ";"], masks.PRESETS),
    ):
        assert cli.main(["sweep", "-o", "x", *wrong]) == 2
        told = capsys.readouterr().err
        assert all(name in told for name in names) and told.count("\n") == 1


def test_the_list_of_commands_imports_next_to_nothing():
    code = (
        "import sys\nfrom redundancy_eval.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('HEAVY', *{'numpy', 'pandas', 'msgspec', 'packaging', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.endswith("HEAVY\n") and "sweep" in done.stdout, done.stdout + done.stderr


def test_a_refusal_shows_one_spelling(capsys):
    assert cli.main(["sweep", *MODEL, "-o", "x", "--feature-memory", "much"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("redundancy-eval sweep: error: argument --feature_memory: invalid float value: 'much'")


def test_secrets_are_written_down_nowhere_in_a_command():
    typed = ["sweep", "--judge-key", "SECRET", "--judge-args", '{"k": "SECRET"}', "--hf_token=OTHER", "--x", "OTHER"]
    told = settings.written(typed)
    assert told[:3] == ["redundancy-eval", "sweep", "--judge-key"] and "--judge-args" in told
    assert not any(secret in part for part in told for secret in ("SECRET", "OTHER"))
    assert settings.written(["plan", "--limit", "2"]) == ["redundancy-eval", "plan", "--limit", "2"]


def test_another_program_s_refusal_is_ours():
    parser = usage.Parser(prog="theirs")
    parser.add_argument("--limit", type=int)
    with pytest.raises(usage.UsageError, match="argument --limit: invalid int value: 'x'"), usage.refusals():
        parser.parse_args(["--limit", "x"])
