"""The page as a PDF, printed by Chromium where it is there. The page's own style for paper decides how it looks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from reports.build import ReportError
from results.store import atomic_write

#: The names under which Chromium and its kin are found on the PATH.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Seconds after which printing is given up: a page of 15 MB takes a few.
TIMEOUT = 120
_FLAGS = (
    "--headless",
    "--no-sandbox",  # which containers and root do not have; the page is our own and loads nothing
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-pdf-header-footer",  # they would show where the file lies
)


class PdfError(ReportError):
    """A page that could not be printed. The message says what would work."""


def browser() -> str:
    """The path of a browser that prints; PdfError where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise PdfError(
            f"report.pdf needs Chromium, and none of {', '.join(BROWSERS)} is on the PATH; install it (Debian: "
            "apt-get install chromium), or print index.html from any browser"
        )
    return found


def write_pdf(page: Path, timeout: float = TIMEOUT) -> Path:
    """Print a page as `report.pdf` beside it, and return its path. PdfError where that fails or takes too long."""
    with tempfile.TemporaryDirectory(prefix="report-pdf-") as folder:
        made = Path(folder) / "report.pdf"
        _print([browser(), *_FLAGS, f"--user-data-dir={folder}/profile", f"--print-to-pdf={made}"], page, timeout)
        if not made.exists() or not made.read_bytes().startswith(b"%PDF"):
            raise PdfError(f"{page}: Chromium ended without an error and without a PDF; print it from any browser")
        path = page.with_name("report.pdf")
        atomic_write(path, made.read_bytes())
    return path


def _print(command: Sequence[str], page: Path, timeout: float) -> None:
    """Run the browser in a group of its own, of which nothing is left when this returns."""
    process = subprocess.Popen(
        [*command, page.resolve().as_uri()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise PdfError(f"{page}: Chromium did not print it within {timeout:g} s; print it from any browser") from None
    finally:
        with contextlib.suppress(ProcessLookupError):  # the group is gone once all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise PdfError(f"{page}: Chromium ended with exit code {process.returncode}: {last}")
