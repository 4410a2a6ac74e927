"""`toymodel check`, `diagnose`, `sweep`, `sentiment`, `account` and `real`: the package from a shell.

Each subcommand is the function `run` of a module in `commands`: its arguments are the options, its docstring the help.
Only the one that is called is imported.

Exit codes: 0 all is well; 1 a check failed, or a sign does not hold; 2 bad input, explained in one line on stderr;
130 interrupted.
"""

import contextlib
import functools
import importlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence

import tyro

from toymodel import __version__
from toymodel.commands import _environment

HELP = """usage: toymodel COMMAND [OPTIONS]
       toymodel [--help] [--version] [--print-completion {bash,zsh,tcsh}]

When does preference optimisation lower the probability of the preferred
answer, and why? In language models small enough to solve, and in your own.

commands:
  check       prediction against measurement on fresh random draws
  diagnose    the same verdicts for gradients and training logs of your own
  sweep       an experiment over a grid of settings, as one table
  sentiment   the paper's sentiment experiment in small: do its signs hold?
  account     the same training: which tokens moved the chosen answers?
  real        the same on a pretrained language model: which predictions hold?

examples:
  toymodel check                         do all predictions hold on new draws?
  toymodel diagnose gradients.npz        your gradients: what one step would do
  toymodel diagnose trainer_state.json   your training run: when both fell
  toymodel sweep examples/overlap.toml --out results
  toymodel sentiment --seeds 200:212 --out signs
  toymodel account --seeds 500:510       what made the chosen answers fall?
  toymodel real --seeds 7 --format long_suffix     (downloads 95 MB)
`toymodel COMMAND --help` has the options, and more examples.

tab completion in bash, from the next shell on (zsh, tcsh: likewise):
  mkdir -p ~/.local/share/bash-completion/completions
  toymodel --print-completion bash \\
    > ~/.local/share/bash-completion/completions/toymodel

Compiled programs are kept in ~/.cache/toymodel; TOYMODEL_CACHE=off keeps none.

exit codes: 0 all is well; 1 a check failed, or a sign does not hold;
2 bad input, explained in one line; 130 interrupted."""
COMMANDS = ("check", "diagnose", "sweep", "sentiment", "account", "real")
OPTIONS = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = " ".join(["toymodel", *(word for word in arguments[:1] if word in COMMANDS)])
    try:
        code = parse(arguments)()
        sys.stdout.flush()  # here, where a closed pipe is handled
        return code
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
        return 0


def parse(arguments: Sequence[str]) -> Callable[[], int]:
    """The call that a command line asks for, to be made later.

    Raises:
      ValueError: no or an unknown subcommand, or arguments that it does not accept.
    """
    match arguments:
        case ["-h" | "--help", *_]:
            return functools.partial(_say, HELP)
        case ["--version", *_]:
            return functools.partial(_say, f"toymodel {__version__}")
        case ["--print-completion", "bash" | "zsh" | "tcsh" as shell]:
            return functools.partial(_print_completion, shell)
        case ["--print-completion", *_]:
            raise ValueError("--print-completion must be one of bash, zsh, tcsh.")
        case [name, *rest] if name in COMMANDS:
            return _parse(name, rest)
        case [name, *_]:
            raise ValueError(f"COMMAND must be one of {', '.join(COMMANDS)}, got {name!r} (see toymodel --help).")
    raise ValueError(f"COMMAND is required: one of {', '.join(COMMANDS)} (see toymodel --help).")


def _parse(name: str, arguments: Sequence[str]) -> Callable[[], int]:
    told, wrong = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(wrong):
            return tyro.cli(_bound(name), prog=f"toymodel {name}", args=arguments, config=OPTIONS)
    except SystemExit as stopped:
        if stopped.code:
            raise ValueError(f"{_one_line(wrong.getvalue())} (see toymodel {name} --help)") from None
        return functools.partial(_print_help, told.getvalue())


def _bound(name: str) -> Callable[..., Callable[[], int]]:
    """The `run` of a subcommand, to be called later."""
    _environment.prepare()
    run = importlib.import_module(f"toymodel.commands.{name}").run

    @functools.wraps(run)
    def bound(*values: object, **named: object) -> Callable[[], int]:
        return functools.partial(run, *values, **named)

    return bound


def _one_line(message: str) -> str:
    """The error in tyro's message, which is below a title and a rule, and above another rule and advice."""
    said = " ".join(re.split("-{9,}", message)[1].split())
    return re.sub(r"no type matching .* Got errors: - |\[/?bold\]", "", said)


def _say(text: str) -> int:
    print(text)
    return 0


def _print_help(text: str) -> int:
    """Print tyro's help with filled paragraphs; tyro joins their lines, and only they begin with a letter."""
    for line in text.splitlines():
        print(textwrap.fill(line, 80) if line[:1].isalpha() else line.rstrip())
    return 0


def _print_completion(shell: str) -> int:
    everything = {name: _bound(name) for name in COMMANDS}
    with contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            everything, prog="toymodel", args=["--tyro-print-completion", shell], config=OPTIONS
        )
    if shell == "bash":  # tyro offers nothing for FILE: fall back to file names
        print("complete -o default -F _tyro_toymodel toymodel")
    return 0


if __name__ == "__main__":
    sys.exit(main())
