"""`entityclip`: the commands, and how every error ends: one line on stderr and an exit code.

0 done, 1 done in part, 2 usage, 69 a dependency is unavailable, 70 internal, 78 configuration,
130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from model.serving.allocator import keep_freed_memory
from worker.cli import (
    bench,
    calibrate,
    check_config,
    convert,
    dead_letters,
    demo,
    enrich,
    evaluate,
    explain,
    migrate,
    prepare,
    query,
    run,
    stats,
    train,
    try_record,
    why,
)
from worker.errors import ExitCode, WorkerError
from worker.printable import one_line

# Objects until the garbage collector looks: importing torch makes half a million, none of them garbage, and
# with the default of 700 a third of the start is spent looking at them.
_COLLECT_AFTER = 50_000
DEBUG_VARIABLE = "ENTITYCLIP_TEST_TRACEBACK"

app = typer.Typer(
    name="entityclip",
    help="Match images and texts about the same entity in a stream of news posts.",
    epilog="A first look, with nothing set up: entityclip demo",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from worker.version import worker_version

        typer.echo(f"entityclip {worker_version()}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options before the command's name."""


app.command("demo", epilog=demo.EXAMPLE)(demo.demo)
app.command("run", epilog=run.EXAMPLE)(run.run)
app.command("query", epilog=query.EXAMPLE)(query.query)
app.command("stats", epilog=stats.EXAMPLE)(stats.stats)
app.command("why", epilog=why.EXAMPLE)(why.why)
app.command("try-record", hidden=True)(try_record.try_record)
app.command("enrich", epilog=enrich.EXAMPLE)(enrich.enrich)
app.command("explain", epilog=explain.EXAMPLE)(explain.explain)
app.command("prepare", epilog=prepare.EXAMPLE)(prepare.prepare)
app.command("train", epilog=train.EXAMPLE)(train.train)
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("calibrate", epilog=calibrate.EXAMPLE)(calibrate.calibrate)
app.command("convert", epilog=convert.EXAMPLE)(convert.convert)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(migrate.app, name="migrate")
app.add_typer(bench.app, name="bench")
app.command("check-config", epilog=check_config.EXAMPLE)(check_config.check_config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave the process with its exit code.

    Args:
        arguments: instead of the process's own.
    """
    keep_freed_memory()
    gc.set_threshold(_COLLECT_AFTER)
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: Sequence[str]) -> int:
    """Run a command; errors become one line on stderr.

    Returns:
        The exit code.
    """
    if not arguments:
        arguments = ["--help"]
    try:
        return _code(app(args=list(arguments), prog_name="entityclip", standalone_mode=False))
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code, hint=True)
    except WorkerError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED  # whoever pressed Ctrl-C knows; typer itself returns the same code
    except SystemExit:  # typer's answer to a reader that has left, as in `entityclip … | head`
        _let_go_of_stdout()
        return ExitCode.DONE
    except Exception as error:  # the process's root: a person gets one line, the traceback on request
        if DEBUG_VARIABLE in os.environ:
            raise
        return _fail(
            f"internal: {type(error).__name__}: {error} (set {DEBUG_VARIABLE}=1 for the traceback)",
            ExitCode.INTERNAL,
        )


def _code(result: object) -> int:
    """What a command returned: an exit code, or None for done."""
    return result if isinstance(result, int) else ExitCode.DONE


def _fail(message: str, code: int, *, hint: bool = False) -> int:
    line = one_line(message).rstrip(".")
    print(f"entityclip: error: {line}{'; see --help' if hint else ''}", file=sys.stderr)
    return code


def _let_go_of_stdout() -> None:
    """The reader of our output has left: flushing at exit must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
