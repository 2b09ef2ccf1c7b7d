"""Makes a release: checks that the commit is ready for one, builds it, and tries what was built.

    python scripts/release.py VERSION [--root DIR]

It needs a clean tree, VERSION in setup.py, and a section of CHANGELOG.md for it. It builds a source archive and a wheel
from the committed files into dist/, installs each into an empty environment with the pinned dependencies, and runs the
installed command. It tags and uploads nothing: the last lines that it prints say how.
"""

from __future__ import annotations

import argparse
import inspect
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r"\d+\.\d+\.\d+")
SECTION = re.compile(r"^## (?P<title>.+)\n(?P<text>(?:(?!## ).*\n?)*)", re.MULTILINE)
SETUP_VERSION = re.compile(r'^    version="(.+)",$', re.MULTILINE)


class ReleaseError(Exception):
    """The commit is not ready, or what was built does not work. The message says what to do."""


def release(root: Path, version: str) -> list[Path]:
    """Check the checkout at `root`, build into its dist/ and try both archives.

    Returns the archives and the notes. Raises ReleaseError.
    """
    check_tree(root)
    check_version(root, version)
    notes = release_notes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    target = root / "dist"
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headgate-release-") as folder:
        work = Path(folder)
        source = committed_files(root, work / "source")
        archive = build_archive(source, target)
        wheel = build_wheel(source, target)
        # A wheel made of the archive shows that the archive lacks nothing.
        for name, built in (("wheel", wheel), ("archive", build_wheel(archive, work / "from-archive"))):
            print(f"installing the {name} into an empty environment", flush=True)
            try_installed(built, version, root / "requirements" / "constraints.txt", work / f"venv-{name}")
    written = target / f"headgate-{version}.md"
    written.write_text(notes, encoding="utf-8")
    return [archive, wheel, written]


def check_tree(root: Path) -> None:
    """A release is a commit: nothing may be changed or untracked."""
    changes = run(["git", "status", "--porcelain"], root).splitlines()
    if changes:
        raise ReleaseError("the tree is not clean; commit or remove:\n" + "\n".join(changes[:10]))


def check_version(root: Path, version: str) -> None:
    """setup.py must say the version that is released."""
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is not a version of the form 1.2.3")
    found = SETUP_VERSION.search((root / "setup.py").read_text(encoding="utf-8"))
    if found is None or found[1] != version:
        raise ReleaseError(f'setup.py has version "{found[1] if found else ""}": set it to "{version}" and commit')


def release_notes(changelog: str, version: str) -> str:
    """The text of the version's section. The section `Unreleased` before it must be empty."""
    sections = {match["title"].split(" - ")[0].strip(): match["text"].strip() for match in SECTION.finditer(changelog)}
    notes = sections.get(version)
    if not notes:
        raise ReleaseError(
            f"CHANGELOG.md has no entries for {version}: put `## {version} - DATE` under `## Unreleased` and commit"
        )
    if sections.get("Unreleased"):
        raise ReleaseError(f"CHANGELOG.md has entries under Unreleased: move them to {version} and commit")
    return notes + "\n"


def committed_files(root: Path, target: Path) -> Path:
    """A copy of what HEAD has, so that ignored files cannot get into a package."""
    packed = target.with_suffix(".tar")
    run(["git", "archive", "--output", str(packed), "HEAD"], root)
    with tarfile.open(packed) as files:
        # git made it, so nothing in it leads out of the folder. Debian 12's Python has no filters yet.
        files.extractall(target)
    return target


def build_archive(source: Path, target: Path) -> Path:
    """The source archive, by the build tool that is installed beside this interpreter."""
    build = "import sys; from setuptools.build_meta import build_sdist; print(build_sdist(sys.argv[1]))"
    return target / run([sys.executable, "-c", build, str(target)], source).splitlines()[-1]


def build_wheel(source: Path, target: Path) -> Path:
    """A wheel of a folder or of a source archive, without the network."""
    target.mkdir(exist_ok=True)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target)]
    before = set(target.glob("*.whl"))
    run([sys.executable, "-m", "pip", "wheel", *options, str(source)], target)
    made = set(target.glob("*.whl")) - before or before
    return max(made, key=lambda path: path.stat().st_mtime_ns)


def try_installed(wheel: Path, version: str, constraints: Path, environment: Path) -> None:
    """Install into a new environment with the pinned dependencies, and run the command from there."""
    run([sys.executable, "-m", "venv", str(environment)], environment.parent)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--constraint", str(constraints), str(wheel)], environment.parent)
    command = str(environment / "bin" / "headgate")
    said = run([command, "--version"], environment).strip()
    if said != f"headgate {version}":
        raise ReleaseError(f"the installed command says {said!r}, not headgate {version}")
    if "Usage: headgate" not in run([command, "--help"], environment):
        raise ReleaseError("the installed command has no help")


def run(command: Sequence[str], folder: Path) -> str:
    """The output of a program that must succeed. Raises ReleaseError with the end of what it said."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ReleaseError(f"{' '.join(command[:4])} failed:\n{last}")
    return done.stdout


def next_steps(root: Path, version: str, made: Sequence[Path]) -> str:
    """What the maintainer does with what was made."""
    names = [str(path.relative_to(root)) for path in made]
    return "\n".join(
        [
            f"{version} is ready: {', '.join(names)}",
            "",
            "Next, after `make check` and `make test` on this commit:",
            f"  git tag --annotate v{version} --file {names[-1]}",
            f"  git push origin v{version}",
            f"  publish {names[0]} and {names[1]} with {names[-1]} as their notes",
            "  then start the next version: an empty `## Unreleased` is there already",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a release; returns 1 and says why when the commit is not ready or what was built does not work."""
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__ or "").splitlines()[0])
    parser.add_argument("version", help="as in setup.py and CHANGELOG.md: 1.2.3")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to release (default: this one)")
    given = parser.parse_args(arguments)
    root = given.root.resolve()
    try:
        made = release(root, given.version)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(next_steps(root, given.version, made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
