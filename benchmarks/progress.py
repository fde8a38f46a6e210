"""What runs now and what is left, on standard error; and the run of one benchmark by itself."""

import contextlib

import results
import rich.progress
from rich.console import Console


class Progress:
    """A bar for each subject, in the order in which they run; lines where there is no terminal."""

    def __init__(self, subjects):
        self._console = Console(stderr=True)
        self._bars = rich.progress.Progress(
            "{task.description}",
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            "{task.fields[now]}",
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks = {
            name: self._bars.add_task(name, start=False, total=None, now="waiting")
            for name in subjects
        }

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *error):
        self._bars.stop()

    @contextlib.contextmanager
    def subject(self, name, total):
        """Begin a subject of so many steps; call what is given with the name of each step."""
        task = self._tasks[name]
        self._bars.start_task(task)
        done = 0

        def step(now):
            nonlocal done
            self._bars.update(task, completed=done, total=total, now=now)
            done += 1
            if not self._console.is_terminal:
                self.say(f"{name}, {done} of {total}: {now}")

        yield step
        self._bars.update(task, completed=total, total=total, now="done")

    def say(self, text):
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def run_alone(name, rows, options):
    """Run one benchmark and print its tables.

    Args:
        name: Its name.
        rows: Its function, from a `Progress` and options to rows.
        options: What was parsed of the command line. `output`, if there is one, is the file to
            write the tables to as well.

    Raises:
        SystemExit: If one of ours could not be measured; the tables are there nevertheless.
    """
    given = vars(options).copy()
    output = given.pop("output", None)
    with Progress([name]) as progress:
        found = rows(progress, **given)
    page = results.report(found)
    print(page)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(f"{page}\n", "utf-8")
    if failed := results.lacking(found):
        raise SystemExit("\n".join(failed))
