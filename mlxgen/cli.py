"""The command line: a click group that loads a command's file only when that command is asked for.

`mlxgen` and `bach-gen` are the same group. Commands raise; here, and only here, an error becomes
one line on stderr and an exit code: 2 for bad input, 130 for Ctrl-C.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from mlxgen import __version__

# command -> (module that holds its `command`, the line that --help shows)
COMMANDS = {
    "generate": ("mlxgen.commands.generate", "Compose short pieces: N candidates, the best K are kept."),
    "generate-long": ("mlxgen.commands.generate_long", "Compose a long piece, the best of N for each chunk."),
    "stream": ("mlxgen.commands.stream", "Play endless music to a MIDI port, with live controls."),
    "replay": ("mlxgen.commands.replay", "Play a streamed session again from its log."),
    "ports": ("mlxgen.commands.ports", "List the MIDI ports of this machine."),
    "score": ("mlxgen.commands.score", "Score counterpoint in MIDI or MusicXML files."),
    "show": ("mlxgen.commands.show", "Draw a piece as a piano roll, or write it as a score."),
    "audition": ("mlxgen.commands.audition", "Make a page for a blind listening test of several pieces."),
    "info": ("mlxgen.commands.info", "Describe a model folder: card, vocabulary, defaults."),
}

INTERRUPTED = 130
BAD_INPUT = 2


class LazyGroup(click.Group):
    """A group whose commands are rows of `COMMANDS`; `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return import_module(COMMANDS[name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}; commands are {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(self, args=None, prog_name=None, *, standalone_mode: bool = True, **extra):
        """Run; with `standalone_mode` leave the process with 0, 2 (bad input) or 130 (Ctrl-C)."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except (click.Abort, KeyboardInterrupt):
            _say("interrupted")
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            _say(error.format_message())
            sys.exit(BAD_INPUT)
        except BrokenPipeError:
            sys.stderr.close()  # the reader (head, less) has gone; nobody is there to be told
            sys.exit(1)
        except (ValueError, OSError) as error:
            _say(_os_message(error) if isinstance(error, OSError) else str(error))
            sys.exit(BAD_INPUT)
        sys.exit(code if isinstance(code, int) else 0)


def _os_message(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"


def _say(message: str) -> None:
    """One line, whatever the message holds."""
    click.echo(f"mlxgen: {' '.join(message.split())}", err=True)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlxgen")
def main() -> None:
    """Counterpoint on Apple Silicon: compose long pieces, stream endless ones."""
