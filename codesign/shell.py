"""How every command fails and prints: one clear message per user error, exit codes, JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

NOTHING_FEASIBLE, USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 1, 2, 3, 130
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON (SI units) instead of a table.")


class Commands(click.Group):
    """Lists commands in the order in which people meet them, and suggests the nearest one for a typo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]):
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from codesign.spec.errors import nearest

            close = nearest(args[0], self.commands)
            if close and "Did you mean" not in error.message:  # newer click says so itself
                error.message += f" Did you mean '{close}'?"
            raise


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """User errors become one clear message and exit 2; a full disk and Ctrl-C say what was kept; bugs exit 3."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        from codesign.spec.errors import UserError

        try:
            return command(*args, **kwargs)
        except UserError as error:
            rows = error.diagnostics  # those that name a file need no second "error:" to be told apart
            click.echo("\n".join(str(row) if i and row.path else f"error: {row}" for i, row in enumerate(rows)), err=True)
            sys.exit(USER_ERROR)
        except BrokenPipeError:
            sys.exit(0)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            click.echo(
                f"error: {place}{error.strerror or error}\n  hint: what was written before is intact; free space or choose another place and run again",
                err=True,
            )
            sys.exit(USER_ERROR)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # a bug: nobody but its finder can do anything about it
            _internal_error(error)
            sys.exit(INTERNAL_ERROR)

    return run


def _internal_error(error: Exception) -> None:
    if os.environ.get("CODESIGN_TRACEBACK"):
        import traceback

        traceback.print_exc()
    what = " ".join(f"{type(error).__name__}: {error}".split())
    remedy = "" if os.environ.get("CODESIGN_TRACEBACK") else "rerun with CODESIGN_TRACEBACK=1 to see the traceback, and "
    click.echo(f"internal error: {what}; {remedy}please report it", err=True)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, default=_plain, allow_nan=False))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
